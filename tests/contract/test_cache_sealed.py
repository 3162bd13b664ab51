"""Sealed values beside processes that know no seal: whoever writes, the newest stays, and
nobody reads anything but the sig that was put."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from sigmgr.cache.client import RedisParts
from sigmgr.keys.cached import CachedValues
from sigmgr.keys.sealing import MasterKey
from sigmgr.model import errors, values
from sigmgr.model.sig import Current
from sigmgr.ports import Announcement
from tests.contract.cache_kit import (
    DAY,
    LAYOUT,
    NOW,
    PLAIN,
    SEALED,
    cache_over,
    current,
    holder,
    opened,
    raw,
    renewed,
    revoked,
)
from tests.contract.unsealed import UnsealedCache

ALICE = holder("alice")
KEY = LAYOUT.sig_key(ALICE)


@pytest.fixture(params=["memory", "real"])
async def redis(request: pytest.FixtureRequest) -> AsyncIterator[RedisParts]:
    url = "memory://" if request.param == "memory" else request.getfixturevalue("redis_url")
    async with opened(url) as parts:
        yield parts


# -- whoever writes --------------------------------------------------------------------------

writers = st.sampled_from(["old", "plain", "sealed"])
steps = st.lists(
    st.tuples(writers, st.sampled_from(["put", "announce", "revoke", "get"]), st.integers(0, 5)),
    max_size=14,
)


class Expected:
    """What must lie in Redis: the newest second, and what is there of it."""

    def __init__(self) -> None:
        self.at, self.what = -1, "nothing"

    def put(self, writer: str, at: int) -> None:
        if at > self.at:
            self.at, self.what = at, "sealed" if writer == "sealed" else "plain"

    def bury(self, at: int) -> None:
        if at >= self.at:
            self.at, self.what = at, "tombstone"

    def read(self, reader: str) -> Current | None:
        """With the seal a value without one counts for nothing, and a tombstone of the second
        before makes room; the version before takes a sealed one for nothing, and leaves it."""
        if self.what == "plain" and reader == "sealed":
            self.at, self.what = self.at - 1, "tombstone"
        if self.what == "plain" or (self.what == "sealed" and reader != "old"):
            return current(ALICE, NOW + self.at)
        return None


class Fleet:
    """Three processes over one Redis: the version before, and ours without and with a seal."""

    def __init__(self, redis: RedisParts) -> None:
        self._old = UnsealedCache(redis, LAYOUT)
        self._ours = {
            "plain": cache_over(redis, values=PLAIN),
            "sealed": cache_over(redis, values=SEALED),
        }

    async def put(self, who: str, sig: Current) -> None:
        if who == "old":
            await self._old.put(sig, DAY)
        else:
            await self._ours[who].put([sig], NOW)

    async def announce(self, who: str, what: Announcement) -> bool:
        if who == "old":
            return await self._old.announce(what, DAY)
        [shown] = await self._ours[who].announce([what], NOW)
        return shown

    async def get(self, who: str) -> Current | None:
        if who == "old":
            return await self._old.get(ALICE)
        [found] = await self._ours[who].get([ALICE])
        return found


async def check(redis: RedisParts, some: list[tuple[str, str, int]]) -> None:
    await raw(redis, "FLUSHALL")
    fleet, expected = Fleet(redis), Expected()
    for who, what, at in some:
        sig = current(ALICE, NOW + at)
        if what == "put":
            await fleet.put(who, sig)
            expected.put(who, at)
        elif what == "announce":
            assert await fleet.announce(who, renewed(ALICE, sig.issued_at, sig)) is True
            expected.put(who, at)
        elif what == "revoke":
            await fleet.announce(who, revoked(ALICE, NOW + at))
            expected.bury(at)
        else:
            assert await fleet.get(who) == expected.read(who)
        shown = await fleet.announce(who, renewed(ALICE, NOW + expected.at))
        assert shown is (expected.what != "nothing")
        value = await raw(redis, "GET", KEY)
        assert (value is not None) == (expected.what != "nothing")
        if value is not None:
            assert int.from_bytes(value[1:5], "big") == NOW + expected.at
            assert values.is_sealed(value) == (expected.what == "sealed")
    for reader in ("old", "plain", "sealed", "old"):
        assert await fleet.get(reader) == expected.read(reader)


@settings(max_examples=300, deadline=None)
@given(steps)
@example([("sealed", "put", 3), ("old", "put", 2), ("old", "announce", 1), ("old", "get", 0)])
@example([("old", "put", 3), ("sealed", "put", 2), ("sealed", "announce", 3)])
async def test_old_and_new_code_never_overwrite_newer_with_older(
    some: list[tuple[str, str, int]],
) -> None:
    async with opened("memory://") as parts:
        await check(parts, some)


@pytest.mark.parametrize("seed", range(12))
async def test_nor_on_a_real_server(redis_url: str, seed: int) -> None:
    import random

    draw = random.Random(seed)
    kinds = ["put", "announce", "revoke", "get"]
    some = [
        (draw.choice(["old", "plain", "sealed"]), draw.choice(kinds), draw.randrange(6))
        for _ in range(40)
    ]
    async with opened(redis_url) as parts:
        await check(parts, some)


# -- what is there and cannot be read --------------------------------------------------------

UNREADABLE: dict[str, Callable[[Current], bytes]] = {
    "of the version before": PLAIN.encode,
    "of another master key": CachedValues(MasterKey(b"x" * 32).derive, LAYOUT).encode,
    "of another holder": lambda sig: SEALED.encode(sig._replace(holder=holder("bob"))),
    "cut short": lambda sig: SEALED.encode(sig)[:-1],
}


@pytest.mark.parametrize("what", UNREADABLE)
async def test_it_makes_room_for_one_that_can(redis: RedisParts, what: str) -> None:
    """It has the same second as what is derived in its place, which is not newer."""
    cache, sig = cache_over(redis), current(ALICE)
    await raw(redis, "SET", KEY, UNREADABLE[what](sig))
    assert await cache.get([ALICE]) == [None]
    await cache.put([sig], NOW)
    assert await cache.get([ALICE]) == [sig]
    assert cache.damaged == 1


async def test_one_with_a_forged_second_keeps_its_place_for_a_minute_only(
    redis: RedisParts,
) -> None:
    forged = SEALED.encode(current(ALICE))[:1] + b"\xff" * 4 + SEALED.encode(current(ALICE))[5:]
    await raw(redis, "SET", KEY, forged)
    cache = cache_over(redis)
    assert await cache.get([ALICE]) == [None]
    assert 0 < await raw(redis, "TTL", KEY) <= 60


async def test_it_makes_no_room_for_an_older_one(redis: RedisParts) -> None:
    cache, older = cache_over(redis), current(ALICE, NOW - 1)
    await raw(redis, "SET", KEY, PLAIN.encode(current(ALICE)))
    assert await cache.get([ALICE]) == [None]
    await cache.put([older], NOW)
    assert await cache.announce([renewed(ALICE, NOW - 1, older)], NOW) == [True]
    assert await cache.get([ALICE]) == [None]
    assert await cache.announce([renewed(ALICE, NOW)], NOW) == [False]
    assert 0 < await raw(redis, "TTL", KEY) <= 60


async def test_many_at_once_make_room(redis: RedisParts) -> None:
    cache = cache_over(redis)
    sigs = [current(holder(f"user{i}")) for i in range(1100)]
    await cache_over(redis, values=PLAIN).put(sigs[:600], NOW)
    await cache.put(sigs[600:], NOW)
    asked = [sig.holder for sig in sigs]
    assert await cache.get(asked) == [None] * 600 + sigs[600:]
    await cache.put(sigs[:600], NOW)
    assert await cache.get(asked) == sigs


class Meanwhile:
    """A Redis in which something happens between one command and the next."""

    def __init__(self, redis: RedisParts, happens: Callable[[], Awaitable[Any]]) -> None:
        self._redis = redis
        self._happens = happens
        self._calls = 0
        self.cluster = False

    async def run(self, call: Callable[[Any], Awaitable[Any]]) -> Any:
        self._calls += 1
        if self._calls == 2:
            await self._happens()
        return await self._redis.run(call)


@pytest.mark.parametrize("what", ["a newer sig", "a tombstone"])
async def test_what_was_written_meanwhile_stays(redis: RedisParts, what: str) -> None:
    """Between the reading of a value that is of no use and what takes its place."""
    await raw(redis, "SET", KEY, PLAIN.encode(current(ALICE)))
    other, newer = cache_over(redis), current(ALICE, NOW + 1)

    async def happens() -> None:
        if what == "a newer sig":
            await other.put([newer], NOW)
        else:
            await other.announce([revoked(ALICE, NOW + 1)], NOW)

    slow = cache_over(Meanwhile(redis, happens))  # type: ignore[arg-type]
    assert await slow.get([ALICE]) == [None]
    await other.put([current(ALICE)], NOW)
    assert await other.get([ALICE]) == [newer if what == "a newer sig" else None]
    assert int.from_bytes((await raw(redis, "GET", KEY))[1:5], "big") == NOW + 1


async def test_a_redis_that_takes_no_writes_is_still_read(redis: RedisParts) -> None:
    """A replica refuses to make room; the get is a miss, not an error."""
    bob = current(holder("bob"))
    await cache_over(redis).put([bob], NOW)
    await raw(redis, "SET", KEY, PLAIN.encode(current(ALICE)))

    async def refuse() -> None:
        raise errors.CacheUnavailable

    frozen = cache_over(Meanwhile(redis, refuse))  # type: ignore[arg-type]
    assert await frozen.get([ALICE, bob.holder]) == [None, bob]


async def test_unread_ones_are_all_counted_and_only_the_first_are_logged(
    redis: RedisParts,
) -> None:
    cache, bob = cache_over(redis), holder("bob")
    for one in (ALICE, bob):
        await raw(redis, "SET", LAYOUT.sig_key(one), b"junk")
    with capture_logs() as lines:
        assert await cache.get([ALICE, bob]) == [None, None]
        assert await cache.get([bob]) == [None]
    assert [(line["action"], line["count"]) for line in lines] == [("unread", 2)]
    assert cache.damaged == 3
