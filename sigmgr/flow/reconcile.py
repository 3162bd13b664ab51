"""Repairs differences between store and cache, and removes what is long past.

A cached sig older than the store's means that an announcement was lost; it is replaced. A sig that
is not cached is left to the next get. Each call handles a small page, so that a run over a billion
rows holds no lock for long.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from sigmgr.flow.derive import Derive
from sigmgr.model.holder import Holder
from sigmgr.model.sig import Current, Record
from sigmgr.ports import Janitor, Looks, SigCache, Store
from sigmgr.telemetry import DRIFT, get_logger

log = get_logger("sigmgr.reconcile")

#: A holder has many events in its time, so their clean-up takes so many more batches.
_EVENT_BATCHES = 20


@dataclass(eq=False, repr=False)
class Reconcile:
    """Walks all holders, a page a call, and starts over at the end."""

    derive: Derive
    store: Store
    looks: Looks
    cache: SigCache
    janitor: Janitor
    page: int = 500
    _after: Holder | None = field(default=None, init=False)

    async def step(self, now: int) -> int:
        """Compare one page; answers how many cached sigs were replaced. Raises CacheUnavailable:
        the same page comes again."""
        records = await self.store.page(self._after, self.page)
        alive = [record for record in records if record.alive(now)]
        count = await self._put_right(alive, now) if alive else 0
        self._after = records[-1].holder if len(records) == self.page else None
        return count

    async def _put_right(self, alive: Sequence[Record], now: int) -> int:
        cached = await self.cache.get([record.holder for record in alive])
        behind = [
            record
            for record, hit in zip(alive, cached, strict=True)
            if hit is not None and hit.issued_at < record.issued_at
        ]
        answers = (await self.derive.derived(behind)).values() if behind else ()
        good = [answer for answer in answers if isinstance(answer, Current)]
        if good:
            await self.cache.put(good, now)
            DRIFT.inc(len(good))
            log.warning(
                "cached sigs were behind the store and were put right",
                action="drift",
                count=len(good),
            )
        return len(good)

    async def clean_up(self, now: int, *, limit: int = 500, batches: int = 20) -> int:
        """Delete what is long past, in small batches; answers how many holders were deleted."""
        gone = 0
        for _ in range(batches):
            count = await self.janitor.forget_past(now, limit)
            gone += count
            if count < limit:
                break
        for _ in range(batches):
            if await self.looks.forget_revocations(now, limit) < limit:
                break
        for _ in range(_EVENT_BATCHES * batches):
            if await self.janitor.forget_events(now, limit) < limit:
                break
        return gone
