"""Errors of connecting to Redis, by cause on a real server: with its hosts, never the password."""

from __future__ import annotations

import time

import pytest

from sigmgr.cache import connect_errors
from sigmgr.cache.client import open_redis
from sigmgr.model import errors
from tests.conftest import started
from tests.servers import RedisServer, free_port

PASSWORD = "hunter2-is-secret"


@pytest.fixture(scope="module")
def server():
    server = started(RedisServer)
    server.command("ACL", "SETUSER", "eve", "on", ">eve", "+hello", "-@all")
    server.command("CONFIG", "SET", "requirepass", "another")
    yield server
    server.close()


async def refused(url: str) -> str:
    parts = await open_redis(url, monotonic=time.monotonic)
    try:
        with pytest.raises(errors.CacheUnavailable) as caught:
            await parts.time()
    finally:
        await parts.aclose()
    text, remedy = connect_errors.why(caught.value, url)
    assert remedy.startswith(("Start", "Correct", "Put", "Allow", "Write", "Is it"))
    assert PASSWORD not in text + remedy
    return text


@pytest.mark.parametrize(
    ("scheme", "rest", "phrase"),
    [
        ("redis", "{free}/0", "nothing listens at Redis's port (at {free})"),
        ("redis+cluster", "{free}", "nothing listens at Redis's port (at {free})"),
        ("redis", "redis.invalid", "Redis's host name is not known (at redis.invalid:6379)"),
        ("redis", "{there}/0", "Redis refuses the user or the password (at {there})"),
        ("redis+sentinel", "{free}/main", "the sentinels know no master of that service"),
    ],
)
async def test_each_fault_has_a_text_of_its_own(server, scheme, rest, phrase):
    places = {"free": f"127.0.0.1:{free_port()}", "there": f"127.0.0.1:{server.port}"}
    url = f"{scheme}://:{PASSWORD}@{rest.format(**places)}"
    assert phrase.format(**places) in await refused(url)


async def test_a_password_that_is_missing_a_number_and_a_cluster_that_is_none(server):
    there = f"127.0.0.1:{server.port}"
    assert "asks for a password" in await refused(f"redis://{there}/0")
    assert "no database of that number" in await refused(f"redis://:another@{there}/999")
    assert "is no Redis Cluster" in await refused(f"redis+cluster://:another@{there}")
    assert "does not let this user" in await refused(f"redis://eve:eve@{there}/0")


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("redis://:pw@h", "h:6379"),
        ("rediss://me:pw@h:1/2", "h:1"),
        ("redis+cluster://:pw@a:7000,b", "a:7000, b:6379"),
        ("unix:///run/redis.sock", "/run/redis.sock"),
    ],
)
def test_a_place_is_hosts_and_ports(url, place):
    assert connect_errors.hosts_of(url) == place


def test_what_nobody_knows_is_named_by_its_class():
    error = errors.CacheUnavailable("Redis: OddError")
    assert connect_errors.why(error, "redis://:pw@h/1") == ("Redis: OddError (at h:6379)", "")
