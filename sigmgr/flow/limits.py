"""Limits on how long a caller waits for another part.

Rules:
1. A caller that reaches the limit gets StoreUnavailable, with a retry time. The work goes on:
   cancelling a call to a hanging server would wait for that server once more, and a running commit
   is better finished than left in doubt.
2. A lane keeps a few works that nobody waits for any more. At that number further ones are refused
   at once, so that a hanging part fills no pool and a retry fails without a wait.
3. Time in which our own event loop is too busy does not count: in a rush of thousands of clients an
   answer may be there before the loop reads it.
4. The outcome of an abandoned work is checked, and logged where it is unexpected.

What this module does not do: know what is asked, or limit Redis (``cache`` does so itself).
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable, Coroutine, Iterable
from functools import lru_cache
from math import ceil
from typing import Any, NamedTuple, TypeVar

from sigmgr.flow.gather import answered
from sigmgr.model import errors
from sigmgr.telemetry import LATE, get_logger

T = TypeVar("T")

log = get_logger("sigmgr.limits")

#: Seconds between two looks at the time, and how much may count between two; see rule 3.
_TICK = 0.025
_MOST_OF_A_TICK = 0.05


class WaitLimits(NamedTuple):
    """Seconds. ``valid``: for a better answer, where a valid one exists; ``answer``: for any answer
    at all, before a 503."""

    valid: float = 0.7
    answer: float = 1.5


#: For requests.
PROMPT = WaitLimits()
#: For commands.
PATIENT = WaitLimits(30.0, 30.0)


class _CountedTime:
    """The seconds of an event loop that count, and the waits that end by them. One timer for all:
    thousands wait at once, and a timer for each took longer than the work they waited for."""

    def __init__(self) -> None:
        self.now = 0.0
        self._looked_at = 0.0
        #: By the tick in which they end, and these in order.
        self._waits: dict[int, list[tuple[asyncio.Future[Any], Callable[[], Any]]]] = {}
        self._ends: list[int] = []
        self._ticks = False

    def _look(self) -> None:
        at = asyncio.get_running_loop().time()
        self.now += min(at - self._looked_at, _MOST_OF_A_TICK)
        self._looked_at = at

    def end(self, future: asyncio.Future[Any], seconds: float, late: Callable[[], Any]) -> None:
        """Answer a future with ``late()`` where it is not done after so many seconds, give or take
        a tick."""
        if not self._ticks:
            self._look()
            self._tick_later()
        end = ceil((self.now + seconds) / _TICK)
        waits = self._waits.get(end)
        if waits is None:
            waits = self._waits[end] = []
            heapq.heappush(self._ends, end)
        waits.append((future, late))

    def _tick_later(self) -> None:
        self._ticks = True
        asyncio.get_running_loop().call_later(_TICK, self._tick)

    def _tick(self) -> None:
        self._look()
        while self._ends and self._is_over(self._ends[0]):
            for future, late in self._waits.pop(heapq.heappop(self._ends)):
                if not future.done():
                    future.set_result(late())
        self._ticks = False
        if self._ends:
            self._tick_later()

    def _is_over(self, end: int) -> bool:
        return end * _TICK <= self.now or all(future.done() for future, _ in self._waits[end])


@lru_cache(maxsize=1)
def _counted(_loop: asyncio.AbstractEventLoop) -> _CountedTime:
    return _CountedTime()


class Wait:
    """The wait of one caller: so many ``seconds`` in all, however often it asks."""

    __slots__ = ("_left", "_pause")

    def __init__(self, seconds: float) -> None:
        self._left = seconds
        self._pause = 0.01

    async def all_done(self, futures: Iterable[asyncio.Future[Any]]) -> bool:
        """Wait for all of them; False where the time is over. The futures are not cancelled."""
        waiting = [future for future in futures if not future.done()]
        if waiting and self._left > 0:
            loop = asyncio.get_running_loop()
            time, over = _counted(loop), loop.create_future()
            time.end(over, self._left, lambda: None)
            began, left = time.now, len(waiting)

            def one_is_done(_: asyncio.Future[Any]) -> None:
                nonlocal left
                left -= 1
                if not left and not over.done():
                    over.set_result(None)

            for future in waiting:
                future.add_done_callback(one_is_done)
            try:
                await over
            finally:
                for future in waiting:
                    future.remove_done_callback(one_is_done)
            self._left -= time.now - began
        return all(future.done() for future in waiting)

    async def answered(
        self, future: asyncio.Future[T | Exception], late: Callable[[], Exception]
    ) -> T:
        """The answer that comes to this caller's own future; raises ``late()`` where it comes too
        late, and an exception that is the answer."""
        time = _counted(asyncio.get_running_loop())
        time.end(future, self._left, late)
        began = time.now
        try:
            return await answered(future)
        finally:
            self._left -= time.now - began

    async def pauses(self) -> bool:
        """Between two tries, each time longer; False where the time is over."""
        pause = min(self._pause, self._left)
        await asyncio.sleep(pause)
        self._left -= pause
        self._pause = min(2 * pause, 0.2)
        return self._left > 0


class Lane:
    """Waits of one kind, such as those of gets for their rows. At most ``most`` works are abandoned
    at a time. Its ``name`` is a label of a metric."""

    def __init__(self, name: str, *, most: int = 4) -> None:
        self._name = name
        self._most = most
        #: Works that go on though nobody waits for them any more.
        self.left: set[asyncio.Task[Any]] = set()

    async def within(self, seconds: float, work: Coroutine[Any, Any, T]) -> T:
        """The work's answer or error; StoreUnavailable where it takes longer, or where too many are
        abandoned already. A cancelled caller leaves the work running, too."""
        if len(self.left) >= self._most:
            work.close()
            raise errors.StoreUnavailable(
                f"the database keeps {len(self.left)} earlier calls waiting", retry_after=1
            )
        task = asyncio.create_task(work, name=f"limits: {self._name}")
        try:
            await Wait(seconds).all_done([task])
        finally:
            if not task.done():
                self._leave(task)
        if not task.done():
            raise errors.StoreUnavailable(
                f"the database did not answer within {seconds:g} s", retry_after=1
            )
        return task.result()

    def _leave(self, task: asyncio.Task[Any]) -> None:
        LATE.labels(self._name).inc()
        if not self.left:
            log.warning("a part keeps us waiting", action="late", lane=self._name)
        self.left.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self.left.discard(task)
        if not self.left:
            log.info("no part keeps us waiting", action="late-ended", lane=self._name)
        if task.cancelled():
            return
        error = task.exception()
        if error is not None and not isinstance(error, errors.SigmgrError):
            log.error("late work failed", action="late-failed", error=type(error).__name__)
