"""The real parts of a simulation, and a tap on its announcer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from sigmgr.model.event import Event
from sigmgr.ports import (
    Announcement,
    Announcer,
    Janitor,
    Looks,
    Outbox,
    Registry,
    SigCache,
    Signer,
    Store,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Backends:
    """The real parts of a run. ``wipe`` empties Redis."""

    registry: Registry
    store: Store
    looks: Looks
    outbox: Outbox
    janitor: Janitor
    cache: SigCache
    announcer: Announcer
    signer: Signer
    wipe: Callable[[], Awaitable[None]]


class Tap:
    """The announcer, with a list of what it announced, which gateways would receive."""

    def __init__(self, announcer: Announcer) -> None:
        self._announcer = announcer
        self.announced: list[Event] = []

    async def announce(self, batch: Sequence[Announcement], now: int) -> list[bool]:
        answer = await self._announcer.announce(batch, now)
        self.announced.extend(one.event for one in batch)
        return answer
