"""The servers that other tests stand on: they start, stop, restart and do not outlive us."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psycopg
import pytest
from redis import Redis

from tests.servers import LocalServer, PostgresServer, RedisServer, ServerFailed, free_port

ROOT = Path(__file__).resolve().parent.parent


def plain(url: str) -> str:
    return url.replace("postgresql+psycopg://", "postgresql://")


def alive(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return stat.rsplit(")", 1)[1].split()[0] != "Z"


def test_each_test_gets_an_empty_database(postgres_url: str) -> None:
    assert postgres_url.startswith("postgresql+psycopg://")
    with psycopg.connect(plain(postgres_url)) as connection:
        found = connection.execute(
            "SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace"
            " WHERE nspname = 'public'"
        ).fetchone()
        assert found == (0,)
        connection.execute("CREATE TABLE left_behind (n int)")


def test_each_test_gets_an_empty_database_again(postgres_url: str) -> None:
    test_each_test_gets_an_empty_database(postgres_url)


def test_a_database_goes_although_somebody_is_connected(postgres_server: PostgresServer) -> None:
    name = postgres_server.create_database()
    with psycopg.connect(postgres_server.url(name, driver="postgresql")) as connection:
        postgres_server.drop_database(name)
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")


@pytest.mark.parametrize("mode", ["fast", "immediate", "kill"])
def test_postgres_keeps_its_data_and_port_over_a_restart(
    postgres_server: PostgresServer, mode: str
) -> None:
    name, before = postgres_server.create_database(), postgres_server.url()
    postgres_server.restart(mode)
    assert postgres_server.url() == before
    with psycopg.connect(postgres_server.url(name, driver="postgresql")) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    postgres_server.drop_database(name)


def test_only_a_durable_postgres_waits_for_the_disk(postgres_server: PostgresServer) -> None:
    assert postgres_server.settings["fsync"] == "off"
    assert "fsync" not in PostgresServer(durable=True).settings


def test_each_test_gets_an_empty_redis(redis_url: str) -> None:
    with Redis.from_url(redis_url) as client:
        assert client.dbsize() == 0
        client.set("left", "behind")


def test_each_test_gets_an_empty_redis_again(redis_url: str) -> None:
    test_each_test_gets_an_empty_redis(redis_url)


@pytest.mark.parametrize("mode", ["term", "kill"])
def test_redis_forgets_over_a_restart(redis_server: RedisServer, mode: str) -> None:
    redis_server.command("SET", "key", "value")
    before = redis_server.url
    redis_server.restart(mode)
    assert redis_server.url == before
    assert redis_server.command("DBSIZE") == ":0"


def test_redis_takes_configuration_lines(redis_server: RedisServer) -> None:
    assert redis_server.running
    with RedisServer(["cluster-enabled yes"]) as node:
        assert "cluster_enabled:1" in node.command("INFO", "cluster")


def test_a_paused_server_can_be_stopped(redis_server: RedisServer) -> None:
    assert redis_server.running
    with RedisServer() as server:
        server.pause()
    assert not server.running


def test_a_server_that_cannot_start_reports_why(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert redis_server.running
    monkeypatch.setattr("tests.servers.START_SECONDS", 0.3)
    server = RedisServer(["no-such-option yes"])
    with pytest.raises(ServerFailed, match="no-such-option"):
        server.start()
    server.close()


def test_nobody_listens_on_a_free_port() -> None:
    assert 1024 < free_port() <= 55_000


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's parent-death signal is Linux's")
@pytest.mark.parametrize("kind", [RedisServer, PostgresServer])
def test_a_server_dies_with_a_killed_starter(
    request: pytest.FixtureRequest, kind: type[LocalServer]
) -> None:
    request.getfixturevalue("redis_server" if kind is RedisServer else "postgres_server")
    code = (
        f"from tests.servers import {kind.__name__} as S; import time\n"
        "s = S(); s.start(); print(s.pid, s.directory, flush=True); time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=ROOT, text=True
    ) as starter:
        assert starter.stdout is not None
        pid, directory = starter.stdout.readline().split()
        assert alive(int(pid))
        os.kill(starter.pid, signal.SIGKILL)
    until = time.monotonic() + 10
    while alive(int(pid)) and time.monotonic() < until:
        time.sleep(0.02)
    assert not alive(int(pid))
    subprocess.run(["rm", "-rf", directory], check=True)


def test_nothing_stays_on_disk_after_close(redis_server: RedisServer) -> None:
    assert redis_server.running
    with RedisServer() as server:
        directory = server.directory
    assert directory is not None
    assert not directory.exists()
