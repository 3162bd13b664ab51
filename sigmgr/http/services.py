"""The services that HTTP needs of the rest of sigmgr, in one frozen value.

``wiring`` fills it with the running parts; tests fill it with scripted ones.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

from starlette.types import ASGIApp

from sigmgr.cache.near import NearCache
from sigmgr.flow.deliver import Deliver
from sigmgr.flow.issue import Issue
from sigmgr.flow.revoke import Revoke
from sigmgr.flow.room_keys import RoomKeys
from sigmgr.health import Health
from sigmgr.http.credentials import Credentials
from sigmgr.model.sig import Record
from sigmgr.model.ticket import Tickets
from sigmgr.ports import Clock, Registry, Verified
from sigmgr.push.poll import Polls

API = "api"
GATEWAY = "gateway"
WORKER = "worker"
EVERY_ROLE = frozenset({API, GATEWAY, WORKER})


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """Everything that the routes reach.

    ``near_ttl`` bounds in seconds how long an answer is given again without a look. A process of
    role ``gateway`` has both ``gateway``, which answers ``GET /v1/stream``, and ``polls``, which
    answers the long poll. ``allowed_origins``: of pages that may use the clients' routes.
    """

    clock: Clock
    apps: Registry
    issue: Issue
    room_keys: RoomKeys
    revoke: Revoke
    deliver: Deliver
    find: Callable[[int, str], Coroutine[Any, Any, list[Record]]]
    verify: Callable[..., Awaitable[Verified]]
    tickets: Tickets
    credentials: Credentials
    stream_url: str
    roles: frozenset[str] = EVERY_ROLE
    gateway: ASGIApp | None = None
    polls: Polls | None = None
    near: NearCache[bytes] | None = None
    near_ttl: int = 30
    allowed_origins: Sequence[str] = ()
    health: Health | None = None
