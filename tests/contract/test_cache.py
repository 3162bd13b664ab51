"""The cache's contract, over fakeredis and over a real server, in both protocols."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sigmgr.cache.client import RedisParts
from sigmgr.keys.cached import CachedValues
from sigmgr.model import errors, redis_layout
from sigmgr.model.event import EventType
from sigmgr.model.holder import Holder
from sigmgr.model.values import decode
from sigmgr.ports import Announcement, Announcer, SigCache
from tests.contract.cache_kit import (
    DAY,
    LAYOUT,
    NOW,
    PLAIN,
    SEALED,
    Both,
    cache_over,
    current,
    event,
    holder,
    opened,
    raw,
    renewed,
    revoked,
    shard_mates,
)

ALICE = holder("alice")
BOB = holder("bob")


@pytest.fixture(params=["memory-2", "memory-3", "real-2", "real-3"])
async def redis(request: pytest.FixtureRequest) -> AsyncIterator[RedisParts]:
    where, _, protocol = request.param.partition("-")
    url = request.getfixturevalue("redis_url") if where == "real" else "memory://"
    async with opened(url, protocol=int(protocol)) as parts:
        yield parts


@pytest.fixture(params=[SEALED, PLAIN], ids=["sealed", "plain"])
def values(request: pytest.FixtureRequest) -> CachedValues:
    made: CachedValues = request.param
    return made


@pytest.fixture
def cache(redis: RedisParts, values: CachedValues) -> Both:
    return cache_over(redis, values=values)


async def test_it_is_a_cache_and_an_announcer(cache: Both, redis: RedisParts) -> None:
    sigs: SigCache = cache.sigs
    announcer: Announcer = cache.announcer
    assert (await sigs.get([]), await announcer.announce([], NOW)) == ([], [])
    assert abs(await redis.time() - await redis.time()) < 60


async def test_what_was_put_comes_back_in_the_order_asked(cache: Both) -> None:
    sigs = [current(holder(f"user{i}")) for i in range(50)]
    await cache.put(sigs, NOW)
    asked = [sig.holder for sig in sigs] + [BOB]
    random.shuffle(asked)
    by_holder = {sig.holder: sig for sig in sigs}
    assert await cache.get(asked) == [by_holder.get(one) for one in asked]
    assert await cache.get([sigs[3].holder]) == [sigs[3]]
    assert await cache.get([BOB]) == [None]
    assert await cache.get([]) == []


async def test_more_than_a_chunk(cache: Both) -> None:
    sigs = [current(holder(f"user{i}")) for i in range(1003)]
    await cache.put(sigs, NOW)
    assert await cache.get([sig.holder for sig in sigs]) == sigs
    batch = [renewed(sig.holder, NOW + (i % 2)) for i, sig in enumerate(sigs)]
    assert await cache.announce(batch, NOW) == [i % 2 == 0 for i in range(1003)]


async def test_kinds_and_rooms_of_a_user_do_not_mix(cache: Both) -> None:
    whose = [
        holder("alice"),
        holder("alice", kind="admin"),
        holder("alice", kind="room", scope="id:1"),
        holder("alice", kind="room", scope="name:1"),
        holder("alice/room/id:1"),
        Holder(2, "alice"),
    ]
    sigs = [current(one, NOW + i) for i, one in enumerate(whose)]
    await cache.put(sigs, NOW + 10)
    assert await cache.get(whose) == sigs


async def test_only_a_newer_sig_replaces(cache: Both) -> None:
    second = current(ALICE, NOW + 5)
    await cache.put([second], NOW)
    await cache.put([current(ALICE, NOW), current(ALICE, NOW + 5, key_id=9)], NOW)
    assert await cache.get([ALICE]) == [second]
    third = current(ALICE, NOW + 6)
    await cache.put([third, current(ALICE, NOW + 1)], NOW)
    assert await cache.get([ALICE]) == [third]


@pytest.mark.parametrize("issued", [255, 256, 65535, 65536, 2**24, 2**31, 2**32 - 2])
async def test_newer_is_a_comparison_of_numbers(cache: Both, issued: int) -> None:
    """Not of text in some locale, and not of signed numbers."""
    older, newer = (current(ALICE, at, expires_at=2**32 - 1, ttl=1) for at in (issued, issued + 1))
    for order in ([older, newer], [newer, older]):
        await cache.drop([ALICE])
        for sig in order:
            await cache.put([sig], 1)
        assert await cache.get([ALICE]) == [newer]


async def test_a_sig_that_may_not_be_served_is_not_kept(cache: Both, redis: RedisParts) -> None:
    until = current(ALICE).expires_at - DAY
    await cache.put([current(ALICE)], until)
    assert await cache.announce([renewed(ALICE, NOW, current(ALICE))], until) == [True]
    assert await cache.get([ALICE]) == [None]
    await cache.put([current(ALICE)], until - 1)
    assert await cache.get([ALICE]) == [current(ALICE)]
    assert 0 < await raw(redis, "PTTL", LAYOUT.sig_key(ALICE)) <= 1000


async def test_one_that_may_not_be_served_keeps_no_other_out(cache: Both) -> None:
    old, new = current(ALICE), current(BOB, NOW + DAY)
    await cache.put([old, new], old.expires_at - DAY)
    assert await cache.get([ALICE, BOB]) == [None, new]


async def test_an_entry_ends_with_its_time(cache: Both) -> None:
    await cache.put([current(ALICE)], current(ALICE).expires_at - DAY - 1)
    await asyncio.sleep(1.1)
    assert await cache.get([ALICE]) == [None]


async def test_a_tombstone_keeps_older_sigs_out(cache: Both, redis: RedisParts) -> None:
    await cache.put([current(ALICE, NOW)], NOW)
    assert await cache.announce([revoked(ALICE, NOW)], NOW) == [True]
    assert await cache.get([ALICE]) == [None]
    assert await cache.get([ALICE, BOB]) == [None, None]
    await cache.put([current(ALICE, NOW - 1), current(ALICE, NOW)], NOW)
    assert await cache.get([ALICE]) == [None]
    assert await cache.announce([renewed(ALICE, NOW), renewed(ALICE, NOW + 1)], NOW) == [
        True,
        False,
    ]
    assert await raw(redis, "PTTL", LAYOUT.sig_key(ALICE)) > 3_500_000
    await cache.put([current(ALICE, NOW + 1)], NOW)
    assert await cache.get([ALICE]) == [current(ALICE, NOW + 1)]
    assert cache.damaged == 0


async def test_a_revocation_announced_late_spares_the_newer_sig(cache: Both) -> None:
    newer = current(ALICE, NOW + 3)
    await cache.put([newer], NOW)
    assert await cache.announce([revoked(ALICE, NOW + 2)], NOW) == [True]
    assert await cache.get([ALICE]) == [newer]


async def test_announcing_reports_what_is_missing(cache: Both) -> None:
    sigs = [current(holder(f"user{i}"), NOW) for i in range(6)]
    await cache.put(sigs[:2], NOW)
    batch = [
        renewed(sigs[0].holder, NOW),  # cached
        renewed(sigs[1].holder, NOW + 1),  # cached, but older
        renewed(sigs[2].holder, NOW),  # not cached
        renewed(sigs[3].holder, NOW, sigs[3]),  # given
        renewed(sigs[0].holder, NOW - 5),  # late: a newer one is there
        *[
            Announcement(event(sigs[5].holder, kind=quiet.value), None)
            for quiet in EventType
            if quiet not in (EventType.ISSUED, EventType.RENEWED)
        ],
    ]
    assert (await cache.announce(batch, NOW))[:5] == [True, False, False, True, True]
    assert all((await cache.announce(batch, NOW))[5:])
    found = await cache.get([sig.holder for sig in sigs[:5]])
    assert found == [sigs[0], sigs[1], None, sigs[3], None]


async def test_nothing_is_derived_for_what_has_expired(cache: Both) -> None:
    assert await cache.announce([renewed(ALICE, NOW)], NOW + 90 * DAY) == [True]


async def test_the_stream_holds_facts_and_no_sig(cache: Both, redis: RedisParts) -> None:
    sig = current(ALICE)
    await cache.announce([renewed(ALICE, NOW, sig), renewed(ALICE, NOW + 1)], NOW)
    entries = await raw(redis, "XRANGE", LAYOUT.stream_key(LAYOUT.shard(ALICE)), "-", "+")
    [events] = [
        redis_layout.decode_events(fields[redis_layout.EVENT_FIELD]) for _, fields in entries
    ]
    assert events == [event(ALICE), event(ALICE, NOW + 1)]
    assert sig.usersig not in repr(entries)


async def message(pubsub: Any, values: CachedValues) -> redis_layout.ChannelMessage:
    data = (await pubsub.get_message(timeout=5))["data"]
    return redis_layout.decode_message(data, partial(values.open_message, LAYOUT.shard(ALICE)))


async def test_a_message_brings_only_sigs_that_were_put(
    cache: Both, redis: RedisParts, values: CachedValues
) -> None:
    await cache.announce([renewed(ALICE, NOW, current(ALICE)), revoked(BOB, NOW)], NOW)
    pubsub = await redis.pubsub()
    await pubsub.subscribe(LAYOUT.channel(LAYOUT.shard(ALICE)))
    assert (await pubsub.get_message(timeout=5))["type"] == "subscribe"
    for at in (NOW, NOW - 1, NOW + 1):
        await cache.announce([renewed(ALICE, at, current(ALICE, at))], NOW)
    answer = [await message(pubsub, values) for _ in range(3)]
    await pubsub.aclose()
    sigs = [one.sigs for one in answer]
    assert sigs[:2] == [[b""], [b""]]
    assert decode(ALICE, sigs[2][0]) == current(ALICE, NOW + 1)


async def test_sigs_of_any_length_share_a_call(cache: Both, redis: RedisParts) -> None:
    mates = shard_mates(LAYOUT.shard(ALICE), 30)
    sigs = [current(one)._replace(usersig="x" * (8 + 20 * i)) for i, one in enumerate(mates)]
    batch = [renewed(sig.holder, NOW, sig) for sig in sigs]
    batch[3] = renewed(mates[3], NOW)
    batch[7] = revoked(mates[7], NOW)
    shown = [i != 3 for i in range(30)]
    assert await cache.announce(batch, NOW) == shown
    assert await cache.get(mates) == [None if i in (3, 7) else sig for i, sig in enumerate(sigs)]


async def test_the_stream_is_trimmed(redis: RedisParts) -> None:
    cache = cache_over(redis, stream_length=100)
    for i in range(400):
        await cache.announce([renewed(ALICE, NOW + i)], NOW)
    assert await raw(redis, "XLEN", LAYOUT.stream_key(LAYOUT.shard(ALICE))) < 250


async def test_the_stream_forgets_what_is_old(redis: RedisParts) -> None:
    """By the ids, which the server's clock makes; whole nodes of a stream go at once."""
    stream = LAYOUT.stream_key(LAYOUT.shard(ALICE))
    for i in range(1, 401):
        await raw(redis, "XADD", stream, f"{i}-0", "e", redis_layout.encode_events([event(ALICE)]))
    many = {"stream_length": 1000}
    await cache_over(redis, stream_seconds=10**10, **many).announce([renewed(ALICE, NOW)], NOW)
    assert await raw(redis, "XLEN", stream) > 400
    await cache_over(redis, **many).announce([renewed(ALICE, NOW)], NOW)
    assert await raw(redis, "XLEN", stream) < 250


