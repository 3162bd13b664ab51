"""The shard channels on a real Redis: what is announced is received, what is lost is resynced."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from sigmgr.cache.client import RedisParts
from sigmgr.cache.near import NearCache
from sigmgr.model import redis_layout
from sigmgr.model.event import Event
from sigmgr.model.values import encode
from sigmgr.ports import Announcement
from sigmgr.push.shards import ShardChannels
from tests.contract.cache_kit import (
    LAYOUT,
    NOW,
    SEALED,
    Recorder,
    cache_over,
    current,
    encode_message,
    event,
    holder,
    opened,
    raw,
    renewed,
    revoked,
    shard_mates,
    until,
)
from tests.contract.test_cache_client import Seconds, own_server  # noqa: F401 - a fixture

ALICE = holder("alice")
SHARD = LAYOUT.shard(ALICE)
STREAM = LAYOUT.stream_key(SHARD)
CHANNEL = LAYOUT.channel(SHARD)
MATES = shard_mates(SHARD, 40)


@asynccontextmanager
async def listening(redis: RedisParts, *listeners: Any, **options: Any) -> AsyncIterator[Any]:
    channels = ShardChannels(redis, LAYOUT, **{"draw": random.random, "ping_after": 0.2, **options})
    for listener in listeners:
        channels.add(listener)
    channels.start()
    try:
        await until(lambda: channels.connected)
        yield channels
    finally:
        await channels.aclose()


@pytest.fixture(params=["memory-2", "memory-3", "real-2", "real-3"])
async def redis(request: pytest.FixtureRequest) -> AsyncIterator[RedisParts]:
    where, _, protocol = request.param.partition("-")
    url = request.getfixturevalue("redis_url") if where == "real" else "memory://"
    async with opened(url, protocol=int(protocol)) as parts:
        yield parts


async def unpublished(redis: RedisParts, *events: Event) -> None:
    """In the stream, but the message got lost."""
    for one in events:
        data = redis_layout.encode_events([one])
        await raw(redis, "XADD", LAYOUT.stream_key(LAYOUT.shard(one.holder)), "*", "e", data)


async def test_everything_announced_is_received_once_and_in_order(redis: RedisParts) -> None:
    cache, recorder, other = cache_over(redis), Recorder(), Recorder()
    async with listening(redis, recorder, other) as channels:
        assert sorted(recorder.lost) == list(range(LAYOUT.shards))
        sent = []
        for turn in range(5):
            events = [event(holder(f"user{i}"), NOW + turn) for i in range(60)]
            sent += events
            await cache.announce([renewed(one.holder, NOW + turn) for one in events], NOW)
        await until(lambda: len(recorder.events) >= 300)
        assert sorted(recorder.events) == sorted(other.events) == sorted(sent)
        mine = [one for one in recorder.events if one.holder.userid == "user3"]
        assert [one.issued_at for one in mine] == [NOW + turn for turn in range(5)]
        assert len(recorder.lost) == LAYOUT.shards
        assert channels.counts.gaps == channels.counts.malformed == 0
        assert channels.counts.connections == 1
        assert channels.last_received > 0


async def test_a_lost_message_is_repaired_from_the_stream(redis: RedisParts) -> None:
    cache, recorder = cache_over(redis), Recorder()
    await cache.announce([renewed(ALICE)], NOW)
    async with listening(redis, recorder) as channels:
        recorder.lost.clear()
        await unpublished(redis, *[event(one) for one in MATES[:5]])
        await cache.announce([renewed(one) for one in MATES[5:8]], NOW)
        await until(lambda: len(recorder.events) == 8)
        assert [one.holder for one in recorder.events] == MATES[:8]
        await cache.announce([renewed(MATES[8])], NOW)
        await until(lambda: len(recorder.events) == 9)
        assert recorder.lost == []
        assert (channels.counts.gaps, channels.counts.repaired) == (1, 8)


async def test_a_gap_that_the_stream_no_longer_covers_is_missed(redis: RedisParts) -> None:
    cache, recorder = cache_over(redis), Recorder()
    await cache.announce([renewed(ALICE)], NOW)
    async with listening(redis, recorder) as channels:
        recorder.lost.clear()
        await unpublished(redis, event(MATES[0]), event(MATES[1]))
        await raw(redis, "XTRIM", STREAM, "MAXLEN", "1")
        await cache.announce([renewed(MATES[2])], NOW)
        await until(lambda: bool(recorder.lost))
        assert recorder.lost == [SHARD]
        assert channels.counts.missed == LAYOUT.shards + 1
        await cache.announce([renewed(MATES[3])], NOW)
        await until(lambda: bool(recorder.events))
        assert recorder.lost == [SHARD]


async def test_a_gap_too_long_to_read_is_missed(redis: RedisParts) -> None:
    cache, recorder = cache_over(redis), Recorder()
    await cache.announce([renewed(ALICE)], NOW)
    async with listening(redis, recorder, repair_limit=10) as channels:
        recorder.lost.clear()
        await unpublished(redis, *[event(one) for one in MATES[:9]])
        await cache.announce([renewed(MATES[9])], NOW)
        await until(lambda: len(recorder.events) == 10)
        assert recorder.lost == []
        await unpublished(redis, *[event(one) for one in MATES[:10]])
        await cache.announce([renewed(MATES[10])], NOW)
        await until(lambda: bool(recorder.lost))
        await cache.announce([renewed(MATES[11])], NOW)
        await until(lambda: len(recorder.events) == 11)
        assert recorder.events[-1].holder == MATES[11]
        assert channels.counts.gaps == 2


async def test_a_wipe_is_missed(redis: RedisParts) -> None:
    cache, recorder = cache_over(redis), Recorder()
    await cache.announce([renewed(ALICE)], NOW)
    async with listening(redis, recorder):
        recorder.lost.clear()
        await raw(redis, "FLUSHALL")
        await cache.announce([renewed(MATES[0])], NOW)
        await until(lambda: bool(recorder.lost))
        await cache.announce([renewed(MATES[1])], NOW)
        await until(lambda: event(MATES[1]) in recorder.events)
        assert recorder.lost == [SHARD]


async def test_a_message_whose_stream_was_wiped_behind_it_is_reported(redis: RedisParts) -> None:
    cache, recorder = cache_over(redis), Recorder()
    await cache.announce([renewed(ALICE)], NOW)
    async with listening(redis, recorder) as channels:
        recorder.lost.clear()
        await raw(redis, "DEL", STREAM)
        data = encode_message((2**42, 1), (2**42, 2), [event(MATES[0])], [b""])
        await raw(redis, "PUBLISH", CHANNEL, data)
        await until(lambda: recorder.events == [event(MATES[0])])
        await cache.announce([renewed(MATES[1])], NOW)
        await until(lambda: recorder.events == [event(MATES[0]), event(MATES[1])])
        assert recorder.lost == [SHARD]
        assert channels.counts.gaps == 1


async def test_ids_that_go_back_are_missed(redis: RedisParts) -> None:
    """A wiped server whose clock is behind."""
    recorder = Recorder()
    await unpublished(redis, event(ALICE))
    async with listening(redis, recorder) as channels:
        recorder.lost.clear()
        await raw(redis, "DEL", STREAM)
        await raw(redis, "XADD", STREAM, "5-1", "e", redis_layout.encode_events([event(MATES[0])]))
        data = encode_message(redis_layout.NO_ID, (5, 1), [event(MATES[0])], [b""])
        await raw(redis, "PUBLISH", CHANNEL, data)
        await until(lambda: bool(recorder.lost))
        await raw(redis, "XADD", STREAM, "5-2", "e", redis_layout.encode_events([event(MATES[1])]))
        data = encode_message((5, 1), (5, 2), [event(MATES[1])], [b""])
        await raw(redis, "PUBLISH", CHANNEL, data)
        await until(lambda: event(MATES[1]) in recorder.events)
        assert recorder.lost == [SHARD]
        assert channels.counts.malformed == 0


async def test_a_quiet_shard_shows_its_loss_in_the_next_round(redis: RedisParts) -> None:
    """On a cluster a message may be lost between nodes with every connection alive."""
    cache, recorder = cache_over(redis), Recorder()
    await cache.announce([renewed(ALICE)], NOW)
    async with listening(redis, recorder, round_every=0.05) as channels:
        recorder.lost.clear()
        await unpublished(redis, event(MATES[0]))
        await until(lambda: recorder.events == [event(MATES[0])])
        await raw(redis, "DEL", STREAM)
        await until(lambda: bool(recorder.lost))
        assert recorder.lost == [SHARD]
        await cache.announce([renewed(MATES[1])], NOW)
        # A round between the entry and its message finds a stream that it has not seen begin.
        await until(lambda: event(MATES[1]) in recorder.events or len(recorder.lost) == 2)
        assert recorder.lost in ([SHARD], [SHARD, SHARD])
        assert channels.counts.connections == 1


@pytest.mark.parametrize(
    "junk", [b"", b"hello", b"1-1 2-2\n\xc1", b"\xff" * 100, b"1-1 2-2\n\x91\x01"]
)
async def test_junk_on_a_channel_is_missed_and_survived(redis: RedisParts, junk: bytes) -> None:
    cache, recorder = cache_over(redis), Recorder()
    async with listening(redis, recorder) as channels:
        recorder.lost.clear()
        await raw(redis, "PUBLISH", CHANNEL, junk)
        await until(lambda: bool(recorder.lost))
        await cache.announce([renewed(ALICE)], NOW)
        await until(lambda: recorder.events == [event(ALICE)])
        assert recorder.lost == [SHARD]
        assert channels.counts.malformed == 1
        assert channels.counts.connections == 1


async def test_junk_in_a_stream_is_missed_and_survived(redis: RedisParts) -> None:
    cache, recorder = cache_over(redis), Recorder()
    await cache.announce([renewed(ALICE)], NOW)
    async with listening(redis, recorder) as channels:
        recorder.lost.clear()
        await raw(redis, "XADD", STREAM, "*", "e", b"\xc1")
        await raw(redis, "XADD", STREAM, "*", "other", b"x")
        await cache.announce([renewed(ALICE, NOW + 1)], NOW)
        await until(lambda: bool(recorder.lost))
        await cache.announce([renewed(ALICE, NOW + 2)], NOW)
        await until(lambda: event(ALICE, NOW + 2) in recorder.events)
        assert recorder.lost == [SHARD]
        assert channels.counts.malformed == 1


class Broken:
    def receive(self, shard: int, events: Sequence[Event], sigs: Sequence[bytes] = ()) -> None:
        raise RuntimeError("a fault of mine")

    def resync(self, shard: int) -> None:
        raise RuntimeError("a fault of mine")


async def test_a_listener_that_raises_harms_nobody_else(redis: RedisParts) -> None:
    recorder = Recorder()
    async with listening(redis, Broken(), recorder) as channels:
        await cache_over(redis).announce([renewed(ALICE)], NOW)
        await until(lambda: recorder.events == [event(ALICE)])
        assert channels.counts.connections == 1


async def test_quiet_is_not_taken_for_dead(redis: RedisParts) -> None:
    states: list[bool] = []
    async with listening(redis, ping_after=0.05, on_state=states.append) as channels:
        await until(lambda: channels.last_received > 0)
        before = channels.last_received
        await until(lambda: channels.last_received > before + 0.2)
        assert channels.counts.connections == 1
    assert states == [True, False]
    assert not channels.connected


async def test_closing_twice_and_before_it_began(redis: RedisParts) -> None:
    channels = ShardChannels(redis, LAYOUT, draw=random.random)
    await channels.aclose()
    channels.start()
    channels.start()
    await channels.aclose()
    await channels.aclose()
    assert "shard-channels" not in {task.get_name() for task in asyncio.all_tasks()}


async def test_many_shards(redis_url: str) -> None:
    layout = redis_layout.Layout(shards=600)
    async with opened(redis_url) as redis:
        lost: list[int] = []

        class Count(Recorder):
            def resync(self, shard: int) -> None:
                lost.append(shard)

        channels = ShardChannels(redis, layout, draw=random.random)
        channels.add(Count())
        channels.start()
        await until(lambda: channels.connected)
        await channels.aclose()
        assert sorted(lost) == list(range(600))


async def test_a_near_cache_follows(redis: RedisParts) -> None:
    cache = cache_over(redis)
    near: NearCache[str] = NearCache(settle=1)
    async with listening(redis, near, on_state=lambda up: near.channel(up, NOW)):
        assert near.get(ALICE, NOW) is None
        assert near.get(ALICE, NOW + 1) is None
        near.put(ALICE, "old", NOW, NOW + 60)
        assert near.get(ALICE, NOW + 1) == "old"
        await cache.announce([renewed(ALICE, NOW + 1, current(ALICE, NOW + 1))], NOW)
        await until(lambda: near.get(ALICE, NOW + 1) is None)
        near.put(ALICE, "old", NOW, NOW + 60)
        assert near.get(ALICE, NOW + 1) is None
    assert near.get(ALICE, NOW + 60) is None


class Brought:
    """Listens for the sigs that come with events."""

    def __init__(self) -> None:
        self.sigs: list[bytes] = []

    def receive(self, shard: int, events: Sequence[Event], sigs: Sequence[bytes] = ()) -> None:
        self.sigs += sigs

    def resync(self, shard: int) -> None:
        pass


@pytest.mark.parametrize("opens", [True, False])
async def test_a_message_brings_its_sigs_to_who_can_open_it(redis: RedisParts, opens: bool) -> None:
    cache, brought = cache_over(redis), Brought()
    options = {"open_message": SEALED.open_message} if opens else {}
    async with listening(redis, brought, **options):
        await cache.announce([renewed(ALICE, NOW, current(ALICE))], NOW)
        await until(lambda: bool(brought.sigs))
    assert brought.sigs == ([encode(current(ALICE))] if opens else [b""])


async def test_each_sig_comes_with_its_own_event_whatever_lies_between(redis: RedisParts) -> None:
    cache, recorder = cache_over(redis), Recorder()
    warning = event(MATES[0], kind="sig.will_expire")
    batch = [
        Announcement(warning, None),
        renewed(MATES[1], NOW, current(MATES[1])),
        revoked(MATES[2]),
        renewed(MATES[3]),
        renewed(MATES[4], NOW, current(MATES[4])),
    ]
    async with listening(redis, recorder, open_message=SEALED.open_message):
        await cache.announce(batch, NOW)
        await until(lambda: bool(recorder.events))
    assert recorder.events == [one.event for one in batch]
    brought = [encode(one.current) if one.current else b"" for one in batch]
    assert recorder.sigs == brought


async def test_a_message_that_comes_twice_is_no_gap(redis: RedisParts) -> None:
    cache, recorder = cache_over(redis), Recorder()
    async with listening(redis, recorder) as channels:
        await cache.announce([renewed(ALICE)], NOW)
        await cache.announce([renewed(MATES[0])], NOW)
        entries = await raw(redis, "XRANGE", STREAM, "-", "+")
        first, second = [redis_layout.parse_id(entry) for entry, _ in entries]
        again = encode_message(first, second, [event(MATES[0])], [b""])
        await raw(redis, "PUBLISH", CHANNEL, again)
        await cache.announce([renewed(MATES[1])], NOW)
        await until(lambda: event(MATES[1]) in recorder.events)
        assert recorder.events == [event(one) for one in (ALICE, *MATES[:2])]
        assert channels.counts.gaps == 0
