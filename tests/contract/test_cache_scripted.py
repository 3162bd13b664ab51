"""What is made of a Redis whose answers are scripted: its limits, its refusals, its nodes."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ReadOnlyError, RedisClusterException, ResponseError

from sigmgr.cache.breaker import Breaker
from sigmgr.cache.client import RedisLimits, RedisParts, open_redis
from sigmgr.cache.probe import probe
from sigmgr.cache.sigs import CHUNK
from sigmgr.model import errors
from tests.contract.cache_kit import (
    LAYOUT,
    NOW,
    cache_over,
    current,
    holder,
    opened,
    raw,
)
from tests.contract.test_cache_client import Seconds

ALICE = holder("alice")


class Client:
    """Answers in turn; what is an exception is raised."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.calls = self.closed = self.begun = 0
        self.gate: asyncio.Event | None = None

    async def ask(self) -> Any:
        self.calls += 1
        if self.gate is not None:
            await self.gate.wait()
        answer = self.answers.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    time = ask

    async def aclose(self) -> None:
        self.closed += 1

    async def initialize(self) -> None:
        self.begun += 1
        if self.answers:
            await self.ask()

    def pubsub(self) -> str:
        return "a connection"


def parts_of(client: Client, total: float = 5.0, most: int = 1, **more: Any) -> RedisParts:
    breaker = Breaker(1.0, more.pop("clock", Seconds()))
    limits = RedisLimits(total, total, total, most)
    more = {"listening": client, "others": (), **more}
    return RedisParts(client=client, limits=limits, breaker=breaker, **more)  # type: ignore[arg-type]


async def ask(redis: RedisParts) -> Any:
    return await redis.run(lambda client: client.ask())


# -- one call ------------------------------------------------------------------------------------


async def test_a_refusal_is_an_answer_and_keeps_nobody_away() -> None:
    redis = parts_of(Client(ResponseError("OOM"), "fine"))
    with pytest.raises(errors.CacheUnavailable):
        await ask(redis)
    assert not redis.breaker.refuses()
    assert await ask(redis) == "fine"


@pytest.mark.parametrize("error", [RedisConnectionError("x"), OSError(), RedisClusterException()])
async def test_a_broken_connection_keeps_all_away_for_a_while_and_one_tries_first(
    error: Exception,
) -> None:
    clock, client = Seconds(), Client(error, ResponseError("LOADING"), "fine")
    redis = parts_of(client, clock=clock)
    with pytest.raises(errors.CacheUnavailable) as first:
        await ask(redis)
    assert first.value.__cause__ is error
    with pytest.raises(errors.CacheUnavailable, match="a moment ago"):
        await ask(redis)
    assert client.calls == 1
    clock.at += 1.0
    with pytest.raises(errors.CacheUnavailable):
        await ask(redis)
    # It answered, if only with a refusal.
    assert await ask(redis) == "fine"


async def test_who_waited_for_one_that_found_it_dead_does_not_ask() -> None:
    client = Client(RedisConnectionError("x"), "fine")
    client.gate = asyncio.Event()
    redis = parts_of(client)
    calls = [asyncio.ensure_future(ask(redis)) for _ in range(3)]
    await asyncio.sleep(0)
    client.gate.set()
    found = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(one) for one in found] == [errors.CacheUnavailable] * 3
    assert client.calls == 1


async def test_who_only_waited_for_a_turn_says_nothing_about_the_server() -> None:
    client = Client("fine")
    client.gate = asyncio.Event()
    redis = parts_of(client, total=0.05)
    async with redis._turn:
        with pytest.raises(errors.CacheUnavailable):
            await ask(redis)
        waiting = asyncio.ensure_future(ask(redis))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    assert client.calls == 0
    assert not redis.breaker.refuses()
    with pytest.raises(errors.CacheUnavailable):
        await ask(redis)
    assert redis.breaker.refuses()


async def test_where_it_is_known_to_be_dead_nobody_waits_for_a_turn() -> None:
    redis = parts_of(Client(RedisConnectionError("x")), total=0.05)
    with pytest.raises(errors.CacheUnavailable):
        await ask(redis)
    async with redis._turn:
        with pytest.raises(errors.CacheUnavailable, match="a moment ago"):
            await ask(redis)


async def test_the_servers_time_has_its_fractions() -> None:
    assert await parts_of(Client((NOW, 250_000))).time() == NOW + 0.25


# -- connections ---------------------------------------------------------------------------------


async def test_on_a_cluster_the_nodes_are_read_anew_for_each_listening_connection() -> None:
    listening = Client()
    redis = parts_of(Client(), listening=listening)
    redis.cluster = True
    assert await redis.pubsub() == "a connection"
    assert (listening.closed, listening.begun) == (1, 1)
    listening.answers = [RedisClusterException()]
    with pytest.raises(errors.CacheUnavailable):
        await redis.pubsub()


async def test_all_that_was_opened_is_closed() -> None:
    clients = [Client() for _ in range(4)]
    await parts_of(clients[0], listening=clients[1], others=clients[2:]).aclose()
    assert [client.closed for client in clients] == [1] * 4


@pytest.mark.parametrize("url", ["redis://host:1/0", "unix:///tmp/redis.sock"])
async def test_a_connection_lives_on_and_is_tried_once_more_where_it_broke(url: str) -> None:
    redis = await open_redis(url, monotonic=Seconds())
    options = redis._client.connection_pool.connection_kwargs
    await redis.aclose()
    assert options["retry"].get_retries() == 1
    assert options.get("socket_keepalive") is (None if url.startswith("unix") else True)