async def test_a_message_names_what_was_before_it(
    cache: Both, redis: RedisParts, values: CachedValues
) -> None:
    shard = LAYOUT.shard(ALICE)
    mates = shard_mates(shard, 20)
    pubsub = await redis.pubsub()
    await pubsub.subscribe(LAYOUT.channel(shard))
    assert (await pubsub.get_message(timeout=5))["type"] == "subscribe"
    await cache.announce([renewed(ALICE, NOW, current(ALICE))], NOW)
    given = [renewed(one, NOW, current(one)) for one in mates[:10]]
    await cache.announce([*given, *map(renewed, mates[10:])], NOW)
    first, second = [await message(pubsub, values) for _ in range(2)]
    await pubsub.aclose()
    assert first.previous == redis_layout.NO_ID < first.last == second.previous < second.last
    assert first.events == [event(ALICE)]
    assert second.events == [event(one) for one in mates]
    assert [decode(ALICE, sig) for sig in first.sigs] == [current(ALICE)]
    assert [*map(decode, mates, second.sigs[:10])] == [*map(current, mates[:10])]
    assert second.sigs[10:] == [b""] * 10
    entries = await raw(redis, "XRANGE", LAYOUT.stream_key(shard), "-", "+")
    ids = [redis_layout.parse_id(entry_id) for entry_id, _ in entries]
    assert (ids[0], ids[-1], len(ids)) == (first.last, second.last, 2)


