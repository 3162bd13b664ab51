"""The probes of a serving process: whether database and Redis take reads and writes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple

from sigmgr.cache import probe as cache_probe
from sigmgr.health import OK, Health
from sigmgr.scheduler import Job
from sigmgr.store import probe as store_probe
from sigmgr.wiring.parts import Parts


class _Probe(NamedTuple):
    """``ask`` answers what is wrong; ``without`` is what the process does meanwhile."""

    part: str
    ask: Callable[[], Awaitable[str]]
    without: str

    async def state(self) -> str:
        wrong = await self.ask()
        return f"degraded: {wrong}: {self.without}" if wrong else OK


#: Missed runs before a part counts as silent.
_MISSED: Final = 3
#: Seconds of the longest run, in addition.
_LONGEST_RUN: Final = 15.0


async def probe_jobs(parts: Parts, health: Health) -> list[Job]:
    """One job for each part. Each has run once when this returns, so that the first report is
    true."""
    every = parts.base.settings.scheduler.probe_every
    jobs = []
    for probe in _probes(parts):
        health.expect(probe.part, silent_after=_MISSED * every + _LONGEST_RUN)
        jobs.append(Job(f"probe-{probe.part}", every, _reporting(probe, health)))
    await asyncio.gather(*(job.run(0) for job in jobs))
    return jobs


def _reporting(probe: _Probe, health: Health) -> Callable[[int], Awaitable[None]]:
    async def report(_: int) -> None:
        health.report(probe.part, await probe.state())

    return report


def _probes(parts: Parts) -> list[_Probe]:
    redis = parts.redis
    assert redis is not None
    return [
        _Probe("database", lambda: store_probe.probe(parts.base.engine), store_probe.WITHOUT),
        _Probe("redis", lambda: cache_probe.probe(redis, parts.layout), cache_probe.WITHOUT),
    ]
