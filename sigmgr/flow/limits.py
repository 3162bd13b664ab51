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
from collections.abc import Coroutine, Iterable
from typing import Any, NamedTuple, TypeVar

from sigmgr.model import errors
from sigmgr.telemetry import LATE, get_logger

T = TypeVar("T")

log = get_logger("sigmgr.limits")

#: The number of slices of a wait; see rule 3.
_SLICES = 10


class WaitLimits(NamedTuple):
    """Seconds. ``valid``: for a better answer, where a valid one exists; ``answer``: for any answer
    at all, before a 503."""

    valid: float = 0.7
    answer: float = 1.5


#: For requests.
PROMPT = WaitLimits()
#: For commands.
PATIENT = WaitLimits(30.0, 30.0)


class Wait:
    """The wait of one caller: so many ``seconds`` in all, however often it asks."""

    def __init__(self, seconds: float) -> None:
        self._left = seconds
        self._slice = seconds / _SLICES
        self._pause = 0.01

    async def all_done(self, futures: Iterable[asyncio.Future[Any]]) -> bool:
        """Wait for all of them; False where the time is over. The futures are not cancelled, and a
        slice of the time counts as one however late the loop is."""
        clock = asyncio.get_running_loop().time
        waiting = {future for future in futures if not future.done()}
        while waiting and self._left > 0:
            began, part = clock(), min(self._slice, self._left)
            _, waiting = await asyncio.wait(waiting, timeout=part)
            self._left -= min(part, clock() - began)
        return not waiting

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
        self._left: set[asyncio.Task[Any]] = set()

    @property
    def left(self) -> int:
        """How many works go on that nobody waits for any more."""
        return len(self._left)

    async def within(self, seconds: float, work: Coroutine[Any, Any, T]) -> T:
        """The work's answer or error; StoreUnavailable where it takes longer, or where too many are
        abandoned already. A cancelled caller leaves the work running, too."""
        if len(self._left) >= self._most:
            work.close()
            raise errors.StoreUnavailable(
                f"the database keeps {len(self._left)} earlier calls waiting", retry_after=1
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
        if not self._left:
            log.warning("a part keeps us waiting", action="late", lane=self._name)
        self._left.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._left.discard(task)
        if not self._left:
            log.info("no part keeps us waiting", action="late-ended", lane=self._name)
        if task.cancelled():
            return
        error = task.exception()
        if error is not None and not isinstance(error, errors.SigmgrError):
            log.error("late work failed", action="late-failed", error=type(error).__name__)
