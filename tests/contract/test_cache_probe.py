"""The probe of Redis: what a real server refuses is named, and is gone when it is gone."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator

import pytest

from sigmgr.cache.client import RedisParts
from sigmgr.cache.probe import probe
from tests.contract.cache_kit import LAYOUT, opened, raw
from tests.servers import RedisServer

#: A name, the commands that make a server refuse, and those that end it.
REFUSALS = {
    "full": (
        [("CONFIG", "SET", "maxmemory", "1"), ("CONFIG", "SET", "maxmemory-policy", "noeviction")],
        [("CONFIG", "SET", "maxmemory", "0")],
    ),
    "read-only": (
        [("REPLICAOF", "127.0.0.1", "1")],
        [("REPLICAOF", "NO", "ONE")],
    ),
    "refuses writes (NOREPLICAS)": (
        [("CONFIG", "SET", "min-replicas-to-write", "1")],
        [("CONFIG", "SET", "min-replicas-to-write", "0")],
    ),
}


@pytest.fixture(params=["memory", "real"])
async def redis(request: pytest.FixtureRequest) -> AsyncIterator[RedisParts]:
    url = request.getfixturevalue("redis_url") if request.param == "real" else "memory://"
    async with opened(url) as parts:
        yield parts


@pytest.fixture
def server(redis_server: RedisServer) -> Iterator[RedisServer]:
    """As new afterwards, however the test ended."""
    redis_server.wipe()
    yield redis_server
    for _, ends in REFUSALS.values():
        for words in ends:
            redis_server.command(*words)


async def test_a_redis_that_writes_has_nothing_wrong_and_forgets_it(redis: RedisParts) -> None:
    assert await probe(redis, LAYOUT) == ""
    assert 0 < await raw(redis, "TTL", LAYOUT.probe_key(0)) <= 60
    assert await raw(redis, "DBSIZE") == 1


@pytest.mark.parametrize("why", REFUSALS)
async def test_what_a_server_refuses_is_named_and_gone(server: RedisServer, why: str) -> None:
    begins, ends = REFUSALS[why]
    async with opened(server.url) as parts:
        for words in begins:
            server.command(*words)
        assert await probe(parts, LAYOUT) == why
        assert not parts.breaker.refuses(), "a refusal is an answer"
        assert await parts.run(lambda client: client.ping()), "a ping would have seen nothing"
        for words in ends:
            server.command(*words)
        assert await probe(parts, LAYOUT) == ""


async def test_a_user_who_may_only_read(server: RedisServer) -> None:
    server.command("ACL", "SETUSER", "reader", "on", ">secret", "~*", "+@all", "-set")
    with contextlib.ExitStack() as stack:
        stack.callback(server.command, "ACL", "DELUSER", "reader")
        url = f"redis://reader:secret@127.0.0.1:{server.port}/0"
        async with opened(url) as parts:
            assert await probe(parts, LAYOUT) == "refuses writes (NOPERM)"
        async with opened(url.replace("secret", "wrong")) as parts:
            assert await probe(parts, LAYOUT) == "refuses the login (WRONGPASS)"


async def test_a_server_that_is_away_does_not_answer() -> None:
    async with opened("redis://127.0.0.1:1/0") as parts:
        assert await probe(parts, LAYOUT) == "does not answer"
        assert await probe(parts, LAYOUT) == "does not answer"


async def test_a_frozen_server_does_not_answer(server: RedisServer) -> None:
    limits = {"socket_timeout": 0.5, "connect_timeout": 0.5, "total_timeout": 1.0, "cooldown": 0.0}
    async with opened(server.url, **limits) as parts:
        assert await probe(parts, LAYOUT) == ""
        server.pause()
        try:
            assert await probe(parts, LAYOUT) == "does not answer"
        finally:
            server.resume()
        assert await probe(parts, LAYOUT) == ""
