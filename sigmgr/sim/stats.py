"""What the emulated clients of a fleet share, and their counts."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from random import Random

import httpx2

from sigmgr.ports import Clock
from sigmgr.sim.cloud import Cloud


@dataclass(slots=True)
class Stats:
    clients: int = 0
    #: Clients signed in at the cloud now.
    online: int = 0
    #: Event streams open now.
    streams: int = 0
    #: Logins at the cloud, the first of each client and every one with a newer sig.
    logins: int = 0
    #: Newer sigs received over a stream, verified and kept.
    renewed: int = 0
    #: Of those, how many the service has confirmed to know about.
    acked: int = 0
    #: Renewals not yet acked that arrived in the last two seconds of the run.
    in_flight: int = 0
    #: Clients kicked because their session's sig expired. Should be 0.
    kicked: int = 0
    #: Streams opened again after one was lost or ended by ``bye``.
    reconnects: int = 0
    #: Times a client was offered a sig older than its own. It never takes it.
    went_back: int = 0
    #: Sigs that the independent verifier refused.
    bad_sigs: int = 0
    #: Sigs received with less than ``min_remaining`` seconds to live.
    short_remaining: int = 0
    #: The second in which the next session ends if its client does nothing.
    next_expiry: int | None = None
    #: Refusals and failures by code: the service's, the cloud's (70001 ...), or a word.
    errors: Counter[str] = field(default_factory=Counter)


def _short_calls() -> httpx2.AsyncClient:
    """One small pool for backend calls and acks; streams do not go through it."""
    # Proxies of the environment are ignored. Waiting for a free connection is a queue in this
    # process, and no failure of the service.
    return httpx2.AsyncClient(
        trust_env=False,
        timeout=httpx2.Timeout(10.0, pool=None),
        limits=httpx2.Limits(max_connections=32),
    )


@dataclass(slots=True, kw_only=True)
class World:
    """``token`` is a backend's; ``stream_urls``: gateways to choose from, else the address that
    the service names; ``idle``: seconds after which a silent stream is given up."""

    cloud: Cloud
    clock: Clock
    base_urls: Sequence[str]
    token: str
    rng: Random
    min_remaining: int = 0
    stream_urls: Sequence[str] = ()
    backoff_base: float = 0.5
    idle: float = 60.0
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    http: httpx2.AsyncClient = field(default_factory=_short_calls)
    stats: Stats = field(default_factory=Stats)
