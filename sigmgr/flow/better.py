"""Makes a better sig than the present one, within the limits; else answers with that one.

For requests whose sig is due, revoked or missing. Concurrent requests share a few transactions.

Rules held here: 5 (the old sig is served while it is valid and no better can be made; an error only
for holders that have none); nobody waits beyond the limits for a database that hangs or for a
locked row, whose owner is probably making the next sig. No connection is held during the wait.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

from sigmgr.flow.derive import Derive
from sigmgr.flow.gather import Gather
from sigmgr.flow.limits import Lane, Wait, WaitLimits
from sigmgr.flow.newcomers import Newcomers
from sigmgr.model import errors, timing
from sigmgr.model.app import App
from sigmgr.model.holder import Holder
from sigmgr.model.sig import Current, Record
from sigmgr.ports import Answer

#: Makes the next sigs of holders whose rows are free, and answers for them.
Make = Callable[[Sequence[Holder], int], Coroutine[Any, Any, Mapping[Holder, Answer]]]

_HELD = "another transaction holds this user's row"
_LATE = "the database did not answer in time"


class Better:
    """``make`` reissues under the locks."""

    def __init__(
        self, make: Make, derive: Derive, newcomers: Newcomers, limits: WaitLimits
    ) -> None:
        self._make = make
        self._derive = derive
        self._newcomers = newcomers
        self._limits = limits
        self._lane = Lane("sigs-written")
        self._gather: Gather[Holder, Answer | None] = Gather(self._turn, at_once=4)

    async def than(
        self, old: Sequence[Record], asked: Mapping[Holder, App], now: int
    ) -> dict[Holder, Answer]:
        """For each holder asked for. ``old``: the rows just read; a holder without one is new, and
        may be refused."""
        refused = self._newcomers.refused(asked, old, now)
        rest = {holder: app for holder, app in asked.items() if holder not in refused}
        return refused | await self._than(old, rest, now)

    async def _than(
        self, old: Sequence[Record], asked: Mapping[Holder, App], now: int
    ) -> dict[Holder, Answer]:
        vouched = await self._derive.still_valid([r for r in old if r.holder in asked], now)
        valid = {record.holder: record for record in vouched}
        enough = {h for h, r in valid.items() if _may_serve(asked[h], r, now)}
        limit = self._limits.valid if len(valid) == len(asked) else self._limits.answer
        answers = await self._in_turns(list(asked), enough, limit, now)
        poor = [
            record
            for holder, record in valid.items()
            if not isinstance(answers[holder], Current | errors.RevokePause)
        ]
        derived = await self._derive.derive_and_cache(poor, now)
        return answers | {h: a for h, a in derived.items() if isinstance(a, Current)}

    async def _in_turns(
        self, left: list[Holder], enough: set[Holder], limit: float, now: int
    ) -> dict[Holder, Answer]:
        """Locked rows are tried again, unless their old sig is good enough."""
        answers: dict[Holder, Answer] = {}
        wait = Wait(limit)
        while True:
            futures = {holder: self._gather.ask(holder, now) for holder in left}
            in_time = await wait.all_done(futures.values())
            answers |= _answers_of(futures)
            left = [holder for holder in left if holder not in answers]
            if not in_time or enough.issuperset(left) or not await wait.pauses():
                why = _HELD if in_time else _LATE
                return answers | {h: errors.StoreUnavailable(why, retry_after=1) for h in left}

    async def _turn(self, holders: Sequence[Holder], now: int) -> list[Answer | None]:
        answers = await self._lane.within(self._limits.answer, self._make(holders, now))
        return [answers.get(holder) for holder in holders]


def _answers_of(
    futures: Mapping[Holder, asyncio.Future[Answer | Exception | None]],
) -> dict[Holder, Answer]:
    """The answers that exist; None is none. Raises any other exception."""
    answers: dict[Holder, Answer] = {}
    for holder, future in futures.items():
        answer = future.result() if future.done() else None
        if isinstance(answer, Current | errors.SigmgrError):
            answers[holder] = answer
        elif answer is not None:
            raise answer
    return answers


def _may_serve(app: App, record: Record, now: int) -> bool:
    return timing.may_serve(app.policy.durations(record.ttl), record.expires_at, now)
