"""Waits have limits; what hangs is left alone, few at a time, and noticed when it ends."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import pytest
from structlog.testing import capture_logs

from sigmgr.flow import limits
from sigmgr.flow.limits import Lane, Wait
from sigmgr.model import errors
from sigmgr.telemetry import LATE


async def hangs(until: asyncio.Event) -> str:
    await until.wait()
    return "late"


async def turns(until: Callable[[], bool]) -> None:
    while not until():
        await asyncio.sleep(0)


async def test_an_answer_and_an_error_in_time_come_through() -> None:
    async def answers() -> int:
        await asyncio.sleep(0)
        return 7

    async def raises() -> int:
        await asyncio.sleep(0)
        raise errors.AppUnknown

    lane = Lane("test")
    assert await lane.within(1, answers()) == 7
    with pytest.raises(errors.AppUnknown):
        await lane.within(1, raises())
    assert not lane.left


async def test_who_waits_too_long_learns_when_to_come_back_and_the_work_goes_on() -> None:
    lane, until = Lane("test"), asyncio.Event()
    with pytest.raises(errors.StoreUnavailable) as refused:
        await lane.within(0.02, hangs(until))
    assert refused.value.retry_after == 1
    assert len(lane.left) == 1
    until.set()
    await turns(lambda: not lane.left)


async def test_while_some_hang_the_next_are_refused_at_once() -> None:
    lane, until, begun = Lane("test", most=3), asyncio.Event(), []

    async def work(number: int) -> None:
        begun.append(number)
        await until.wait()

    for number in range(3):
        with pytest.raises(errors.StoreUnavailable, match="did not answer"):
            await lane.within(0.02, work(number))
    started = time.monotonic()
    for number in range(3, 100):
        with pytest.raises(errors.StoreUnavailable, match="3 earlier calls"):
            await lane.within(60, work(number))
    assert time.monotonic() - started < 30
    assert begun == [0, 1, 2]
    until.set()
    await turns(lambda: not lane.left)
    await lane.within(60, work(100))


async def test_a_caller_who_goes_takes_nothing_back() -> None:
    lane, until, done = Lane("test"), asyncio.Event(), []

    async def commit() -> None:
        await until.wait()
        done.append(True)

    caller = asyncio.create_task(lane.within(60, commit()))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert len(lane.left) == 1
    until.set()
    await turns(lambda: bool(done))


async def test_what_becomes_of_late_work_is_looked_at() -> None:
    lane, until = Lane("test"), asyncio.Event()

    async def ends(error: BaseException) -> None:
        await until.wait()
        raise error

    with capture_logs() as logs:
        for error in (
            errors.StoreUnavailable(),
            ZeroDivisionError("secret"),
            asyncio.CancelledError(),
        ):
            with pytest.raises(errors.StoreUnavailable):
                await lane.within(0.01, ends(error))
        until.set()
        await turns(lambda: not lane.left)
        await asyncio.sleep(0)
    answer = [line["action"] for line in logs]
    assert answer.count("late") == 1
    assert [line["error"] for line in logs if line["action"] == "late-failed"] == [
        "ZeroDivisionError"
    ]
    assert answer[-1] == "late-ended"
    assert "secret" not in str(logs)


async def test_time_that_the_loop_was_too_busy_to_count_is_not_held_against_the_other() -> None:
    """The answer lies ready; the loop comes to it only after a few rounds of its own work."""
    lane = Lane("test")

    async def answers_in_a_few_turns() -> str:
        for _ in range(4):
            await asyncio.sleep(0)
            time.sleep(0.2)  # our own work: a rush of requests that are parsed
        return "in time"

    assert await lane.within(0.4, answers_in_a_few_turns()) == "in time"


async def test_pauses_grow_to_a_fifth_of_a_second_and_spend_the_budget(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    wait = Wait(0.75)
    while await wait.pauses():
        pass
    assert slept == pytest.approx([0.01, 0.02, 0.04, 0.08, 0.16, 0.2, 0.2, 0.04])
    assert not await Wait(0.0).pauses()


async def test_thousands_of_waits_share_one_timer(monkeypatch: pytest.MonkeyPatch) -> None:
    """A timer for each slice of each wait took 20,000 acks at once beyond their limit."""
    loop, timers = asyncio.get_running_loop(), 0
    call_later = loop.call_later

    def counted(*args: object, **kwargs: object) -> asyncio.TimerHandle:
        nonlocal timers
        timers += 1
        return call_later(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(loop, "call_later", counted)
    never: asyncio.Future[None] = loop.create_future()
    soon: asyncio.Future[None] = loop.create_future()
    waits = [asyncio.ensure_future(Wait(0.2).all_done([never])) for _ in range(1000)]
    waits += [asyncio.ensure_future(Wait(0.2).all_done([soon, soon])) for _ in range(1000)]
    await asyncio.sleep(0)
    soon.set_result(None)
    assert await asyncio.gather(*waits) == [False] * 1000 + [True] * 1000
    assert timers < 20
    wait = Wait(0.2)
    began = loop.time()
    assert not await wait.all_done([never])
    assert 0.15 < loop.time() - began < 5
    assert not await wait.all_done([never]), "the time is spent"
    assert not never._callbacks, "nothing of them is left there"  # type: ignore[attr-defined]


async def test_a_wait_that_is_cancelled_ends_and_leaves_its_future() -> None:
    never: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    wait = asyncio.ensure_future(Wait(60).all_done([never]))
    await asyncio.sleep(0)
    wait.cancel()
    with pytest.raises(asyncio.CancelledError):
        await wait
    assert not never.done()


async def test_an_answer_is_bounded_too_and_keeps_the_budget_of_its_caller() -> None:
    loop = asyncio.get_running_loop()
    there: asyncio.Future[int | Exception] = loop.create_future()
    there.set_result(7)
    wrong: asyncio.Future[int | Exception] = loop.create_future()
    loop.call_soon(wrong.set_result, errors.AppUnknown())
    never: asyncio.Future[int | Exception] = loop.create_future()
    wait = Wait(0.2)
    assert await wait.answered(there, errors.StoreUnavailable) == 7
    with pytest.raises(errors.AppUnknown):
        await wait.answered(wrong, errors.StoreUnavailable)
    began = loop.time()
    with pytest.raises(errors.StoreUnavailable):
        await wait.answered(never, errors.StoreUnavailable)
    assert 0.15 < loop.time() - began < 5
    assert not await wait.pauses(), "the time is spent"


async def test_waits_of_several_lengths_end_each_at_its_time() -> None:
    loop = asyncio.get_running_loop()
    never: asyncio.Future[None] = loop.create_future()
    ended: list[float] = []

    async def wait(seconds: float) -> None:
        assert not await Wait(seconds).all_done([never])
        ended.append(seconds)

    began = loop.time()
    await asyncio.gather(*map(wait, [0.3, 0.1, 0.5, 0.2]))
    assert ended == [0.1, 0.2, 0.3, 0.5]
    assert loop.time() - began >= 0.5


async def test_nothing_ticks_when_every_wait_is_answered() -> None:
    loop = asyncio.get_running_loop()
    future: asyncio.Future[int | Exception] = loop.create_future()
    waits = [asyncio.ensure_future(Wait(9.0).all_done([future])) for _ in range(3)]
    waits.append(asyncio.ensure_future(Wait(0.5).all_done([future])))
    await asyncio.sleep(0)
    future.set_result(1)
    assert all(await asyncio.gather(*waits))
    counted = limits._counted(loop)
    assert counted._ticks
    await asyncio.sleep(0.1)
    assert not counted._ticks
    assert not counted._waits


async def test_one_that_is_done_is_not_all_of_them() -> None:
    loop = asyncio.get_running_loop()
    futures: list[asyncio.Future[None]] = [loop.create_future() for _ in range(2)]
    loop.call_soon(futures[0].set_result, None)
    assert not await Wait(0.03).all_done(futures)
    futures[1].set_result(None)
    assert await Wait(0.0).all_done(futures), "what is done needs no time"
    assert await Wait(0.0).all_done([])


async def test_a_wait_that_was_short_leaves_the_rest_of_its_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def no_sleep(seconds: float) -> None:
        return None

    loop = asyncio.get_running_loop()
    wait = Wait(60.0)
    future: asyncio.Future[int | Exception] = loop.create_future()
    loop.call_later(0.05, future.set_result, 1)
    assert await wait.answered(future, errors.StoreUnavailable) == 1
    later: asyncio.Future[None] = loop.create_future()
    loop.call_later(0.05, later.set_result, None)
    assert await wait.all_done([later])
    assert 50 < wait._left <= 60
    monkeypatch.setattr(asyncio, "sleep", no_sleep)
    pauses = 1
    while await wait.pauses():
        pauses += 1
    assert 240 < pauses <= 305, "a fifth of a second each, of about a minute"


async def test_each_that_is_left_is_counted_and_the_first_is_reported() -> None:
    lane, until = Lane("counted", most=2), asyncio.Event()
    with capture_logs() as logs:
        for number in range(4):
            with pytest.raises(errors.StoreUnavailable) as refused:
                await lane.within(0.01, hangs(until))
            assert refused.value.retry_after == 1
            assert ("within 0.01 s" in refused.value.text) == (number < 2)
        until.set()
        await turns(lambda: not lane.left)
    assert [(line["action"], line["lane"]) for line in logs] == [
        ("late", "counted"), ("late-ended", "counted"),
    ]  # fmt: skip
    assert LATE.labels("counted")._value.get() == 2


async def test_a_lane_lets_as_many_hang_as_it_is_told() -> None:
    lane, until = Lane("one", most=1), asyncio.Event()
    for text in ("did not answer", "1 earlier calls"):
        with pytest.raises(errors.StoreUnavailable, match=text):
            await lane.within(0.01, hangs(until))
    until.set()
    await turns(lambda: not lane.left)
    assert await lane.within(60, hangs(until)) == "late"


def test_what_is_valid_comes_within_a_second_and_a_refusal_within_two() -> None:
    """With what the rest of a request takes (decision 0018)."""
    assert 0 < limits.PROMPT.valid < 1
    assert limits.PROMPT.valid < limits.PROMPT.answer < 2
