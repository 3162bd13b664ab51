"""Brings committed events to gateways and to durable readers, at least once.

To gateways, through cache, shard streams and channels, in two ways:
1. the committing process announces them at once, in batches (:class:`Publisher`);
2. what it left behind (it died, Redis was away) is swept up from the outbox (:meth:`Relay.sweep`),
   by any number of processes, each row by one.

For durable readers of an app (feed, webhooks) a relay gives its events numbers
(:meth:`Relay.number`), announced or not, each once. Redis has no part in it.

An event announced twice is harmless: every gateway drops what is not newer than what it has.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sigmgr.flow.commit import Committed, joined
from sigmgr.model import errors
from sigmgr.model.event import Event
from sigmgr.model.sig import Current, current_of
from sigmgr.ports import Announcement, Announcer, Outbox, SigCache, Signer, Store
from sigmgr.telemetry import OUTBOX_OLDEST, OUTBOX_PENDING, get_logger

log = get_logger("sigmgr.relay")


@dataclass(eq=False, repr=False)
class Relay:
    """Announces and numbers events, and derives again the sigs that the cache lacks."""

    store: Store
    outbox: Outbox
    announcer: Announcer
    cache: SigCache
    signer: Signer

    async def publish(self, committed: Committed, now: int) -> None:
        """Announce committed events, and mark their rows in the outbox. Raises CacheUnavailable
        with the rows left for the sweep."""
        await self._announce(committed.batch, now)
        await self.outbox.mark_announced(committed.rows)

    async def sweep(self, now: int, *, limit: int = 250, grace: int = 1) -> int:
        """Announce the events of up to ``limit`` rows that have waited for ``grace`` seconds.
        Answers how many events. Raises CacheUnavailable: the events stay."""
        async with self.outbox.take(limit, now - grace) as events:
            if events:
                await self._announce([Announcement(event, None) for event in events], now)
        return len(events)

    async def number(
        self, now: int, *, limit: int = 500, stopping: Callable[[], bool] = lambda: False
    ) -> int:
        """Give numbers to all events that wait for them, the apps in turn, ``limit`` rows of each
        in one transaction. Answers how many. Ends between two batches when ``stopping()``, and
        leaves an app to another relay that is numbering it."""
        total = 0
        while apps := await self.outbox.unnumbered():
            before = total
            for sdkappid in apps:
                if stopping():
                    return total
                total += await self.outbox.number(sdkappid, now, limit)
            if total == before:
                break
        return total

    async def measure(self, now: int) -> None:
        pending, oldest = await self.outbox.depth(now)
        OUTBOX_PENDING.set(pending)
        OUTBOX_OLDEST.set(oldest)

    async def _announce(self, batch: Sequence[Announcement], now: int) -> None:
        shown = await self.announcer.announce(batch, now)
        missing = [one.event for one, ok in zip(batch, shown, strict=True) if not ok]
        if missing:
            await self.cache.put(await self._derive(missing, now), now)

    async def _derive(self, events: Sequence[Event], now: int) -> list[Current]:
        """The holders' current sigs, perhaps newer than the events', derived from the facts."""
        holders = sorted({event.holder for event in events})
        records = [
            record
            for record in await self.store.find(holders)
            if record is not None and record.alive(now)
        ]
        strings = await self.signer.sign([record.facts for record in records])
        derived = []
        for record, string in zip(records, strings, strict=True):
            if isinstance(string, str):
                derived.append(current_of(record, string))
            else:
                log.warning(
                    "a sig could not be derived again; a get will try from the store",
                    action="derive-failed",
                    app=record.sdkappid,
                    key_id=record.key_id,
                    code=string.code,
                )
        return derived


class Publisher:
    """Publishes what this process commits, in batches, while no request waits for it."""

    def __init__(self, relay: Relay, *, most: int = 2000) -> None:
        self._relay = relay
        self._most = most
        self._room = most
        self._waiting: list[Committed] = []
        self._wake = asyncio.Event()
        self._now = 0

    def soon(self, committed: Committed, now: int) -> None:
        """Publish this after the next turn of the loop. At most ``most`` events wait; a commit
        that does not fit is left to the sweep."""
        if 0 < len(committed) <= self._room:
            self._waiting.append(committed)
            self._room -= len(committed)
            self._now = max(self._now, now)
            self._wake.set()

    async def at_once(self, committed: Committed, now: int) -> bool:
        """Publish this now. False where Redis is away; the sweep publishes it later."""
        if not committed:
            return True
        try:
            await self._relay.publish(committed, now)
        except errors.UnavailableError as error:
            log.info("publishing is left to the sweep", action="publish-later", code=error.code)
            return False
        return True

    async def flush(self) -> None:
        while self._waiting:
            waiting, self._waiting, self._room = self._waiting, [], self._most
            await self.at_once(joined(waiting), self._now)

    async def run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            try:
                await self.flush()
            except Exception as error:
                # The events stay in the outbox for the sweep.
                log.exception(
                    "publishing failed", action="publish-failed", code=type(error).__name__
                )
