"""What the cache and channel tests share: sigs, events, and an open cache over either Redis."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from hashlib import sha256
from typing import Any

from sigmgr.cache.announcer import RedisAnnouncer
from sigmgr.cache.client import RedisParts, open_redis
from sigmgr.cache.sigs import RedisSigCache
from sigmgr.keys.cached import CachedValues
from sigmgr.keys.sealing import MasterKey
from sigmgr.model import redis_layout
from sigmgr.model.event import Event, EventType
from sigmgr.model.holder import Holder
from sigmgr.model.sig import Current
from sigmgr.ports import Announcement

NOW = 1_900_000_000
DAY = 86_400
LAYOUT = redis_layout.Layout(shards=8)
APP = 1_400_000_001
MASTER = MasterKey(bytes(range(32)))
SEALED = CachedValues(MASTER.derive, LAYOUT)
PLAIN = CachedValues(MASTER.derive, LAYOUT, seal=False)

_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789*-"


def sig_text(seed: object, size: int = 180) -> str:
    """Looks like a sig: base64 in Tencent's alphabet."""
    stream = b"".join(sha256(f"{seed}/{i}".encode()).digest() for i in range(size // 32 + 1))
    return "".join(_ALPHABET[byte % 64] for byte in stream[:size])


def encode_message(
    previous: redis_layout.StreamId,
    last: redis_layout.StreamId,
    events: Sequence[Event],
    sigs: Sequence[bytes],
) -> bytes:
    """Builds what the announce script builds inside Redis."""
    body = redis_layout.encode_events(events)
    ids = map(redis_layout.format_id, (previous, last))
    line = f"{' '.join(ids)} {len(body)}\n".encode()
    flags = b"".join(b"2" if sig else b"1" for sig in sigs)
    return line + body + flags + redis_layout.encode_values(sigs)


def holder(userid: str = "alice", **more: Any) -> Holder:
    return Holder(APP, userid, **more)


def current(whose: Holder, issued_at: int = NOW, ttl: int = 90 * DAY, **more: Any) -> Current:
    made = Current(
        whose,
        "v2",
        7,
        issued_at,
        issued_at + ttl,
        issued_at + ttl * 2 // 3,
        sig_text((whose, issued_at)),
        "Missing",
    )
    return made._replace(**more)


def event(
    whose: Holder, issued_at: int = NOW, kind: str = EventType.RENEWED.value, **more: Any
) -> Event:
    return Event(kind, whose, issued_at, issued_at + 90 * DAY, "NearingExpiry", issued_at, **more)


def revoked(whose: Holder, at: int = NOW) -> Announcement:
    return Announcement(Event("sig.revoked", whose, at, 0, "Revoked", at), None)


def renewed(whose: Holder, issued_at: int = NOW, sig: Current | None = None) -> Announcement:
    return Announcement(event(whose, issued_at), sig)


def shard_mates(shard: int, count: int, layout: redis_layout.Layout = LAYOUT) -> list[Holder]:
    """Holders of one shard."""
    found: list[Holder] = []
    number = 0
    while len(found) < count:
        one = holder(f"user{number}")
        if layout.shard(one) == shard:
            found.append(one)
        number += 1
    return found


def serve_until(sig: Current) -> int:
    return sig.expires_at - DAY


@asynccontextmanager
async def opened(url: str, **options: Any) -> AsyncIterator[RedisParts]:
    """With limits that a busy machine does not reach; tests of limits give their own."""
    patient = {"socket_timeout": 10.0, "connect_timeout": 10.0, "total_timeout": 20.0}
    redis = await open_redis(url, **{"monotonic": time.monotonic, **patient, **options})
    try:
        yield redis
    finally:
        await redis.aclose()


class Both:
    """A cache and an announcer over one Redis, as a process has them."""

    def __init__(
        self, redis: RedisParts, layout: redis_layout.Layout = LAYOUT, **options: Any
    ) -> None:
        shared = {"values": SEALED, "serve_until": serve_until}
        shared |= {name: options.pop(name) for name in shared.keys() & options.keys()}
        self.redis, self.layout = redis, layout
        self.sigs = RedisSigCache(redis, layout, **shared)  # type: ignore[arg-type]
        self.announcer = RedisAnnouncer(redis, layout, **shared, **options)
        self.get, self.put = self.sigs.get, self.sigs.put
        self.announce = self.announcer.announce

    @property
    def damaged(self) -> int:
        return self.sigs.damaged

    async def ping(self) -> None:
        await self.redis.run(lambda client: client.ping())

    async def drop(self, holders: Sequence[Holder]) -> int:
        """Forget these; answers how many there were."""
        keys = [self.layout.sig_key(one) for one in holders]
        return sum([await self.redis.run(lambda c, key=key: c.delete(key)) for key in keys])


def cache_over(redis: RedisParts, **options: Any) -> Both:
    return Both(redis, **options)


async def raw(redis: RedisParts, *command: Any) -> Any:
    return await redis.run(lambda client: client.execute_command(*command))


async def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    """Wait for something that must come; the limit is no measure."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)


class Recorder:
    """A listener that records what it receives."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.sigs: list[bytes] = []
        self.lost: list[int] = []

    def receive(self, shard: int, events: Sequence[Event], sigs: Sequence[bytes] = ()) -> None:
        assert all(LAYOUT.shard(one.holder) == shard for one in events)
        assert len(sigs) in {0, len(events)}
        self.events += events
        self.sigs += sigs

    def resync(self, shard: int) -> None:
        self.lost.append(shard)
