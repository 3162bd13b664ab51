"""Gathers single questions into batches.

Thousands of clients that come at once must not take a database connection each. So their questions
are gathered: the first goes at once, or after a short time in which others may join, and those that
come while a batch runs go with the next.

Rules:
1. The same question of several callers is asked once while it waits. One that comes after its batch
   has started is asked again: an answer must not be older than its question.
2. An error of a batch is the answer of that batch only. On an unexpected exception the batch is
   halved until the bad question is alone.
3. Each caller has its own future, so cancelling one affects no other.

What this module does not do: limit how long a batch takes (``limits``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Hashable, Sequence
from itertools import islice
from typing import Any, Generic, TypeVar

from sigmgr.model import errors

Q = TypeVar("Q", bound=Hashable)
A = TypeVar("A")

_Batch = list[tuple[Q, list[asyncio.Future[A | Exception]]]]
#: Answers in the order of the questions. Raises where none can be answered.
Work = Callable[[Sequence[Q], int], Coroutine[Any, Any, Sequence[A | errors.SigmgrError]]]


class Gather(Generic[Q, A]):
    """``work`` answers up to ``size`` questions; up to ``at_once`` batches run; one that is not
    full waits ``gather_for`` seconds for others."""

    def __init__(
        self, work: Work[Q, A], *, size: int = 500, at_once: int = 2, gather_for: float = 0.0
    ) -> None:
        self._work = work
        self._size = size
        self._at_once = at_once
        self._gather_for = gather_for
        self._now = 0
        self._waiting: dict[Q, list[asyncio.Future[A | Exception]]] = {}
        self._running = 0
        self._runs: set[asyncio.Task[None]] = set()

    def ask(self, question: Q, now: int) -> asyncio.Future[A | Exception]:
        """A future of the answer or the error. Wait for it with :func:`answered`."""
        self._now = now
        future: asyncio.Future[A | Exception] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(question, []).append(future)
        if self._running < self._at_once:
            self._running += 1
            run = asyncio.create_task(self._run(), name="gather")
            self._runs.add(run)
            run.add_done_callback(self._runs.discard)
        return future

    async def _run(self) -> None:
        batch: _Batch[Q, A] = []
        try:
            while self._waiting:
                if self._gather_for and len(self._waiting) < self._size:
                    await asyncio.sleep(self._gather_for)
                batch = list(islice(self._waiting.items(), self._size))
                for question, _ in batch:
                    del self._waiting[question]
                await self._answer(batch)
        except BaseException:
            # The process ends, or a test cancelled it.
            left, self._waiting = self._waiting, {}
            lost = [*batch, *left.items()]
            _settle(lost, [errors.Stopping()] * len(lost))
            raise
        finally:
            # No await since it found nothing to do, so the next question starts a new run.
            self._running -= 1

    async def _answer(self, batch: _Batch[Q, A]) -> None:
        try:
            _settle(batch, await self._work([question for question, _ in batch], self._now))
        except errors.SigmgrError as error:
            _settle(batch, [error] * len(batch))
        except Exception as error:  # noqa: BLE001 - one bad question must not stop the rest
            if len(batch) == 1:
                _settle(batch, [error])
                return
            middle = len(batch) // 2
            await self._answer(batch[:middle])
            await self._answer(batch[middle:])


async def answered(future: asyncio.Future[A | Exception]) -> A:
    answer = await future
    if isinstance(answer, Exception):
        raise answer
    return answer


def _settle(batch: _Batch[Q, A], answers: Sequence[A | Exception]) -> None:
    for (_, futures), answer in zip(batch, answers, strict=True):
        for future in futures:
            if not future.done():
                future.set_result(answer)
