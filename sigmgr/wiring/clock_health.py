"""Reports the state of the clocks in a serving process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from sigmgr.cache.client import RedisParts
from sigmgr.cache.near import NearCache
from sigmgr.health import Health
from sigmgr.model import errors
from sigmgr.scheduler import Job
from sigmgr.wiring.parts import Parts

#: The name of this part for ``Health``.
PART: Final = "clock"
_REPORT_EVERY: Final = 1.0


def clock_job(parts: Parts, health: Health, near: NearCache[bytes] | None) -> Job:
    """Reports the clocks, and compares with Redis's where two differ."""
    clock, redis = parts.base.clock, parts.redis
    assert redis is not None
    health.expect(PART, silent_after=10 * _REPORT_EVERY)
    if near is not None:
        clock.on_new_date(_forgetting(near))

    async def report(_: int) -> None:
        clock.compare_with_redis(await _time_of(redis) if clock.apart else None)
        health.report(PART, clock.health())

    return Job("clock", _REPORT_EVERY, report)


async def _time_of(redis: RedisParts) -> float | None:
    try:
        return await redis.time()
    except errors.CacheUnavailable:
        return None


def _forgetting(near: NearCache[bytes]) -> Callable[[], None]:
    """After a jump of the date the entries' seconds are wrong, so all are dropped."""

    def forget() -> None:
        near.resync(0)
        near.trust(0)

    return forget
