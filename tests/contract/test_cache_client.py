"""Reaching Redis: URLs, limits, and what a dead or frozen server costs."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Iterator

import pytest

from sigmgr.cache.breaker import Breaker
from sigmgr.cache.client import open_redis
from sigmgr.model import errors
from tests.conftest import started
from tests.contract.cache_kit import NOW, cache_over, current, holder, opened, raw, renewed
from tests.servers import RedisServer

ALICE = holder("alice")
#: The defaults of a command's limits, and such that a busy machine holds as well.
STRICT = {"socket_timeout": 0.5, "connect_timeout": 0.3, "total_timeout": 0.9}
BRISK = {"socket_timeout": 1.0, "connect_timeout": 1.0, "total_timeout": 2.0}


@pytest.fixture
def own_server() -> Iterator[RedisServer]:
    """A server of this test's own, to stop and freeze."""
    server = started(RedisServer)
    yield server
    if server.running:
        server.resume()
    server.close()


class Seconds:
    """A monotonic clock moved by hand."""

    def __init__(self) -> None:
        self.at = 100.0

    def __call__(self) -> float:
        return self.at


def test_a_breaker_refuses_then_probes_once() -> None:
    clock = Seconds()
    breaker = Breaker(1.0, clock)
    assert breaker.enter()
    breaker.failed()
    breaker.failed()
    assert not breaker.enter()
    clock.at += 1.0
    assert not breaker.refuses()
    assert breaker.enter()
    assert not breaker.enter()
    breaker.failed()
    assert not breaker.enter()
    clock.at += 1.0
    assert breaker.enter()
    breaker.gave_up()
    assert breaker.enter()
    breaker.succeeded()
    assert not breaker.refuses()
    assert breaker.enter()
    assert breaker.enter()


@pytest.mark.parametrize(
    "url",
    [
        "",
        "redis",
        "http://secret@x",
        "redis+ring://secret@x:1",
        "redis+sentinel://secret@x:1",
        "redis+sentinel://:secret@x:1/main/secret",
        "redis+cluster://:secret@x:port",
        "redis+cluster://:secret@",
        "redis://:secret@host:port/0",
        "redis://:secret@host/secret?socket_timeout=abc",
    ],
)
async def test_a_bad_url_is_a_bad_setting_and_is_not_shown(url: str) -> None:
    with pytest.raises(errors.BadSettings) as failure:
        await (await open_redis(url, monotonic=time.monotonic)).aclose()
    assert "secret" not in str(failure.value)


async def test_a_memory_server_is_ones_own_unless_it_has_a_name() -> None:
    async with opened("memory://") as one, opened("memory://") as two:
        await cache_over(one).put([current(ALICE)], NOW)
        assert await cache_over(two).get([ALICE]) == [None]
    async with opened("memory://shared") as one, opened("memory://shared") as two:
        await cache_over(one).put([current(ALICE)], NOW)
        assert await cache_over(two).get([ALICE]) == [current(ALICE)]
    del one, two
    gc.collect()
    async with opened("memory://shared") as later:
        assert await cache_over(later).get([ALICE]) == [None]


@pytest.mark.parametrize("url", ["memory://", "redis://localhost:1"])
async def test_who_listens_speaks_resp2_and_tries_once(url: str) -> None:
    """With RESP3 redis-py formats a debug line of every message, sigs in plain text."""
    async with opened(url, protocol=3) as redis:
        pubsub = await redis.pubsub()
        options = pubsub.connection_pool.connection_kwargs
        await pubsub.aclose()
    assert options["protocol"] == 2
    assert options["retry"].get_retries() == 0
    assert not options["health_check_interval"]


async def test_a_memory_server_switched_off_and_on() -> None:
    clock = Seconds()
    async with opened("memory://", monotonic=clock) as redis:
        cache = cache_over(redis)
        await cache.put([current(ALICE)], NOW)
        assert redis.server is not None
        redis.server.connected = False
        for call in (cache.get([ALICE]), cache.put([current(ALICE)], NOW), cache.ping()):
            with pytest.raises(errors.CacheUnavailable):
                await call
        assert redis.breaker.refuses()
        redis.server.connected = True
        with pytest.raises(errors.CacheUnavailable, match="a moment ago"):
            await cache.get([ALICE])
        clock.at += 1.0
        assert await cache.get([ALICE]) == [current(ALICE)]


