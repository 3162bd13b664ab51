"""A better sig than the one at hand, within the limits; else that one.

For whoever asks and whose sig is due, dead or missing. Those who ask at the same time are
put together, so that a rush of them takes a few transactions and not one each.

Rules held here: 5 (the old sig is served as long as it is valid where no better can be made,
and an error for those alone that have none), and that nobody waits beyond the limits for a
database that hangs, or for a row that another transaction holds: whoever holds it is likely
making the next sig, or was stopped half way. No connection is kept meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

from sigmgr.flow.derive import Answer, Derive
from sigmgr.flow.gather import Gather
from sigmgr.flow.limits import Lane, WaitLimits, all_done, pauses
from sigmgr.flow.newcomers import Newcomers
from sigmgr.model import errors, timing
from sigmgr.model.app import App
from sigmgr.model.holder import Holder
from sigmgr.model.sig import Current, Record

#: Makes the next sigs of those whose rows are free, and answers for them.
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
        """For each that is asked for. ``old``: the rows as they were read a moment ago; who has
        none is new, and may be refused."""
        refused = self._newcomers.refused(asked, old, now)
        if not refused:
            return await self._than(old, asked, now)
        rest = {holder: app for holder, app in asked.items() if holder not in refused}
        return refused | (await self._than(old, rest, now) if rest else {})

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
        """Rows that others hold are tried again, but those whose old sig is good enough."""
        answers: dict[Holder, Answer] = {}
        for pause in pauses(limit):
            futures = {holder: self._gather.ask(holder, now) for holder in left}
            in_time = await all_done(futures.values(), limit)
            answers |= _answers_of(futures)
            left = [holder for holder in left if holder not in answers]
            if not in_time:
                return answers | {h: errors.StoreUnavailable(_LATE, retry_after=1) for h in left}
            if enough.issuperset(left):
                break
            await asyncio.sleep(pause)
        return answers | {h: errors.StoreUnavailable(_HELD, retry_after=1) for h in left}

    async def _turn(self, holders: Sequence[Holder], now: int) -> list[Answer | None]:
        answers = await self._lane.within(self._limits.answer, self._make(holders, now))
        return [answers.get(holder) for holder in holders]


def _answers_of(
    futures: Mapping[Holder, asyncio.Future[Answer | Exception | None]],
) -> dict[Holder, Answer]:
    """The answers that are there; None is none. Raises what is no answer."""
    answers: dict[Holder, Answer] = {}
    for holder, future in futures.items():
        answer = future.result() if future.done() else None
        if isinstance(answer, Current | errors.SigmgrError):
            answers[holder] = answer
        elif answer is not None:
            raise answer
    return answers


def _may_serve(app: App, record: Record, now: int) -> bool:
    """Enough is left of a living sig to hand it out though it is due."""
    return timing.may_serve(app.policy.durations(record.ttl), record.expires_at, now)
