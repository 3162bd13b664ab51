"""The cache and the channels on a Redis Cluster of three nodes, and behind Sentinel."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable, Iterator

import pytest

from sigmgr.cache.client import RedisParts
from sigmgr.cache.probe import probe
from sigmgr.keys.cached import CachedValues
from sigmgr.model import errors, redis_layout
from sigmgr.ports import Announcement
from sigmgr.push.shards import ShardChannels
from tests.conftest import started
from tests.contract.cache_kit import (
    MASTER,
    NOW,
    Both,
    Recorder,
    current,
    holder,
    opened,
    raw,
    renewed,
    revoked,
    serve_until,
    until,
)
from tests.servers import RedisServer

pytestmark = pytest.mark.slow

LAYOUT = redis_layout.Layout(shards=64)
SLOTS = 16384


class AnyShard(Recorder):
    """The kit's recorder know the kit's layout only."""

    def receive(self, shard: int, events: object, sigs: object = ()) -> None:
        self.events += events  # type: ignore[arg-type]

    def knows_of(self, batch: list[Announcement]) -> bool:
        """By an event, or by the order to look into the store: a message that is lost between two
        nodes is the stream's first, and what was before it cannot be known."""
        heard = {event.holder for event in self.events}
        return all(
            one.event.holder in heard or LAYOUT.shard(one.event.holder) in self.lost
            for one in batch
        )


@pytest.fixture
def cluster() -> Iterator[list[RedisServer]]:
    with contextlib.ExitStack() as stack:
        config = ["cluster-enabled yes", "cluster-node-timeout 2000"]
        nodes = [stack.enter_context(started(lambda: RedisServer(config))) for _ in range(3)]
        for number, node in enumerate(nodes):
            low, high = SLOTS * number // 3, SLOTS * (number + 1) // 3 - 1
            node.command("CLUSTER", "ADDSLOTSRANGE", str(low), str(high))
            node.command("CLUSTER", "MEET", "127.0.0.1", str(nodes[0].port))
        wait_for(
            lambda: all(
                "cluster_state:ok" in (answer := node.command("CLUSTER", "INFO"))
                and "cluster_known_nodes:3" in answer
                for node in nodes
            )
        )
        yield nodes


@pytest.fixture
def sentinel() -> Iterator[tuple[RedisServer, RedisServer, RedisServer]]:
    """A master, its replica, and a sentinel that watches them alone."""
    with contextlib.ExitStack() as stack:
        master = stack.enter_context(started(RedisServer))
        replica = stack.enter_context(
            started(lambda: RedisServer([f"replicaof 127.0.0.1 {master.port}"]))
        )
        wait_for(lambda: "state=online" in master.command("INFO", "replication"))
        watch = [
            f"sentinel monitor main 127.0.0.1 {master.port} 1",
            "sentinel down-after-milliseconds main 500",
            "sentinel failover-timeout main 2000",
        ]
        watcher = stack.enter_context(started(lambda: RedisServer(watch, sentinel=True)))
        wait_for(lambda: str(replica.port) in watcher.command("SENTINEL", "REPLICAS", "main"))
        yield master, replica, watcher