async def test_a_wiped_server_is_an_empty_cache(cache: Both, redis: RedisParts) -> None:
    await cache.put([current(ALICE)], NOW)
    await cache.announce([renewed(ALICE)], NOW)
    await raw(redis, "FLUSHALL")
    await raw(redis, "SCRIPT", "FLUSH")
    assert await cache.get([ALICE]) == [None]
    batch = [renewed(holder(f"user{i}")) for i in range(40)]
    assert await cache.announce(batch, NOW) == [False] * 40
    await raw(redis, "SCRIPT", "FLUSH")
    await cache.put([current(ALICE), current(BOB)], NOW)
    assert await cache.get([ALICE, BOB]) == [current(ALICE), current(BOB)]


@pytest.mark.parametrize(
    "junk", [b"", b"\x01", b"hello", b"\x02" + b"x" * 60, b"\x01" + b"\xff" * 60, b"\x00" * 200]
)
async def test_damage_is_a_miss_and_is_counted(cache: Both, redis: RedisParts, junk: bytes) -> None:
    await raw(redis, "SET", LAYOUT.sig_key(ALICE), junk)
    assert await cache.get([ALICE]) == [None]
    assert cache.damaged == 1


async def test_another_versions_value_is_written_over(
    cache: Both, redis: RedisParts, values: CachedValues
) -> None:
    value = values.encode(current(ALICE, NOW + 100))
    await raw(redis, "SET", LAYOUT.sig_key(ALICE), b"\x09" + value[1:])
    await cache.put([current(ALICE)], NOW)
    assert await cache.get([ALICE]) == [current(ALICE)]


