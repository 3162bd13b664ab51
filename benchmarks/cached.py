"""Bytes that a cached sig takes in Redis, against the length of its string.

Measured: the growth of ``used_memory`` over 100,000 sigs put by ``RedisSigCache.put`` into an empty
Valkey: key, value, expiry and the server's own tables, divided by their number. Nothing is
timed. User ids have 11 characters.
"""

from __future__ import annotations

import asyncio
import time

from benchmarks.rows import Options, Row
from benchmarks.stage import SDKAPPID, SECRET, redis_over, valkey
from sigmgr.cache.client import open_redis
from sigmgr.model import usersig
from sigmgr.model.holder import Holder
from sigmgr.model.policy import FULL_LIFE
from sigmgr.model.sig import Current, Reason, SigFacts
from sigmgr.model.usersig.secret import load_secret

COUNT = 100_000


def cache_bytes(_: Options) -> Row:
    """Length of the string / bytes taken."""
    valkey().wipe()
    now = int(time.time())
    sigs = made(now, COUNT)
    before = _used()
    asyncio.run(_put(sigs, now))
    kept = int(valkey().command("DBSIZE").lstrip(":"))
    if kept != COUNT:
        raise RuntimeError(f"{kept} of {COUNT} sigs are cached")
    taken = (_used() - before) / COUNT
    length = sum(len(one.usersig) for one in sigs) / COUNT
    valkey().wipe()
    return Row(
        "cache-bytes",
        length / taken,
        f"{taken:.0f} bytes for a v2 sig of {length:.0f} characters, over {COUNT:,} keys",
    )


def made(issued_at: int, count: int) -> list[Current]:
    """v2 sigs of the app's users user0000001 ..., issued in one second."""
    key = load_secret(SECRET.decode())
    found = []
    for i in range(1, count + 1):
        facts = SigFacts(Holder(SDKAPPID, f"user{i:07}"), "v2", 1, issued_at, FULL_LIFE)
        found.append(
            Current(
                facts.holder,
                facts.format,
                facts.key_id,
                issued_at,
                facts.expires_at,
                issued_at + FULL_LIFE * 2 // 3,
                usersig.sign(facts, key),
                Reason.NEARING_EXPIRY.value,
            )
        )
    return found


async def _put(sigs: list[Current], now: int) -> None:
    redis = await open_redis(valkey().url, monotonic=time.monotonic, total_timeout=30)
    try:
        cache, _ = redis_over(redis)
        await cache.put(sigs, now)
    finally:
        await redis.aclose()


def _used() -> int:
    for line in valkey().command("INFO", "memory").splitlines():
        if line.startswith("used_memory:"):
            return int(line.partition(":")[2])
    raise RuntimeError("the server does not tell its memory")
