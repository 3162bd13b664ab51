"""APScheduler turned into ``tick(now)`` calls. No rule lives here.

One interval job per task, in one process; due times lie in our own tables, so a job that
runs late finds all that is due and nothing is lost. Three defaults of APScheduler 3.11 would
bite and are set here: a run more than one second late is dropped (``misfire_grace_time``),
``shutdown`` cancels coroutines that run, and its errors go to a log only.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple

from apscheduler.schedulers.asyncio import AsyncIOScheduler

from sigmgr.model import errors
from sigmgr.ports import Clock
from sigmgr.telemetry import LAST_SUCCESS, RUNS, get_logger

log = get_logger("sigmgr.scheduler")


class Job(NamedTuple):
    """``run(now)`` every ``every`` seconds, never twice at once in this process."""

    name: str
    every: float
    run: Callable[[int], Awaitable[Any]]


class Ticker:
    """Calls jobs with the time of the clock it was given."""

    def __init__(self, clock: Clock) -> None:
        self._jobs: list[Job] = []
        self._clock = clock
        self._scheduler: Any = AsyncIOScheduler()
        self._running: set[asyncio.Task[None]] = set()
        self.stopping = False
        self.failing: dict[str, str] = {}

    def add(self, jobs: Sequence[Job]) -> None:
        """Before :meth:`start`."""
        self._jobs.extend(jobs)

    def start(self) -> None:
        for job in self._jobs:
            self._scheduler.add_job(
                self._spawn,
                "interval",
                seconds=job.every,
                args=[job],
                id=job.name,
                coalesce=True,
                max_instances=1,
                misfire_grace_time=None,
            )
        self._scheduler.start()

    async def _spawn(self, job: Job) -> None:
        """Run in a task of our own: the scheduler's are cancelled when it shuts down."""
        if self.stopping:
            return
        task = asyncio.create_task(self._run(job))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        await asyncio.shield(task)

    async def _run(self, job: Job) -> None:
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
        """Say it once per kind of failure, count it every time."""
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
        """No new runs; let what runs finish, at most ``within`` seconds, then cancel it."""
        self.stopping = True
        self._scheduler.pause()
        running = set(self._running)
        if running:
            _, late = await asyncio.wait(running, timeout=within)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        self._scheduler.shutdown(wait=False)