def wait_for(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    async def wait() -> None:
        await until(condition, seconds)

    asyncio.run(wait())


def over(redis: RedisParts) -> Both:
    values = CachedValues(MASTER.derive, LAYOUT)
    return Both(redis, LAYOUT, values=values, serve_until=serve_until)


async def come_back(cache: Both) -> None:
    """Ask until it answers."""
    async with asyncio.timeout(40):
        while True:
            with contextlib.suppress(errors.CacheUnavailable):
                await cache.put([current(holder("probe"))], NOW)
                return
            await asyncio.sleep(0.1)


@pytest.mark.parametrize("protocol", [2, 3])
async def test_a_cluster(cluster: list[RedisServer], protocol: int) -> None:
    hosts = ",".join(f"127.0.0.1:{node.port}" for node in cluster[:2])
    async with opened(f"redis+cluster://{hosts}", protocol=protocol) as redis:
        cache, recorder = over(redis), AnyShard()
        await cache.ping()
        assert await redis.time() > 0
        channels = ShardChannels(redis, LAYOUT, draw=random.random)
        channels.add(recorder)
        channels.start()
        await until(lambda: channels.connected)
        sigs = [current(holder(f"user{i}")) for i in range(300)]
        await cache.put(sigs[:150], NOW)
        whose = [sig.holder for sig in sigs]
        assert await cache.get(whose) == [*sigs[:150], *[None] * 150]
        without_sigs = [renewed(one) for one in whose]
        shown = await cache.announce(without_sigs, NOW)
        assert shown == [True] * 150 + [False] * 150
        # A message that was lost between two nodes is found within round_every, 10 s.
        await until(lambda: recorder.knows_of(without_sigs), 30)
        recorder.events.clear()
        recorder.lost.clear()
        with_sigs = [renewed(sig.holder, NOW, sig) for sig in sigs]
        assert await cache.announce(with_sigs, NOW) == [True] * 300
        assert await cache.get(whose) == sigs
        await until(lambda: recorder.knows_of(with_sigs), 30)
        assert recorder.lost == [], "what was before it is known by now"
        recorder.events.clear()
        gaps = channels.counts.gaps
        await cache.announce([revoked(whose[0])], NOW)
        assert await cache.get(whose[:2]) == [None, sigs[1]]
        assert await asyncio.gather(*(cache.get([one]) for one in whose[1:])) == [
            [sig] for sig in sigs[1:]
        ]
        assert await cache.drop(whose) == 300
        lost = redis_layout.encode_events([renewed(whose[0], NOW + 9).event])
        await raw(redis, "XADD", LAYOUT.stream_key(LAYOUT.shard(whose[0])), "*", "e", lost)
        await cache.announce([renewed(whose[0], NOW + 10)], NOW)
        await until(lambda: len(recorder.events) == 3, 30)
        assert channels.counts.gaps > gaps
        await channels.aclose()


async def test_the_probe_writes_to_every_node(cluster: list[RedisServer]) -> None:
    hosts = ",".join(f"127.0.0.1:{node.port}" for node in cluster)
    limits = {"total_timeout": 2.0, "socket_timeout": 1.0, "cooldown": 0.0}
    async with opened(f"redis+cluster://{hosts}", **limits) as redis:
        assert await probe(redis, LAYOUT) == ""
        assert [node.command("DBSIZE") for node in cluster] == [":1"] * 3
        for full, node in enumerate(cluster, 1):
            node.command("CONFIG", "SET", "maxmemory", "1")
            assert await probe(redis, LAYOUT) == f"full on {full} of 3 nodes"
        for node in cluster:
            node.command("CONFIG", "SET", "maxmemory", "0")
        assert await probe(redis, LAYOUT) == ""
        cluster[1].pause()
        assert await probe(redis, LAYOUT) == "does not answer on 1 of 3 nodes"
        cluster[1].resume()
        assert await probe(redis, LAYOUT) == ""


async def test_a_cluster_node_that_dies_fails_fast_and_comes_back(
    cluster: list[RedisServer],
) -> None:
    hosts = ",".join(f"127.0.0.1:{node.port}" for node in cluster)
    limits = {"total_timeout": 2.0, "socket_timeout": 1.0, "cooldown": 0.2}
    async with opened(f"redis+cluster://{hosts}", **limits) as redis:
        cache, recorder = over(redis), AnyShard()
        channels = ShardChannels(redis, LAYOUT, draw=random.random, ping_after=0.2, round_every=1.0)
        channels.add(recorder)
        channels.start()
        await until(lambda: channels.connected)
        batch = [renewed(holder(f"user{i}")) for i in range(100)]
        await cache.announce(batch, NOW)
        cluster[1].stop("kill")
        with pytest.raises(errors.CacheUnavailable):
            await cache.announce(batch, NOW)
        cluster[1].start()
        await come_back(cache)
        await until(lambda: channels.connected, 30)
        recorder.events.clear()
        recorder.lost.clear()
        await cache.announce(batch, NOW + 1)
        await until(lambda: recorder.knows_of(batch))
        await channels.aclose()


@pytest.mark.parametrize("protocol", [2, 3])
async def test_sentinel_fails_over(
    sentinel: tuple[RedisServer, RedisServer, RedisServer], protocol: int
) -> None:
    master, _, watcher = sentinel
    url = f"redis+sentinel://127.0.0.1:{watcher.port}/main/0"
    limits = {"total_timeout": 2.0, "socket_timeout": 1.0, "cooldown": 0.2}
    async with opened(url, protocol=protocol, **limits) as redis:
        cache, recorder = over(redis), AnyShard()
        sig = current(holder("alice"))
        channels = ShardChannels(redis, LAYOUT, draw=random.random, ping_after=0.2, round_every=1.0)
        channels.add(recorder)
        channels.start()
        await until(lambda: channels.connected)
        assert await cache.announce([renewed(sig.holder, NOW, sig)], NOW) == [True]
        assert await asyncio.gather(*(cache.get([sig.holder]) for _ in range(200))) == [[sig]] * 200
        await until(lambda: len(recorder.events) == 1)
        master.stop("kill")
        await come_back(cache)
        await until(lambda: channels.connected, 30)
        assert await cache.get([sig.holder]) == [sig]
        await cache.announce([renewed(sig.holder, NOW + 1)], NOW)
        await until(lambda: len(recorder.events) >= 2)
        await channels.aclose()
