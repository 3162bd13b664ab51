"""A tick: take due holders, reissue each through the shared tail.

Any number of processes tick over one database at once; the row locks (others' rows are
skipped) divide the work, and there is no leader. Fairness: the apps with due work take turns,
each for an equal share (rule 11, ``rota``); within an app the earliest deadline goes first. A
paused app is looked through for emergencies only (rule 6), and so is every app while this
machine's clock and the database's disagree (rule 21).

A failure is written into the row with its backoff (rule 10); the next tick that finds it
due tries again. Nothing here decides why: that is ``model/decision``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import NoneType

from sigmgr.flow.commit import (
    Commit,
    Made,
    Telling,
    Work,
    append,
    current_key_state,
    joined,
    once_more,
)
from sigmgr.flow.relay import Teller
from sigmgr.flow.rota import Rota
from sigmgr.model import decision, errors, timing
from sigmgr.model.app import App
from sigmgr.model.decision import Input, Verdict
from sigmgr.model.event import Event, EventType
from sigmgr.model.holder import Kind
from sigmgr.model.sig import KeyRef, KeyState, Record
from sigmgr.ports import Announcement, Draw, Registry, Signer, Store, Transaction
from sigmgr.telemetry import REMAINING, get_logger

log = get_logger("sigmgr.renew")

#: No failure of the renewal itself: it was made, or waits for the clocks to agree.
_FINE = (NoneType, errors.ClockApart)


@dataclass(slots=True)
class Tally:
    """What a tick did: holders renewed, failed, put to rest, looked at again later, and held
    until the clocks agree."""

    renewed: int = 0
    failed: int = 0
    rested: int = 0
    kept: int = 0
    held: int = 0
    problems: list[Exception] = field(default_factory=list)

    @property
    def total(self) -> int:
        return self.renewed + self.failed + self.rested + self.kept + self.held

    def add(self, part: Tally) -> None:
        self.renewed += part.renewed
        self.failed += part.failed
        self.rested += part.rested
        self.kept += part.kept
        self.held += part.held
        self.problems += part.problems


class Renew:
    """``limit`` holders at a time over all apps; batches of ``lanes`` apps under way at once."""

    def __init__(
        self,
        *,
        registry: Registry,
        store: Store,
        signer: Signer,
        commit: Commit,
        teller: Teller,
        draw: Draw,
        ordinary: Callable[[], bool] = lambda: True,
        limit: int = 1000,
        lanes: int = 1,
    ) -> None:
        self._registry = registry
        self._store = store
        self._signer = signer
        self._commit = commit
        self._teller = teller
        self._draw = draw
        self._ordinary = ordinary
        self._limit = limit
        self._lanes = lanes

    async def tick(
        self, now: int, *, turns: int = 1000, stopping: Callable[[], bool] = lambda: False
    ) -> Tally:
        """Renew all that is due at ``now``, the apps that have due work in turn.

        Ends early after ``turns`` batches of an app, or between batches when ``stopping()``.
        Raises the first problem of any app, such as StoreUnavailable, after the others had
        their turn.
        """
        tally = Tally()
        known = {app.sdkappid: app for app in self._registry.apps()}
        due = [
            known[sdkappid]
            for sdkappid in await self._store.apps_with_due(now)
            if sdkappid in known
        ]
        rota = Rota(due, limit=self._limit, turns=turns)
        await self._work_off(rota, now, tally, stopping)
        if tally.problems:
            first, *others = tally.problems
            if others:
                kinds = sorted({getattr(one, "code", type(one).__name__) for one in others})
                log.warning(
                    "further batches of this tick met problems",
                    action="renew-problems",
                    count=len(others),
                    codes=kinds,
                )
            raise first
        return tally

    async def _work_off(
        self, rota: Rota, now: int, tally: Tally, stopping: Callable[[], bool]
    ) -> None:
        """Keep every lane busy. What a batch has to tell is told while the next is claimed, a
        batch for each lane at most."""
        turns: dict[asyncio.Task[tuple[bool, Telling]], App] = {}
        told: set[asyncio.Task[None]] = set()
        try:
            while True:
                while len(turns) < self._lanes >= len(told) and not stopping():
                    if (turn := rota.take()) is None:
                        break
                    turns[asyncio.create_task(self._turn(*turn, now, tally))] = turn[0]
                if not turns and not told:
                    return
                done, _ = await asyncio.wait([*turns, *told], return_when=asyncio.FIRST_COMPLETED)
                for task in turns.keys() & done:
                    more, telling = task.result()
                    rota.back(turns.pop(task), more=more)
                    told.add(asyncio.create_task(self._tell(telling, now, tally)))
                for one in told & done:
                    told.remove(one)
                    one.result()
        finally:
            for left in (*turns, *told):
                left.cancel()
            await asyncio.gather(*turns, *told, return_exceptions=True)

    async def _turn(self, app: App, share: int, now: int, tally: Tally) -> tuple[bool, Telling]:
        """One batch of an app; whether more may be due, and what is to be told."""
        try:
            count, telling, done = await once_more(
                lambda: self._batch(app, share, now), self._signer
            )
        except Exception as error:  # noqa: BLE001 - the tick raises it after all turns
            # One app's trouble, a bug even, ends this tick for that app alone. It comes first
            # in every tick to come, with the nearest deadlines.
            tally.problems.append(error)
            return False, Telling()
        tally.add(done)
        return count == share, telling

    async def _tell(self, telling: Telling, now: int, tally: Tally) -> None:
        """What fails lies in the outbox."""
        try:
            await self._teller.at_once(telling, now)
        except Exception as error:  # noqa: BLE001 - as above
            tally.problems.append(error)

    async def _batch(self, app: App, share: int, now: int) -> tuple[int, Telling, Tally]:
        """What was claimed, what is to be told of it, what was done: all of it committed."""
        done = Tally()
        async with self._store.transaction() as tx:
            urgent = app.policy.emergency if app.paused or not self._ordinary() else None
            records = await tx.claim_due(app.sdkappid, now, share, emergency=urgent)
            telling = await self._handle(tx, app, records, now, done) if records else Telling()
        return len(records), telling, done

    async def _handle(
        self, tx: Transaction, app: App, records: Sequence[Record], now: int, tally: Tally
    ) -> Telling:
        works: list[Work] = []
        later: list[tuple[Record, int]] = []
        states: dict[int, KeyState | None] = {}
        key = await self._active_key(app)
        for record in records:
            if record.key_id not in states:
                states[record.key_id] = current_key_state(
                    await self._signer.key_state(app.sdkappid, record.key_id)
                )
            given = Input(record, now, app.policy, key, states[record.key_id])
            verdict = decision.decide(decision.TICK_CHAIN, given)
            if verdict.verdict is Verdict.REISSUE:
                assert verdict.reason is not None
                own = record.ttl if record.kind == Kind.ROOM.value else 0
                works.append(Work(record, verdict.reason, app.policy, ttl=own))
            elif verdict.verdict is Verdict.REST:
                later.append((record._replace(due_at=None), record.issued_at))
                tally.rested += 1
            else:
                later.append((record._replace(due_at=record.renew_at), record.issued_at))
                tally.kept += 1
        made = await self._commit.make(tx, works, now) if works else []
        pairs = list(zip(works, made, strict=True))
        tell = await self._commit.write(tx, pairs, now)
        # What is held stays due, as if it had not been claimed.
        held = sum(isinstance(one.error, errors.ClockApart) for one in made)
        failed = [pair for pair in pairs if not isinstance(pair[1].error, _FINE)]
        tell = joined([tell, await self._fail(tx, app, failed, later, now)])
        tally.failed += len(failed)
        tally.held += held
        tally.renewed += len(works) - len(failed) - held
        REMAINING.observe_all(
            max(0, work.record.expires_at - now) / max(1, work.record.ttl) for work in works
        )
        return tell

    async def _fail(
        self,
        tx: Transaction,
        app: App,
        failed: Sequence[tuple[Work, Made]],
        later: list[tuple[Record, int]],
        now: int,
    ) -> Telling:
        """Write backoff into the rows that failed, and all rows that only move in time."""
        events: list[Announcement] = []
        for work, made in failed:
            assert made.error is not None
            record = work.record
            spans = app.policy.spans(record.ttl)
            failures = record.failures + 1
            due_at = timing.retry_at(spans, record.expires_at, failures, self._draw(), now)
            changed = record._replace(failures=failures, last_error=made.error.code, due_at=due_at)
            later.append((changed, record.issued_at))
            events.append(_failure_event(changed, work, made.error, now))
        if later:
            await tx.save(later)
        if not events:
            return Telling()
        log.warning(
            "renewals failed and will be tried again",
            action="renewal-failed",
            app=app.sdkappid,
            count=len(events),
            code=events[0].event.note,
        )
        return await append(tx, events)

    async def _active_key(self, app: App) -> KeyRef | None:
        try:
            return await self._signer.active_key(app.sdkappid)
        except errors.SigmgrError:
            return None


def _failure_event(record: Record, work: Work, error: errors.SigmgrError, now: int) -> Announcement:
    event = Event(
        EventType.RENEWAL_FAILED.value,
        record.holder,
        record.issued_at,
        record.expires_at,
        work.reason.value,
        now,
        note=error.code,
    )
    return Announcement(event, None)