async def test_a_unix_socket(tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("s") / "r.sock"
    server = started(lambda: RedisServer([f'unixsocket "{path}"']))
    try:
        async with opened(f"unix://{path}") as redis:
            await cache_over(redis).put([current(ALICE)], NOW)
            assert await cache_over(redis).get([ALICE]) == [current(ALICE)]
    finally:
        server.close()


async def test_a_server_that_never_was_fails_fast() -> None:
    for url in (
        "redis://127.0.0.1:1/0",
        "redis+cluster://127.0.0.1:1,127.0.0.1:2",
        "redis+sentinel://127.0.0.1:1,127.0.0.1:2/main",
    ):
        async with opened(url, **STRICT) as redis:
            began = time.monotonic()
            with pytest.raises(errors.CacheUnavailable) as failure:
                await cache_over(redis).get([ALICE])
            assert failure.value.__cause__ is not None
            assert time.monotonic() - began < 5
            assert redis.breaker.refuses()


@pytest.mark.parametrize("mode", ["kill", "freeze"])
async def test_a_dead_server_costs_one_time_out_a_second(
    own_server: RedisServer, mode: str
) -> None:
    clock = Seconds()
    async with opened(own_server.url, monotonic=clock, max_connections=20, **BRISK) as redis:
        cache = cache_over(redis)
        await cache.put([current(ALICE)], NOW)
        assert await cache.get([ALICE]) == [current(ALICE)]
        own_server.pause() if mode == "freeze" else own_server.stop("kill")

        began = time.monotonic()
        failed = await asyncio.gather(
            *(cache.get([ALICE]) for _ in range(200)), return_exceptions=True
        )
        assert {type(one) for one in failed} == {errors.CacheUnavailable}
        # 2 s is the limit of each and of all, as they wait together.
        assert time.monotonic() - began < 9
        assert redis.breaker.refuses()
        for _ in range(1000):
            with pytest.raises(errors.CacheUnavailable, match="a moment ago"):
                await cache.announce([renewed(ALICE)], NOW)

        own_server.resume() if mode == "freeze" else own_server.start()
        clock.at += 1.0
        want = current(ALICE) if mode == "freeze" else None
        assert await cache.get([ALICE]) == [want]
        await cache.put([current(ALICE)], NOW)
        assert await cache.announce([renewed(ALICE)], NOW) == [True]
        assert not redis.breaker.refuses()


async def test_a_restart_between_two_calls_is_not_noticed(own_server: RedisServer) -> None:
    """Connections in the pool are dead then; each is replaced once, without an error."""
    async with opened(own_server.url) as redis:
        cache = cache_over(redis)
        await asyncio.gather(*(cache.get([ALICE]) for _ in range(20)))
        own_server.restart()
        await asyncio.gather(*(cache.get([ALICE]) for _ in range(20)))
        assert await cache.announce([renewed(ALICE)], NOW) == [False]
        assert not redis.breaker.refuses()


async def test_a_full_server_refuses_writes_and_answers_reads(own_server: RedisServer) -> None:
    async with opened(own_server.url) as redis:
        cache = cache_over(redis)
        await cache.put([current(ALICE)], NOW)
        await raw(redis, "CONFIG", "SET", "maxmemory", "1")
        with pytest.raises(errors.CacheUnavailable) as failure:
            await cache.put([current(ALICE, NOW + 1)], NOW)
        assert current(ALICE, NOW + 1).usersig not in repr(failure.value.__cause__)
        assert await cache.get([ALICE]) == [current(ALICE)]


async def test_no_more_connections_than_configured(own_server: RedisServer) -> None:
    async with opened(own_server.url, max_connections=5) as redis:
        cache = cache_over(redis)
        await asyncio.gather(*(cache.get([ALICE]) for _ in range(200)))
        clients = await raw(redis, "CLIENT", "LIST")
        text = clients if isinstance(clients, str) else repr(clients)
        assert 0 < text.count("sigmgr") <= 5


async def test_a_cancelled_probe_lets_the_next_one_go() -> None:
    clock = Seconds()
    async with opened("memory://", monotonic=clock) as redis:
        redis.breaker.failed()
        clock.at += 1.0
        task = asyncio.create_task(redis.run(lambda client: asyncio.sleep(60)))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        with pytest.raises(errors.CacheUnavailable):
            await cache_over(redis).ping()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await cache_over(redis).ping()
        assert not redis.breaker.refuses()
