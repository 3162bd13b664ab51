"""Jobs run on whatever this machine's clock does, and no leap of it blocks the loop."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
import structlog
import time_machine

from sigmgr.model import errors
from sigmgr.model.reference import Rules
from sigmgr.scheduler import Job, Ticker
from sigmgr.wiring.reference_clock import ReferenceClock

DAY = 86400
EVERY = 0.05
#: What one turn of the loop may take here. A leap of 70 days took it 75 s of CPU once.
BLOCKED = 2.0


class Jobs:
    """A running ticker over this machine's clock, and what its jobs did."""

    def __init__(self) -> None:
        self.runs: Counter[str] = Counter()
        self.blocked = 0.0

    async def ran(self, name: str, more: int = 3, within: float = 10.0) -> None:
        """So many more runs of a job from now on."""
        until, wanted = time.monotonic() + within, self.runs[name] + more
        while self.runs[name] < wanted:
            assert time.monotonic() < until, f"{name} does not run: {self.runs}"
            await asyncio.sleep(0.01)


def counting(jobs: Jobs, name: str) -> Callable[[int], object]:
    async def run(now: int) -> None:
        del now
        jobs.runs[name] += 1

    return run


@asynccontextmanager
async def running(turns: Callable[[], int]) -> AsyncIterator[Jobs]:
    jobs = Jobs()
    ticker = Ticker(lambda: int(time.time()), turns)
    ticker.add(
        [
            Job("often", EVERY, counting(jobs, "often")),
            Job("seldom", 3600, counting(jobs, "seldom")),
        ]
    )

    async def probe() -> None:
        while True:
            before = time.monotonic()
            await asyncio.sleep(0.01)
            jobs.blocked = max(jobs.blocked, time.monotonic() - before)

    ticker.start()
    probing = asyncio.create_task(probe())
    try:
        yield jobs
    finally:
        probing.cancel()
        await ticker.stop()


@pytest.mark.parametrize("by", [-60, 60, -8 * DAY, 7 * DAY, 70 * DAY, -3650 * DAY, 3650 * DAY])
async def test_jobs_run_on_whatever_the_clock_does(by: int) -> None:
    clock = ReferenceClock(Rules(shared=False))
    with time_machine.travel(time.time(), tick=True) as machine:
        async with running(clock.glance) as jobs:
            await jobs.ran("often")
            assert jobs.runs["seldom"] == 0
            machine.shift(by)
            await jobs.ran("seldom", 1)
            await jobs.ran("often")
            machine.shift(-by)
            await jobs.ran("seldom", 1)
            await jobs.ran("often")
    assert jobs.blocked < BLOCKED
    # Twice by the guard, and once where the leap ahead made it due.
    assert jobs.runs["seldom"] <= 3


async def test_a_clock_that_goes_on_brings_no_job_forward() -> None:
    clock = ReferenceClock(Rules(shared=False))
    async with running(clock.glance) as jobs:
        await jobs.ran("often", 15)
    assert jobs.runs["seldom"] == 0


async def test_jobs_run_at_once_when_what_was_held_is_let_go() -> None:
    turns = 0
    async with running(lambda: turns) as jobs:
        await jobs.ran("often")
        turns += 1
        await jobs.ran("seldom", 1)


async def test_a_guard_that_fails_goes_on() -> None:
    answers = iter([0, 0])

    def turns() -> int:
        try:
            return next(answers)
        except StopIteration:
            if not jobs.runs["failed"]:
                jobs.runs["failed"] += 1
                raise ValueError("a bug") from None
            return 1

    async with running(turns) as jobs:
        await jobs.ran("seldom", 1)
    assert jobs.runs["failed"] == 1


# Failures, and the end


def ticker_of(run: Callable[[int], object], now: int = 7) -> Ticker:
    ticker = Ticker(lambda: now, lambda: 0)
    ticker.add([Job("job", 0.01, run)])
    return ticker


async def until(answer: Callable[[], bool]) -> None:
    before = time.monotonic()
    while not answer():
        assert time.monotonic() - before < 10
        await asyncio.sleep(0.005)


async def test_a_job_that_fails_is_reported_once_tried_again_and_well_again() -> None:
    outcomes: list[BaseException | None] = [
        errors.StoreUnavailable(), errors.StoreUnavailable(), ValueError("a bug"), None,
    ]  # fmt: skip
    failing: list[str | None] = []
    times: list[int] = []

    async def run(now: int) -> None:
        times.append(now)
        outcome = outcomes.pop(0) if outcomes else None
        failing.append(ticker.failing.get("job"))
        if outcome is not None:
            raise outcome

    ticker = ticker_of(run)
    with structlog.testing.capture_logs() as logs:
        ticker.start()
        await until(lambda: len(times) >= 6)
        await ticker.stop()
    assert failing[:5] == [None, "store-unavailable", "store-unavailable", "ValueError", None]
    assert set(times) == {7}
    answer = [(line["action"], line.get("code")) for line in logs]
    assert answer == [
        ("job-failing", "store-unavailable"),
        ("job-failing", "ValueError"),
        ("job-failed", None),
        ("job-recovered", None),
    ]


async def test_a_job_never_runs_twice_at_once_and_its_end_is_waited_for() -> None:
    running, most, ended = 0, 0, 0

    async def run(now: int) -> None:
        nonlocal running, most, ended
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.1)
        running -= 1
        ended += 1

    ticker = ticker_of(run)
    ticker.start()
    await until(lambda: ended == 1 and running == 1)
    await ticker.stop()
    assert (running, most, ended) == (0, 1, 2)
    await asyncio.sleep(0.05)
    assert ended == 2, "nothing begins after the end"


async def test_a_job_that_does_not_end_is_cancelled() -> None:
    cancelled: list[bool] = []

    async def run(now: int) -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    ticker = ticker_of(run)
    ticker.start()
    await until(lambda: bool(ticker._running))
    before = time.monotonic()
    await ticker.stop(within=0.05)
    assert cancelled == [True]
    assert time.monotonic() - before < 5


async def test_a_job_that_does_not_heed_its_cancel_keeps_nobody() -> None:
    release = asyncio.Event()

    async def run(now: int) -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            await release.wait()  # as a driver waits for its server

    ticker = ticker_of(run)
    ticker.start()
    await until(lambda: bool(ticker._running))
    async with asyncio.timeout(5):
        await ticker.stop(within=0.05)
    release.set()
