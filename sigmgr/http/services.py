"""The services that HTTP needs of the rest of sigmgr, in one frozen value.

``wiring`` fills it with the running parts; tests fill it with scripted ones. The Protocols
name exactly what the routes call, so that each part may be replaced by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from starlette.types import ASGIApp

from sigmgr.health import Health
from sigmgr.http.credentials import Credentials
from sigmgr.model.errors import SigmgrError
from sigmgr.model.holder import Holder, Room
from sigmgr.model.sig import Current, Reason, Record
from sigmgr.model.ticket import Ticket, Tickets
from sigmgr.ports import Clock, Registry, Verified

Find = Callable[[int, str], Coroutine[Any, Any, list[Record]]]

API = "api"
GATEWAY = "gateway"
WORKER = "worker"
EVERY_ROLE = frozenset({API, GATEWAY, WORKER})


class Issues(Protocol):
    """``flow.issue.Issue``."""

    async def current(self, holder: Holder, now: int) -> Current: ...

    async def many(self, holders: Sequence[Holder], now: int) -> list[Current | SigmgrError]: ...

    async def reissue(
        self, holder: Holder, now: int, *, reason: Reason, replaces: int | None, create: bool
    ) -> Current: ...


class RoomKeys(Protocol):
    """``flow.room_keys.RoomKeys``."""

    async def current(
        self, sdkappid: int, userid: str, room: Room, *, privileges: int, ttl: int | None, now: int
    ) -> Current: ...


class Revoked(Protocol):
    """``flow.revoke.Revoked``."""

    @property
    def revoked_at(self) -> int: ...

    @property
    def known(self) -> bool: ...


class Revokes(Protocol):
    """``flow.revoke.Revoke``."""

    async def user(self, sdkappid: int, userid: str, now: int) -> Revoked: ...


class Deliveries(Protocol):
    """``flow.deliver.Deliver``, as far as the client's routes go."""

    async def opened(
        self, user: Holder, ticket_issued_at: int, now: int, *, rooms: bool = True, held: int = 0
    ) -> list[Current]: ...

    async def ack(self, user: Holder, ticket_issued_at: int, issued_at: int, now: int) -> None: ...


class News(Protocol):
    """``push.message.Message``."""

    @property
    def issued_at(self) -> int: ...

    @property
    def payload(self) -> bytes: ...


class Polls(Protocol):
    """``push.poll.Polls``: requests that wait for a sig."""

    async def newer(self, ticket: Ticket, held: int, wait: int) -> News | None: ...


class Verify(Protocol):
    """``flow.verify.Verify.sig``. Raises BadSig, NoSigningKey, StoreUnavailable."""

    async def __call__(
        self, sdkappid: int, usersig: str, /, *, now: int, userid: str | None = None
    ) -> Verified: ...


class Near(Protocol):
    """The near cache: ready-made answers per holder. Never answers past ``fresh_until``."""

    def get(self, holder: Holder, now: int) -> bytes | None: ...

    def put(self, holder: Holder, value: bytes, issued_at: int, fresh_until: int) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """Everything that the routes reach.

    ``roles`` says what this process serves: ``api`` the backends' routes, ``gateway`` the
    clients' routes; health and the documents are always served. ``near_ttl`` bounds in seconds
    how long an answer is given again without a look. A process of role ``gateway`` has both
    ``gateway``, which answers ``GET /v1/stream``, and ``polls``, which answers the long poll.
    ``allowed_origins``: of pages that may use the clients' routes, as
    :func:`sigmgr.model.addresses.origin_of` answers them.
    """

    clock: Clock
    apps: Registry
    issue: Issues
    room_keys: RoomKeys
    revoke: Revokes
    deliver: Deliveries
    find: Find
    verify: Verify
    tickets: Tickets
    credentials: Credentials
    stream_url: str
    roles: frozenset[str] = EVERY_ROLE
    gateway: ASGIApp | None = None
    polls: Polls | None = None
    near: Near | None = None
    near_ttl: int = 30
    allowed_origins: Sequence[str] = ()
    health: Health | None = None
