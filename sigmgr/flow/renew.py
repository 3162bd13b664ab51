"""A tick: take due holders, reissue each through the shared tail.

Any number of processes tick over one database at once, without a leader: row locks divide the
work. The apps with due work take turns, each for an equal share (rule 11, ``round_robin``); within
an app the earliest deadline goes first. Of a paused app only emergencies are claimed (rule 6), and
so of every app while this machine's clock and the database's disagree (rule 21). A failure is
written into the row with its backoff (rule 10), and tried again when it is due.

What this module does not do: decide why a sig is reissued (``model/decision``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from sigmgr.flow.commit import Committed
from sigmgr.flow.derive import Derive
from sigmgr.flow.reissuer import Batch, Choice, OnFailure, Reissue, Reissuer
from sigmgr.flow.relay import Publisher
from sigmgr.flow.round_robin import RoundRobin
from sigmgr.model import decision, errors
from sigmgr.model.app import App
from sigmgr.model.decision import Verdict
from sigmgr.model.holder import Kind
from sigmgr.model.sig import Record
from sigmgr.ports import Registry, Store, Transaction
from sigmgr.telemetry import REMAINING, get_logger

log = get_logger("sigmgr.renew")


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

    def add(self, batch: Batch) -> None:
        for one in batch.outcomes:
            if one.made:
                self.renewed += 1
            elif isinstance(one.answer, errors.ClockApart):
                self.held += 1
            else:
                self.failed += 1
        rested = sum(record.due_at is None for record, _ in batch.choice.moved)
        self.rested += rested
        self.kept += len(batch.choice.moved) - rested


@dataclass(eq=False, repr=False)
class Renew:
    """``limit`` holders at a time over all apps; batches of ``lanes`` apps under way at once."""

    registry: Registry
    store: Store
    derive: Derive
    reissuer: Reissuer
    publisher: Publisher
    ordinary: Callable[[], bool]
    limit: int
    lanes: int

    async def tick(
        self, now: int, *, turns: int = 1000, stopping: Callable[[], bool] = lambda: False
    ) -> Tally:
        """Renew all that is due at ``now``. Ends early after ``turns`` batches of an app, or
        between batches when ``stopping()``. Raises the first problem of any app, such as
        StoreUnavailable, after the others had their turn."""
        tally = Tally()
        known = {app.sdkappid: app for app in self.registry.apps()}
        due = [
            known[sdkappid] for sdkappid in await self.store.apps_with_due(now) if sdkappid in known
        ]
        robin = RoundRobin(due, limit=self.limit, turns=turns)
        await self._work_off(robin, now, tally, stopping)
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
        self, robin: RoundRobin, now: int, tally: Tally, stopping: Callable[[], bool]
    ) -> None:
        """Keep every lane busy. A batch is announced while the next is claimed, a batch for
        each lane at most."""
        turns: dict[asyncio.Task[tuple[bool, Committed]], App] = {}
        announcing: set[asyncio.Task[None]] = set()
        try:
            while True:
                while len(turns) < self.lanes >= len(announcing) and not stopping():
                    if (turn := robin.take()) is None:
                        break
                    turns[asyncio.create_task(self._turn(*turn, now, tally))] = turn[0]
                if not turns and not announcing:
                    return
                done, _ = await asyncio.wait(
                    [*turns, *announcing], return_when=asyncio.FIRST_COMPLETED
                )
                for task in turns.keys() & done:
                    more, committed = task.result()
                    robin.give_back(turns.pop(task), more=more)
                    announcing.add(asyncio.create_task(self._announce(committed, now, tally)))
                for one in announcing & done:
                    announcing.remove(one)
                    one.result()
        finally:
            for left in (*turns, *announcing):
                left.cancel()
            await asyncio.gather(*turns, *announcing, return_exceptions=True)

    async def _turn(self, app: App, share: int, now: int, tally: Tally) -> tuple[bool, Committed]:
        """One batch of an app; whether more may be due, and what is to be announced."""
        due = partial(self._due, app, share, now)
        try:
            batch = await self.reissuer.commit(due, now, OnFailure.BACK_OFF)
        except Exception as error:  # noqa: BLE001 - the tick raises it after all turns
            # One app's trouble, a bug even, ends this tick for that app alone. It comes first
            # in every tick to come, with the nearest deadlines.
            tally.problems.append(error)
            return False, Committed()
        tally.add(batch)
        REMAINING.observe_all(
            max(0, one.record.expires_at - now) / max(1, one.record.ttl)
            for one in batch.choice.reissues
        )
        claimed = len(batch.choice.reissues) + len(batch.choice.moved)
        return claimed == share, batch.committed

    async def _announce(self, committed: Committed, now: int, tally: Tally) -> None:
        """What fails lies in the outbox."""
        try:
            await self.publisher.at_once(committed, now)
        except Exception as error:  # noqa: BLE001 - as above
            tally.problems.append(error)

    async def _due(
        self, app: App, share: int, now: int, tx: Transaction, _: Sequence[Record]
    ) -> Choice:
        """Claim what is due, and choose who is reissued, who rests, who is looked at later."""
        urgent = app.policy.emergency if app.paused or not self.ordinary() else None
        records = await tx.claim_due(app.sdkappid, now, share, emergency=urgent)
        choice = Choice()
        for given in await self.derive.inputs(app, records, now):
            record, verdict = given.record, decision.decide(decision.TICK_CHAIN, given)
            if verdict.verdict is Verdict.REISSUE:
                assert verdict.reason is not None
                own = record.ttl if record.kind == Kind.ROOM.value else 0
                choice.reissues.append(Reissue(record, verdict.reason, app.policy, ttl=own))
            else:
                due_at = None if verdict.verdict is Verdict.REST else record.renew_at
                choice.moved.append((record._replace(due_at=due_at), record.issued_at))
        return choice
