"""Warnings before expiry, and the event of expiry itself, each once per crossing (rule 12).

Usually it finds nothing: holders are renewed weeks before the first rung. It finds holders whose
renewal keeps failing.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from sigmgr.flow.commit import Committed, append, once_more
from sigmgr.flow.relay import Publisher
from sigmgr.model import timing
from sigmgr.model.app import App
from sigmgr.model.event import Event, EventType
from sigmgr.model.sig import Record
from sigmgr.ports import Announcement, Registry, Store
from sigmgr.telemetry import get_logger

log = get_logger("sigmgr.warn")


@dataclass(eq=False, repr=False)
class Warn:
    registry: Registry
    store: Store
    publisher: Publisher
    limit: int

    async def tick(self, now: int) -> int:
        """Fire all rungs crossed by ``now``; answers how many."""
        fired = 0
        for app in self.registry.apps():
            while True:
                rows, events = await once_more(partial(self._batch, app, now))
                fired += events
                if rows < self.limit:
                    break
        return fired

    async def _batch(self, app: App, now: int) -> tuple[int, int]:
        async with self.store.transaction() as tx:
            records = await tx.claim_warnings(app.sdkappid, now, self.limit, app.policy.ladder)
            committed = Committed()
            fired: list[Announcement] = []
            changes: list[tuple[Record, int]] = []
            for record in records:
                ladder = app.policy.durations(record.ttl).ladder
                crossed = timing.rungs_crossed(ladder, record.expires_at, now)
                steps = range(record.warned, crossed)
                fired += [Announcement(_event(record, ladder, step, now), None) for step in steps]
                changes.append((record._replace(warned=crossed), record.issued_at))
            if changes:
                await tx.save(changes)
                committed = await append(tx, fired)
        if committed:
            log.warning(
                "sigs come near expiry without a renewal",
                action="will-expire",
                app=app.sdkappid,
                count=len(changes),
            )
        await self.publisher.at_once(committed, now)
        return len(records), len(committed)


def _event(record: Record, ladder: tuple[int, ...], step: int, now: int) -> Event:
    """The event of one rung; the step after the last rung is expiry."""
    kind, note = (
        (EventType.WILL_EXPIRE, str(ladder[step]))
        if step < len(ladder)
        else (EventType.EXPIRED, "")
    )
    return Event(
        kind.value, record.holder, record.issued_at, record.expires_at, record.reason, now, note
    )
