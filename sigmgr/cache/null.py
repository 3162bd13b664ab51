"""No Redis, for commands beside a service whose Redis lives inside its own process.

Every call raises CacheUnavailable, so gets go to the store and events stay in the outbox, where the
service's own relay finds them. Announcing them to a Redis of our own would lose them.
"""

from __future__ import annotations

from collections.abc import Sequence

from sigmgr.model import errors
from sigmgr.model.holder import Holder
from sigmgr.model.sig import Current
from sigmgr.ports import Announcement


class NoRedis:
    """Fulfils ``ports.SigCache`` and ``ports.Announcer`` by refusing."""

    async def get(self, holders: Sequence[Holder]) -> list[Current | None]:
        raise errors.CacheUnavailable

    async def put(self, currents: Sequence[Current], now: int) -> None:
        raise errors.CacheUnavailable

    async def announce(self, batch: Sequence[Announcement], now: int) -> list[bool]:
        raise errors.CacheUnavailable
