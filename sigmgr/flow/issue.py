"""A request for a sig: cache, else store, else sign and commit; one attempt per holder at a time.

Across processes the row lock of the store makes it one (a second caller tries again until the lock
is free, and then finds the sig); within a process callers share the answer.

Rules held here: 5 (nobody gets a sig with too little left while a better one can be made; otherwise
the old one is served while it is valid), 7 (``replaces``). A dead Redis slows a get but does not
fail it. A hanging database or a locked row delays nobody beyond the limits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from sigmgr.flow.better import Better
from sigmgr.flow.derive import Derive, raised
from sigmgr.flow.limits import Lane, WaitLimits
from sigmgr.flow.newcomers import Newcomers
from sigmgr.flow.reissuer import Choice, OnFailure, Reissue, Reissuer
from sigmgr.flow.seen import Seen
from sigmgr.model import decision, errors, timing
from sigmgr.model.app import App
from sigmgr.model.decision import Verdict
from sigmgr.model.holder import Holder
from sigmgr.model.sig import Current, Reason, Record, awake
from sigmgr.ports import Answer, Registry, Store, Transaction
from sigmgr.telemetry import GETS

_CREATE = (
    'Check the user id. To issue the first sig, GET it, or reissue with "create": true in the body.'
)
#: No better sig can be had now. A limit of new holders meets also who lost his row.
_NONE_BETTER = (errors.UnavailableError, errors.MaxHolders, errors.TooManyNewHolders)


def _nothing_to_replace() -> errors.SigmgrError:
    return errors.AlreadyReplaced(
        "this user never had a sig, so there is none to replace",
        advice="Leave 'replaces' out to make the first one.",
    )


class _Asked(NamedTuple):
    app: App
    holder: Holder
    now: int
    reason: Reason
    replaces: int | None
    create: bool


@dataclass(eq=False, repr=False)
class Issue:
    registry: Registry
    store: Store
    derive: Derive
    reissuer: Reissuer
    seen: Seen
    newcomers: Newcomers
    limits: WaitLimits

    def __post_init__(self) -> None:
        self._reads = Lane("sigs-read")
        self.better = Better(self._renewed, self.derive, self.newcomers, self.limits)
        self._flights: dict[Holder, asyncio.Future[Answer]] = {}

    async def current(self, holder: Holder, now: int) -> Current:
        """The holder's current sig, issued if there is none."""
        return raised((await self.many([holder], now))[0])

    async def many(self, holders: Sequence[Holder], now: int) -> list[Answer]:
        """The same for many holders of any apps, in the order asked, an error where one failed."""
        wanted = list(dict.fromkeys(holders))
        cached = await self.derive.cached(wanted)
        answers: dict[Holder, Answer] = {
            hit.holder: hit
            for hit in cached
            if hit is not None and await self.derive.stands(hit, now)
        }
        GETS.labels("cache").inc(len(answers))
        missing = [holder for holder in wanted if holder not in answers]
        if missing:
            answers.update(await self._shared(missing, now))
            await self._fall_back(answers, zip(wanted, cached, strict=True), now)
        for holder, answer in answers.items():
            if isinstance(answer, Current):
                self.seen.note(holder.user, now)
        return [self.derive.unless_revoked(answers[holder], now) for holder in holders]

    async def reissue(
        self,
        holder: Holder,
        now: int,
        *,
        reason: Reason = Reason.CLIENT_REQUESTED,
        replaces: int | None = None,
        create: bool = True,
    ) -> Current:
        """The holder's next sig. A second call within one second gets the first's result;
        ``replaces`` (an issued_at) that is not current raises AlreadyReplaced. Without ``create`` a
        holder that never had a sig raises HolderUnknown."""
        app = await self.registry.app(holder.sdkappid)
        asked = _Asked(app, holder, now, reason, replaces, create)
        batch = await self.reissuer.reissue(partial(self._next, asked), now, OnFailure.RAISE)
        return await self.derive.only(batch, now)

    async def _next(self, asked: _Asked, tx: Transaction, written: Sequence[Record]) -> Choice:
        app, now = asked.app, asked.now
        [record] = await tx.lock([asked.holder])
        if any(_same(record, one) for one in written):
            return Choice(keep=[record])
        if record.issued_at == 0 and not asked.create:
            raise errors.HolderUnknown(advice=_CREATE)
        self.newcomers.admit(app, tx.made, now)
        if not decision.may_replace(record, asked.replaces):
            raise errors.AlreadyReplaced if record.issued_at else _nothing_to_replace()
        [given] = await self.derive.inputs(app, [record], now)
        if decision.in_revoke_pause(given) is not None:
            raise _pause(app, record, now)
        forced = decision.has_dead_key(given) is not None
        if record.alive(now) and timing.same_second(now, record.issued_at) and not forced:
            return Choice(keep=[record])
        reason = asked.reason if record.issued_at else Reason.MISSING
        return Choice(reissues=[Reissue(record, reason, app.policy, seen=True)])

    # -- through the store ---------------------------------------------------------------

    async def _shared(self, holders: list[Holder], now: int) -> dict[Holder, Answer]:
        """Answers of attempts that already run in this process, and of a new one."""
        mine = [holder for holder in holders if holder not in self._flights]
        theirs = {h: self._flights[h] for h in holders if h in self._flights}
        loop = asyncio.get_running_loop()
        flights = {holder: loop.create_future() for holder in mine}
        self._flights.update(flights)
        answers: dict[Holder, Answer] = {}
        try:
            if mine:
                answers = await self._from_store(mine, now)
        except errors.SigmgrError as error:
            answers = dict.fromkeys(mine, error)
        finally:
            for holder, flight in flights.items():
                del self._flights[holder]
                lost = errors.Stopping()
                flight.set_result(answers.get(holder, lost))
        for holder, flight in theirs.items():
            answers[holder] = await asyncio.shield(flight)
        left = [holder for holder in theirs if isinstance(answers[holder], errors.Stopping)]
        if left:
            # The caller that ran it was cancelled, not we.
            answers.update(await self._shared(left, now))
        return answers

    async def _from_store(self, holders: list[Holder], now: int) -> dict[Holder, Answer]:
        known, answers = await self._with_apps(holders)
        asked = [holder for _, holder in known]
        found = await self._reads.within(self.limits.valid, self.store.find(asked))
        keep: list[Record] = []
        stale: list[tuple[App, Holder]] = []
        for (app, holder), record in zip(known, found, strict=True):
            if record is not None and record.due_at is not None:
                verdict = await self.derive.decide(app, record, now)
                if verdict.verdict is Verdict.KEEP:
                    keep.append(record)
                    continue
            stale.append((app, holder))
        answers.update(await self.derive.derive_and_cache(keep, now))
        if stale:
            old = [record for record in found if record is not None]
            wanted = {holder: app for app, holder in stale}
            answers.update(await self.better.than(old, wanted, now))
        GETS.labels("store").inc(len(answers))
        return answers

    async def _with_apps(
        self, holders: Sequence[Holder]
    ) -> tuple[list[tuple[App, Holder]], dict[Holder, Answer]]:
        known: list[tuple[App, Holder]] = []
        unknown: dict[Holder, Answer] = {}
        for holder in holders:
            try:
                known.append((await self.registry.app(holder.sdkappid), holder))
            except errors.SigmgrError as error:
                unknown[holder] = error
        return known, unknown

    async def _renewed(self, holders: Sequence[Holder], now: int) -> dict[Holder, Answer]:
        """The next sigs, or those found under the locks. See ``better.Make``."""
        known, unknown = await self._with_apps(holders)
        batch = await self.reissuer.reissue(partial(self._if_free, known, now), now)
        return (
            unknown | batch.answers() | await self.derive.derive_and_cache(batch.choice.keep, now)
        )

    async def _if_free(
        self, stale: list[tuple[App, Holder]], now: int, tx: Transaction, _: Sequence[Record]
    ) -> Choice:
        """Look again, and wake dormant holders. Locked rows are left out."""
        choice = Choice()
        records = await tx.try_lock([holder for _, holder in stale])
        for (app, holder), record in zip(stale, records, strict=True):
            if record is None:
                continue
            verdict = await self.derive.decide(app, record, now)
            if verdict.verdict is Verdict.WAIT:
                choice.refused[holder] = _pause(app, record, now)
            elif verdict.verdict is Verdict.KEEP:
                choice.keep.append(record)
                if record.due_at is None:
                    choice.moved.append((awake(record, now), record.issued_at))
            else:
                assert verdict.reason is not None
                choice.reissues.append(Reissue(record, verdict.reason, app.policy, seen=True))
        return choice

    # -- small parts -----------------------------------------------------------------------

    async def _fall_back(
        self, answers: dict[Holder, Answer], cached: zip[tuple[Holder, Current | None]], now: int
    ) -> None:
        """Where nothing better could be made, a cached sig that is still valid is served."""
        for holder, hit in cached:
            failed = isinstance(answers.get(holder), _NONE_BETTER)
            if failed and hit is not None and await self.derive.valid(hit, now):
                answers[holder] = hit


def _same(record: Record, made: Record) -> bool:
    """Whether the row holds this very sig: each has its own drawn renewal time."""
    return (record.issued_at, record.renew_at) == (made.issued_at, made.renew_at)


def _pause(app: App, record: Record, now: int) -> errors.RevokePause:
    return errors.RevokePause(retry_after=decision.pause_left(app.policy, record, now))
