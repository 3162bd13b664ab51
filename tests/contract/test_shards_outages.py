"""The shard channels when Redis goes and comes: everything is received, or resynced."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sigmgr.cache.client import RedisParts
from sigmgr.model.event import Event
from sigmgr.push.shards import ShardChannels
from tests.contract.cache_kit import (
    NOW,
    Recorder,
    cache_over,
    event,
    holder,
    opened,
    raw,
    renewed,
    until,
)
from tests.contract.test_cache_client import Seconds, own_server  # noqa: F401 - a fixture
from tests.contract.test_shards import ALICE, MATES, SHARD, STREAM, listening, unpublished
from tests.servers import RedisServer


async def test_a_memory_server_away_for_a_while() -> None:
    states: list[bool] = []
    clock = Seconds()
    async with opened("memory://", monotonic=clock) as redis:
        cache, recorder = cache_over(redis), Recorder()
        await cache.announce([renewed(ALICE)], NOW)
        async with listening(redis, recorder, on_state=states.append) as channels:
            recorder.lost.clear()
            assert redis.server is not None
            redis.server.connected = False
            await until(lambda: not channels.connected)
            redis.server.connected = True
            clock.at += 10
            await unpublished(redis, event(MATES[0]))
            await until(lambda: channels.connected)
            assert recorder.events == [event(MATES[0])]
            assert recorder.lost == []
            assert states == [True, False, True]


@pytest.mark.parametrize("mode", ["cut", "restart", "freeze"])
async def test_a_real_server_that_goes_and_comes(
    own_server: RedisServer,  # noqa: F811
    mode: str,
) -> None:
    states: list[bool] = []
    async with opened(own_server.url, cooldown=0.05, socket_timeout=1.0) as redis:
        cache, recorder = cache_over(redis), Recorder()
        await cache.announce([renewed(ALICE)], NOW)
        async with listening(redis, recorder, on_state=states.append) as channels:
            recorder.lost.clear()
            if mode == "cut":
                own_server.command("CLIENT", "KILL", "TYPE", "pubsub")
            elif mode == "restart":
                own_server.stop("kill")
            else:
                own_server.pause()
            await until(lambda: not channels.connected)
            if mode == "restart":
                own_server.start()
            elif mode == "freeze":
                own_server.resume()
            await until(lambda: channels.connected)
            await cache.announce([renewed(MATES[0])], NOW)
            await until(lambda: event(MATES[0]) in recorder.events)
            assert recorder.lost == ([SHARD] if mode == "restart" else [])
            assert states == [True, False, True]


async def test_what_was_announced_while_it_was_cut_off_is_received(
    own_server: RedisServer,  # noqa: F811
) -> None:
    async with opened(own_server.url) as redis:
        cache, recorder = cache_over(redis), Recorder()
        await cache.announce([renewed(one) for one in [ALICE, *map(holder, "abcdefgh")]], NOW)
        async with listening(redis, recorder) as channels:
            recorder.lost.clear()
            want = []
            for turn in range(20):
                own_server.command("CLIENT", "KILL", "TYPE", "pubsub")
                batch = [renewed(one, NOW + turn) for one in [ALICE, *map(holder, "abcdefgh")]]
                want += [one.event for one in batch]
                await cache.announce(batch, NOW)
                if turn % 3 == 0:
                    await until(lambda: channels.connected)
            await until(lambda: len(recorder.events) >= len(want))
            assert sorted(recorder.events) == sorted(want)
            assert recorder.lost == []
            assert channels.counts.connections > 3


steps = st.lists(
    st.sampled_from(["announce", "announce", "lose", "trim", "wipe", "cut"]),
    min_size=1,
    max_size=12,
)


@settings(max_examples=25)
@given(steps=steps)
@pytest.mark.parametrize("kind", ["memory", "real"])
def test_every_event_is_received_or_its_shard_is_missed(
    kind: str, steps: list[str], request: pytest.FixtureRequest
) -> None:
    """At the end of any history: what is not received was followed by ``resync``.

    But for one that leaves no trace, and is left out: a message lost while its stream was
    empty, and the stream wiped before the next message.
    """
    url = request.getfixturevalue("redis_server").url if kind == "real" else "memory://"

    class Ledger(Recorder):
        def __init__(self) -> None:
            super().__init__()
            self.sent: list[Event] = []
            self.covered = 0

        def resync(self, shard: int) -> None:
            super().resync(shard)
            self.covered = len(self.sent)

    async def play(redis: RedisParts, ledger: Ledger, channels: ShardChannels) -> None:
        cache = cache_over(redis)
        for number, step in enumerate([*steps, "announce"]):
            one = event(ALICE, NOW + 1 + number)
            if step == "announce":
                ledger.sent.append(one)
                await cache.announce([renewed(ALICE, NOW + 1 + number)], NOW)
            elif step == "lose":
                ledger.sent.append(one)
                await unpublished(redis, one)
            elif step == "trim":
                await raw(redis, "XTRIM", STREAM, "MAXLEN", "1")
            elif step == "wipe":
                await raw(redis, "FLUSHALL")
                # A new stream must not begin in the millisecond of the old one's end.
                await asyncio.sleep(0.002)
                await cache.announce([renewed(ALICE, NOW)], NOW)
            elif kind == "real":
                await raw(redis, "CLIENT", "KILL", "TYPE", "pubsub")
        last = ledger.sent[-1]
        await until(lambda: last in ledger.events or ledger.covered == len(ledger.sent))
        received = set(ledger.events)
        assert [one for one in ledger.sent[ledger.covered :] if one not in received] == []

    async def scenario() -> None:
        async with opened(url) as redis:
            await raw(redis, "FLUSHALL")
            ledger = Ledger()
            await cache_over(redis).announce([renewed(ALICE, NOW)], NOW)
            async with listening(redis, ledger) as channels:
                await play(redis, ledger, channels)

    asyncio.run(scenario())
