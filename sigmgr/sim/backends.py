"""The real parts under virtual months, and an ear at what they tell."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sigmgr.model.event import Event
from sigmgr.ports import Announcement, Cache, Janitor, Looks, Outbox, Registry, Signer, Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Backends:
    """The real parts of a run. ``wipe`` empties Redis."""

    registry: Registry
    store: Store
    looks: Looks
    outbox: Outbox
    janitor: Janitor
    cache: Cache
    signer: Signer
    wipe: Callable[[], Awaitable[None]]


class Tap:
    """The cache, and an ear at its announcements: what gateways would hear."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache
        self.heard: list[Event] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cache, name)

    async def announce(self, batch: Sequence[Announcement], now: int) -> list[bool]:
        answer = await self._cache.announce(batch, now)
        self.heard.extend(one.event for one in batch)
        return answer
