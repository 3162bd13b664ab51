"""The periodic jobs of a serving process, and what they report of its parts."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from typing import Final

from sigmgr.cache import probe as cache_probe
from sigmgr.cache.client import RedisParts
from sigmgr.cache.near import NearCache
from sigmgr.flow.look import PART as LOOK
from sigmgr.flow.look import Look
from sigmgr.health import OK, Health
from sigmgr.http.auth import Auth
from sigmgr.http.services import WORKER
from sigmgr.model import errors
from sigmgr.scheduler import Job
from sigmgr.store import probe as store_probe
from sigmgr.wiring.clock import monotonic_seconds
from sigmgr.wiring.parts import Parts

#: The name of the clocks for ``Health``.
_CLOCK: Final = "clock"
_REPORT_EVERY: Final = 1.0


def jobs_of(parts: Parts, roles: frozenset[str], stopping: Callable[[], bool]) -> list[Job]:
    every, flows, base = parts.base.settings.scheduler, parts.flows, parts.base

    async def refresh(_: int) -> None:
        await base.apps.refresh()
        await base.ring.refresh()

    async def renew(now: int) -> None:
        # A few turns, so that work that has become due, emergencies first, need not wait.
        await flows.renew.tick(now, turns=5, stopping=stopping)

    async def relay(now: int) -> None:
        while await flows.relay.sweep(now):
            if stopping():
                return

    async def number(now: int) -> None:
        await flows.relay.number(now, stopping=stopping)

    jobs = [
        Job("refresh", every.refresh_every, refresh),
        Job("seen", every.seen_every, flows.seen.flush),
        Job("count", every.refresh_every, flows.newcomers.measure),
    ]
    if WORKER in roles:
        jobs += [
            Job("renew", every.renew_every, renew),
            Job("relay", every.relay_every, relay),
            Job("number", every.relay_every, number),
            Job("warn", every.warn_every, flows.warn.tick),
            Job("reconcile", every.reconcile_every, flows.reconcile.step),
            Job("clean-up", every.clean_up_every, flows.reconcile.clean_up),
            Job("measure", every.reconcile_every, flows.relay.measure),
        ]
    return jobs


def look_of(
    parts: Parts, health: Health, near: NearCache[bytes] | None, tokens: Auth, *, vital: bool
) -> Look:
    """``vital``: this process serves callers who must not get what was revoked."""
    base, settings = parts.base, parts.base.settings
    grace = math.ceil(settings.revocation.grace)

    def trust(_: float) -> None:
        if near is not None:
            near.trust(base.clock() + grace)

    def forget_answers() -> None:
        if near is not None:
            near.resync(0)

    health.expect(LOOK, silent_after=5 * settings.scheduler.look_every + 5, vital=vital)
    return Look(
        looks=base.looks,
        revocations=base.revocations,
        signer=base.ring,
        monotonic=monotonic_seconds(),
        answered=base.clock.observe,
        tokens=tokens.looked,
        learned=trust,
        keys_changed=forget_answers,
        health=health,
    )


def clock_job(parts: Parts, health: Health, near: NearCache[bytes] | None) -> Job:
    """Reports the clocks, and compares with Redis's where two differ."""
    clock, redis = parts.base.clock, parts.redis
    assert redis is not None
    health.expect(_CLOCK, silent_after=10 * _REPORT_EVERY)

    def forget_answers() -> None:
        """After a jump of the date the entries' seconds are wrong, so all are dropped."""
        if near is not None:
            near.resync(0)
            near.trust(0)

    clock.on_new_date(forget_answers)

    async def report(_: int) -> None:
        clock.compare_with_redis(await _time_of(redis) if clock.apart else None)
        health.report(_CLOCK, clock.health())

    return Job("clock", _REPORT_EVERY, report)


async def _time_of(redis: RedisParts) -> float | None:
    try:
        return await redis.time()
    except errors.CacheUnavailable:
        return None


async def probe_jobs(parts: Parts, health: Health) -> list[Job]:
    """One job for each part. Each has run once when this returns, so that the first report is
    true."""
    every, redis = parts.base.settings.scheduler.probe_every, parts.redis
    assert redis is not None
    jobs = []
    for part, ask, without in (
        ("database", lambda: store_probe.probe(parts.base.engine), store_probe.WITHOUT),
        ("redis", lambda: cache_probe.probe(redis, parts.layout), cache_probe.WITHOUT),
    ):
        # Three missed runs, and the seconds of the longest.
        health.expect(part, silent_after=3 * every + 15.0)
        jobs.append(Job(f"probe-{part}", every, _reporting(health, part, ask, without)))
    await asyncio.gather(*(job.run(0) for job in jobs))
    return jobs


def _reporting(
    health: Health, part: str, ask: Callable[[], Awaitable[str]], without: str
) -> Callable[[int], Awaitable[None]]:
    """``ask`` answers what is wrong; ``without`` is what the process does meanwhile."""

    async def report(_: int) -> None:
        wrong = await ask()
        health.report(part, f"degraded: {wrong}: {without}" if wrong else OK)

    return report