async def test_the_sentinels_may_be_asked_for_every_connection_at_once() -> None:
    redis = await open_redis(
        "redis+sentinel://host:1/main", monotonic=Seconds(), max_connections=10
    )
    own = sum(c.connection_pool.max_connections for c in (redis._client, redis._listening))
    sentinels = [c for c in redis._to_close if c not in (redis._client, redis._listening)]
    assert [c.connection_pool.max_connections for c in sentinels] == [own]
    await redis.aclose()


# -- a cluster's sigs ----------------------------------------------------------------------------


async def test_sigs_of_many_shards_come_back_in_the_order_asked() -> None:
    async with opened("memory://") as redis:
        cache = cache_over(redis)
        sigs = [current(holder(f"user{n}")) for n in range(CHUNK + 3)]
        await cache.put(sigs, NOW)
        redis.cluster = True
        asked = [sig.holder for sig in reversed(sigs)]
        asked.insert(5, ALICE)
        found = await cache.get(asked)
    assert found == [*sigs[::-1][:5], None, *sigs[::-1][5:]]


class Nodes(Client):
    """A cluster whose pipeline answers what is given."""

    def pipeline(self, *, transaction: bool) -> Nodes:
        assert not transaction, "a transaction does not cross nodes"
        return self

    async def __aenter__(self) -> Nodes:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    def execute_command(self, *words: Any) -> None:
        self.calls += 1

    async def execute(self, *, raise_on_error: bool) -> list[Any]:
        assert not raise_on_error, "an error that is raised shows the keys"
        return self.answers


async def test_a_node_that_does_not_answer_makes_the_call_fail() -> None:
    shards: dict[int, Any] = {}
    for n in range(50):
        shards.setdefault(LAYOUT.shard(holder(f"user{n}")), holder(f"user{n}"))
    client = Nodes([None], RedisConnectionError("x"))
    redis = parts_of(client)
    redis.cluster = True
    with pytest.raises(errors.CacheUnavailable):
        await cache_over(redis).get(list(shards.values())[:2])
    assert client.calls == 2


# -- the probe -----------------------------------------------------------------------------------


class Writable:
    """A client that may be written to, or not."""

    def __init__(self, *refusals: BaseException | None) -> None:
        self.refusals = list(refusals)
        self.keys: list[str] = []

    async def set(self, key: str, value: bytes, ex: int) -> None:
        self.keys.append(key)
        refusal = self.refusals.pop(0)
        if refusal is not None:
            raise refusal


class Cluster(Writable):
    """``shards`` of them lie on each node, one after another."""

    def __init__(self, *refusals: BaseException | None) -> None:
        super().__init__(*refusals)
        self.count = len(refusals)
        self.read = False

    async def initialize(self) -> None:
        self.read = True

    def get_node_from_key(self, key: str) -> Any:
        assert self.read, "before the nodes were read"
        keys = [LAYOUT.probe_key(shard) for shard in range(LAYOUT.shards)]
        return type("Node", (), {"name": f"node{keys.index(key) % self.count}"})


READONLY = ReadOnlyError("You can't write against a read only replica.")
READONLY.status_code = "READONLY"


@pytest.mark.parametrize(
    ("refusal", "what"),
    [
        (None, ""),
        (ResponseError("OOM command not allowed when used memory > 'maxmemory'."), "full"),
        (READONLY, "read-only"),
        (ResponseError("WRONGPASS invalid password"), "refuses the login (WRONGPASS)"),
        (ResponseError("NOREPLICAS Not enough replicas"), "refuses writes (NOREPLICAS)"),
        (ResponseError("something else"), "does not answer"),
        (RedisConnectionError("Error 111 connecting"), "does not answer"),
        (OSError("OOM is no word of Redis here"), "does not answer"),
    ],
)
async def test_what_keeps_redis_from_writing_is_named(refusal: Exception | None, what: str) -> None:
    client = Writable(refusal)
    assert await probe(parts_of(client), LAYOUT) == what  # type: ignore[arg-type]
    assert len(client.keys) == 1


@pytest.mark.parametrize(
    ("refusals", "what"),
    [
        ([None, None, None], ""),
        ([ResponseError("OOM"), None, ResponseError("OOM")], "full on 2 of 3 nodes"),
        ([READONLY, ResponseError("OOM"), ResponseError("OOM")], "full on 2 of 3 nodes"),
        ([None, READONLY], "read-only on 1 of 2 nodes"),
        ([ResponseError("OOM")], "full"),
    ],
)
async def test_every_node_is_tried_and_most_of_the_trouble_named(
    refusals: Sequence[Exception | None], what: str
) -> None:
    client = Cluster(*refusals)
    assert await probe(parts_of(client, most=1), LAYOUT) == what  # type: ignore[arg-type]
    assert len(client.keys) == len(refusals)


async def test_a_cluster_whose_nodes_cannot_be_read_does_not_answer() -> None:
    client = Cluster(None)

    async def initialize() -> None:
        raise RedisClusterException

    client.initialize = initialize  # type: ignore[method-assign]
    assert await probe(parts_of(client), LAYOUT) == "does not answer"  # type: ignore[arg-type]
    assert client.keys == []


async def test_a_sig_is_put_up_to_the_last_second_in_which_it_may_be_served() -> None:
    async with opened("memory://") as redis:
        cache = cache_over(redis, serve_until=lambda sig: sig.issued_at + 10)
        await cache.put([current(ALICE)], NOW + 10)
        assert await cache.get([ALICE]) == [None]
        await cache.put([current(ALICE)], NOW + 9)
        assert await cache.get([ALICE]) == [current(ALICE)]
        assert 0 < await raw(redis, "PTTL", LAYOUT.sig_key(ALICE)) <= 1000
