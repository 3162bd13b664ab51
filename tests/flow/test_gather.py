"""Questions by the batch: every one answered, once, and only by what happened to its own."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sigmgr.flow.gather import Gather, answered
from sigmgr.model import errors
from sigmgr.sim.faults import Crash


class Batches:
    """Answers n with 10 n, or fails as set, and keeps the batches."""

    def __init__(self, **options: int | float) -> None:
        self.seen: list[list[int]] = []
        self.bad: dict[int, BaseException] = {}
        self.refused: set[int] = set()
        self.gate: asyncio.Event | None = None
        self.under_way = self.most = 0
        self.gather: Gather[int, int] = Gather(self._work, **options)  # type: ignore[arg-type]

    async def _work(self, asked: Sequence[int], now: int) -> list[int | errors.SigmgrError]:
        self.seen.append(list(asked))
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            await asyncio.sleep(0)
            if self.gate is not None:
                await self.gate.wait()
            for number in asked:
                if number in self.bad:
                    raise self.bad[number]
        finally:
            self.under_way -= 1
        return [errors.BadRequest() if n in self.refused else 10 * n for n in asked]

    async def ask(self, number: int) -> int:
        return await answered(self.gather.ask(number, 1))


async def test_a_single_question_goes_at_once_and_a_rush_in_few_batches() -> None:
    batches = Batches(size=500)
    assert await batches.ask(1) == 10
    batches.seen.clear()
    answers = await asyncio.gather(*map(batches.ask, range(3000)))
    assert answers == [10 * n for n in range(3000)]
    assert len(batches.seen) == 6
    assert max(map(len, batches.seen)) == 500


async def test_who_comes_within_a_moment_goes_with_the_first() -> None:
    batches = Batches(gather_for=0.05)
    first = asyncio.create_task(batches.ask(1))
    await asyncio.sleep(0.01)
    await asyncio.gather(first, batches.ask(2), batches.ask(3))
    assert batches.seen == [[1, 2, 3]]


async def test_the_same_question_is_asked_once_before_it_leaves_and_again_afterwards() -> None:
    batches = Batches(at_once=1)
    batches.gate = asyncio.Event()
    asked = [asyncio.create_task(batches.ask(1)) for _ in range(3)]
    await asyncio.sleep(0.01)
    asked += [asyncio.create_task(batches.ask(1)) for _ in range(3)]
    await asyncio.sleep(0.01)
    batches.gate.set()
    assert set(await asyncio.gather(*asked)) == {10}
    assert batches.seen == [[1], [1]]


async def test_a_batch_that_fails_fails_no_other() -> None:
    batches = Batches(size=10)
    batches.bad[5] = errors.StoreUnavailable()
    answers = await asyncio.gather(*map(batches.ask, range(30)), return_exceptions=True)
    assert [type(a) for a in answers[:10]] == [errors.StoreUnavailable] * 10
    assert answers[10:] == [10 * n for n in range(10, 30)]
    assert await batches.ask(1) == 10


@given(
    bad=st.sets(st.integers(0, 99)), refused=st.sets(st.integers(0, 99)), size=st.integers(1, 60)
)
def test_a_fault_that_nobody_foresaw_is_that_of_its_question_alone(
    bad: set[int], refused: set[int], size: int
) -> None:
    async def case() -> None:
        batches = Batches(size=size)
        batches.bad = {n: ZeroDivisionError(n) for n in bad}
        batches.refused = refused
        answers = await asyncio.gather(*map(batches.ask, range(100)), return_exceptions=True)
        for n, answer in enumerate(answers):
            if n in bad:
                assert isinstance(answer, ZeroDivisionError)
                assert answer.args == (n,)
            elif n in refused:
                assert isinstance(answer, errors.BadRequest)
            else:
                assert answer == 10 * n
        assert batches.most <= 2

    asyncio.run(case())


async def test_a_caller_who_goes_takes_no_other_along() -> None:
    batches = Batches(at_once=1)
    batches.gate = asyncio.Event()
    first, second = (asyncio.create_task(batches.ask(n)) for n in (1, 1))
    await asyncio.sleep(0.01)
    first.cancel()
    await asyncio.sleep(0)
    batches.gate.set()
    assert await second == 10


async def test_where_the_process_dies_nobody_waits_for_ever() -> None:
    asyncio.get_running_loop().set_exception_handler(lambda *_: None)
    batches = Batches(size=2, at_once=1)
    batches.bad[0] = Crash("here")
    answers = await asyncio.gather(*map(batches.ask, range(5)), return_exceptions=True)
    assert {type(answer) for answer in answers} == {errors.Stopping}
    batches.bad.clear()
    assert await batches.ask(1) == 10


@pytest.mark.parametrize("at_once", [1, 2, 4])
async def test_so_many_batches_are_under_way_and_no_more(at_once: int) -> None:
    batches = Batches(size=1, at_once=at_once)
    await asyncio.gather(*map(batches.ask, range(50)))
    assert batches.most == at_once


async def test_a_question_in_the_very_moment_in_which_a_run_ends_is_not_forgotten() -> None:
    batches = Batches(at_once=1)
    following: list[asyncio.Future[int | Exception]] = []
    first = batches.gather.ask(1, 1)
    # Called before anybody could notice that the run has ended.
    first.add_done_callback(lambda _: following.append(batches.gather.ask(2, 1)))
    await answered(first)
    async with asyncio.timeout(5):
        assert await answered(following[0]) == 20
