"""APScheduler turned into ``tick(now)`` calls. No rule lives here.

One interval job per task and process; due times are in our own tables, so a job that runs late
finds all that is due. By its defaults APScheduler drops a run that is more than a second late,
cancels running coroutines at ``shutdown``, and logs errors only to its own log; here these are
changed.

APScheduler plans by the wall clock. A clock set back by a week would stop its jobs for a week; one
set ahead would make its interval trigger build every run in between. So:
1. The next run is always "now plus interval" (:class:`_Every`), in UTC.
2. ``turns`` is read four times a second by the loop's monotonic clock. It changes when the clock
   has jumped or held work may go on; then every job runs at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.triggers.base import BaseTrigger

from sigmgr.model import errors
from sigmgr.ports import Clock
from sigmgr.telemetry import LAST_SUCCESS, RUNS, get_logger

log = get_logger("sigmgr.scheduler")


#: Seconds between two checks for a clock that has jumped.
GLANCE: Final = 0.25
#: Seconds for a cancelled run to end.
_TO_END: Final = 1.0
#: Earlier than any machine's clock: due at once.
_LONG_AGO: Final = datetime.fromtimestamp(0, UTC)


class _Every(BaseTrigger):  # type: ignore[misc]
    """So many seconds after the time of the call."""

    def __init__(self, seconds: float) -> None:
        self._interval = timedelta(seconds=seconds)

    def get_next_fire_time(self, previous: datetime | None, now: datetime) -> datetime:
        return now + self._interval


class Job(NamedTuple):
    """``run(now)`` every ``every`` seconds, never twice at once in this process."""

    name: str
    every: float
    run: Callable[[int], Awaitable[Any]]


class Ticker:
    """Calls jobs with the time of the given clock. ``turns`` answers another number when this
    machine's clock has jumped, or when jobs may do what was held before."""

    def __init__(self, clock: Clock, turns: Callable[[], int]) -> None:
        self._clock = clock
        self._turns = turns
        self._guard: asyncio.Task[None] | None = None
        self._scheduler: Any = AsyncIOScheduler(
            # A local zone would bring its summer time.
            timezone=UTC,
            job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None},
        )
        self._running: set[asyncio.Task[Any]] = set()
        self.stopping = False
        self.failing: dict[str, str] = {}

    def add(self, jobs: Sequence[Job]) -> None:
        """Call it before :meth:`start`."""
        for job in jobs:
            self._scheduler.add_job(self._run, _Every(job.every), args=[job], id=job.name)

    def start(self) -> None:
        self._scheduler.start()
        self._guard = asyncio.create_task(self._watch(), name="scheduler-guard")

    async def _watch(self) -> None:
        """Run all jobs at once when their planned times are no longer valid."""
        known = self._turns()
        while True:
            await asyncio.sleep(GLANCE)
            try:
                if (turns := self._turns()) != known:
                    known = turns
                    for job in self._scheduler.get_jobs():
                        job.modify(next_run_time=_LONG_AGO)
            except Exception:
                log.exception("the guard of the jobs failed", action="guard-failed")

    async def _run(self, job: Job) -> None:
        if self.stopping:
            return
        task = asyncio.current_task()
        assert task is not None
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        now = self._clock()
        try:
            await job.run(now)
        except errors.SigmgrError as error:
            self._failed(job, error.code)
        except Exception as error:
            self._failed(job, type(error).__name__)
            log.exception("a job failed", action="job-failed", job=job.name)
        else:
            if self.failing.pop(job.name, None):
                log.info("a job is well again", action="job-recovered", job=job.name)
            RUNS.labels(job.name, "ok").inc()
            LAST_SUCCESS.labels(job.name).set(now)

    def _failed(self, job: Job, code: str) -> None:
        """Log once per kind of failure, count every failure."""
        RUNS.labels(job.name, "failed").inc()
        if self.failing.get(job.name) != code:
            self.failing[job.name] = code
            log.warning(
                "a job cannot do its work; it is tried again at every tick",
                action="job-failing",
                job=job.name,
                code=code,
            )

    async def stop(self, within: float = 10.0) -> None:
        """Start no new runs; let running ones finish for at most ``within`` seconds, then cancel
        them and go on a second later, whatever they still wait for."""
        self.stopping = True
        if self._guard is not None:
            self._guard.cancel()
        self._scheduler.pause()
        if self._running:
            _, late = await asyncio.wait(self._running, timeout=within)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late, timeout=_TO_END)
        # With ``wait`` it would cancel running jobs.
        self._scheduler.shutdown(wait=False)