async def test_a_key_of_another_type_is_unavailable_not_a_crash(
    cache: Both, redis: RedisParts
) -> None:
    await raw(redis, "LPUSH", LAYOUT.sig_key(ALICE), "x")
    sig = current(ALICE)
    for call in (cache.get([ALICE]), cache.put([sig], NOW)):
        with pytest.raises(errors.CacheUnavailable) as failure:
            await call
        assert failure.value.__cause__ is not None
        assert sig.usersig not in f"{failure.value} {failure.value.__cause__}"
    assert not redis.breaker.refuses()
    await cache.ping()


async def test_two_hundred_gets_at_once(cache: Both) -> None:
    sigs = [current(holder(f"user{i}")) for i in range(200)]
    await cache.put(sigs, NOW)
    found = await asyncio.gather(*(cache.get([sig.holder]) for sig in sigs))
    assert [one for [one] in found] == sigs


async def test_cancelled_calls_leave_no_answer_behind(cache: Both) -> None:
    """An answer that nobody took must not be read as the next command's."""
    sigs = [current(holder(f"user{i}")) for i in range(60)]
    await cache.put(sigs, NOW)
    for turns in range(12):
        tasks = [asyncio.create_task(cache.get([sig.holder])) for sig in sigs]
        tasks += [asyncio.create_task(cache.get([s.holder for s in sigs]))]
        for _ in range(turns):
            await asyncio.sleep(0)
        for task in tasks[::2]:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        found = await asyncio.gather(*(cache.get([sig.holder]) for sig in sigs))
        assert [one for [one] in found] == sigs


steps = st.lists(
    st.tuples(
        st.sampled_from(["put", "announce", "announce-with", "revoke"]),
        st.integers(0, 2),
        st.integers(0, 6),
    ),
    min_size=1,
    max_size=14,
)


@settings(max_examples=25)
@given(steps=steps, seed=st.integers(0, 2**32))
@pytest.mark.parametrize("kind", ["memory", "real"])
def test_the_newest_wins_in_any_order(
    kind: str, steps: list[tuple[str, int, int]], seed: int, request: pytest.FixtureRequest
) -> None:
    """Whatever is done at once, by two clients: at the end each holder has its newest word."""
    url = request.getfixturevalue("redis_server").url if kind == "real" else f"memory://{seed}"
    users = [holder(f"user{i}") for i in range(3)]

    async def do(cache: Both, what: str, user: int, later: int) -> None:
        sig = current(users[user], NOW + later)
        if what == "put":
            await cache.put([sig], NOW)
        elif what == "revoke":
            await cache.announce([revoked(users[user], NOW + later)], NOW)
        else:
            given = sig if what == "announce-with" else None
            [shown] = await cache.announce([renewed(users[user], NOW + later, given)], NOW)
            if not shown:
                await cache.put([sig], NOW)

    async def scenario() -> None:
        async with opened(url) as one, opened(url) as two:
            await raw(one, "FLUSHALL")
            caches = [cache_over(one), cache_over(two)]
            order = random.Random(seed)
            tasks = [asyncio.create_task(do(order.choice(caches), *step)) for step in steps]
            await asyncio.gather(*tasks)
            for number, found in enumerate(await caches[0].get(users)):
                sigs = [at for what, user, at in steps if user == number and what != "revoke"]
                dead = [at for what, user, at in steps if user == number and what == "revoke"]
                best = max(sigs, default=-1)
                alive = best > max(dead, default=-1)
                assert found == (current(users[number], NOW + best) if alive else None)

    asyncio.run(scenario())
