"""A revocation holds against a Redis that refuses, loses, or gets back what it had.

Real PostgreSQL and Valkey, two api processes, a gateway and a worker. What was seen before
revocations were rows of their own: the same process served the revoked sig at once and to
the end, a reissued user got the old one half a minute later, open streams got nothing.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from tests.process.processes import Answer, ServeProcess, command, environment, get, new_master_key
from tests.process.test_serve import Stream
from tests.servers import PostgresServer, RedisServer

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

APP = 1400000079
SECRET = "decade" * 10 + "beef"
#: Others follow within five seconds of a look, and each looks every second.
OTHERS = 6.0
STREAMS = 10.0


def post(url: str, token: str, body: Any = None) -> Answer:
    data = json.dumps(body or {}).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    request.add_header("Authorization", f"Bearer {token}")
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=10) as answer:
            return Answer(answer.status, answer.read())
    except urllib.error.HTTPError as refused:
        with refused:
            return Answer(refused.code, refused.read())


class Service:
    """Two api processes, a gateway and a worker over one PostgreSQL and one Valkey."""

    def __init__(self, home: Path, postgres: PostgresServer, redis: RedisServer) -> None:
        environ = environment(
            DATABASE__URL=postgres.url(postgres.create_database()),
            REDIS__URL=redis.url,
            MASTER_KEY=new_master_key(),
            HTTP__NEAR_TTL="3",
            REVOCATION__GRACE="8",
            GATEWAY__HEARTBEAT="3",
        )
        command(environ, "db", "upgrade")
        command(environ, "app", "add", APP)
        command(environ, "key", "add", APP, "--file", "-", "--activate", stdin=SECRET)
        made = command(environ, "token", "create", "--role", "backend", "--json")
        self.token: str = made.json["token"]
        self.redis = redis
        self.postgres = postgres
        self.environ = environ
        roles = ("api", "api", "gateway", "worker")
        self.processes = [
            ServeProcess(f"{role}{i}", environ, home, "--role", role)
            for i, role in enumerate(roles)
        ]
        self.here, self.other, self.gateway, _ = self.processes

    def start(self) -> None:
        for process in self.processes:
            process.start()
        for process in self.processes:
            process.wait_ready("/readyz")

    def path(self, user: str, rest: str = "/sig") -> str:
        return f"/v1/apps/{APP}/users/{user}{rest}"

    def sig(self, process: ServeProcess, user: str) -> Answer:
        return get(process.url + self.path(user), self.token)

    def issued(self, process: ServeProcess, user: str) -> dict[str, Any]:
        answer = self.sig(process, user)
        assert answer.status == 200, answer
        output: dict[str, Any] = answer.json
        return output

    def revoke(self, user: str) -> int:
        answer = post(self.here.url + self.path(user, "/sig/revoke"), self.token)
        assert answer.status == 200, answer
        at: int = answer.json["revoked_at"]
        return at

    def verdict(self, process: ServeProcess, usersig: str) -> dict[str, Any]:
        answer = post(f"{process.url}/v1/apps/{APP}/verify", self.token, {"usersig": usersig})
        output: dict[str, Any] = answer.json
        return output

    def raw(self) -> Redis:
        return Redis.from_url(self.redis.url)

    def cached(self, user: str) -> bytes:
        """The key of the user's sig in Redis, once it is there."""
        with self.raw() as client:
            found = until(lambda: client.keys(f"sm:*:s:{APP}/{user}"), 10)
        return bytes(found[0])


def until(look: Callable[[], Any], within: float) -> Any:
    """What it answers, once that is true."""
    end = time.monotonic() + within
    while not (found := look()):
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.05)
    return found


@pytest.fixture(scope="module")
def service(tmp_path_factory, postgres_server, redis_server) -> Iterator[Service]:
    running = Service(tmp_path_factory.mktemp("revocation"), postgres_server, redis_server)
    with contextlib.ExitStack() as stack:
        for process in running.processes:
            stack.callback(process.kill)
        running.start()
        yield running
        logs = "".join(text for one in running.processes for text in one.logs().values())
        assert "Traceback" not in logs, logs[logs.index("Traceback") :][:3000]


class Watched:
    """A stream of a user, read by a thread: what it was sent, and when it was closed."""

    def __init__(self, service: Service, ticket: str) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.ended_at = 0.0
        self.stream = Stream(service.gateway.port, ticket)
        assert self.stream.answer.status == 200
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()
        until(lambda: self.events, 5)

    def _read(self) -> None:
        with contextlib.suppress(OSError):
            for event in self.stream.events():
                self.events.append(event)
        self.ended_at = time.monotonic()
        self.stream.close()

    def reported(self) -> list[str]:
        return [name for name, _ in self.events]


def nothing_dead(service: Service, user: str, at: int, old: str, seconds: float) -> None:
    """Ask both for a while: here at once, there after its look, nobody hands out what died."""
    begun = time.monotonic()
    seen = 0
    while time.monotonic() - begun < seconds:
        for process in (service.here, service.other):
            answer = service.sig(process, user)
            if answer.status != 200:
                assert answer.json["code"] == "revoke-pause", answer
                continue
            late = process is service.here or time.monotonic() - begun > OTHERS
            if late:
                seen += 1
                assert answer.json["issued_at"] > at
                assert answer.json["usersig"] != old
        time.sleep(0.1)
    assert seen > 10


def refuse_by_memory(service: Service) -> Callable[[], None]:
    service.redis.command("CONFIG", "SET", "maxmemory-policy", "noeviction")
    service.redis.command("CONFIG", "SET", "maxmemory", "1")

    def heal() -> None:
        service.redis.command("CONFIG", "SET", "maxmemory", "0")

    return heal


def refuse_as_replica(service: Service) -> Callable[[], None]:
    # Of a master that is not there: it keeps what it has, and takes no writes.
    service.redis.command("REPLICAOF", "127.0.0.1", "1")

    def heal() -> None:
        service.redis.command("REPLICAOF", "NO", "ONE")

    return heal


@pytest.mark.parametrize("refuse", [refuse_by_memory, refuse_as_replica])
def test_with_a_redis_that_refuses_writes(service, refuse) -> None:
    user = refuse.__name__
    first = service.issued(service.here, user)
    service.issued(service.other, user)
    service.cached(user)
    stream = Watched(service, first["ticket"])
    heal = refuse(service)
    try:
        at = service.revoke(user)
        begun = time.monotonic()
        nothing_dead(service, user, at, first["usersig"], 12)
        until(lambda: stream.ended_at, 2)
        assert stream.ended_at - begun < STREAMS
        assert stream.reported()[-1] == "sig.revoked"
        for process in (service.here, service.other):
            output = service.verdict(process, first["usersig"])
            assert (output["valid"], output["reason"]) == (False, "revoked")
        with contextlib.closing(Stream(service.gateway.port, first["ticket"])) as again:
            assert again.answer.status == 401
    finally:
        heal()


def test_with_a_redis_that_gets_an_older_value_back(service) -> None:
    first = service.issued(service.here, "restored")
    key = service.cached("restored")
    with service.raw() as client:
        kept, ttl = client.dump(key), client.pttl(key)
        at = service.revoke("restored")
        time.sleep(1)
        client.restore(key, ttl, kept, replace=True)
        nothing_dead(service, "restored", at, first["usersig"], 8)
        client.restore(key, ttl, kept, replace=True)
        time.sleep(4)  # longer than an answer is near
        nothing_dead(service, "restored", at, first["usersig"], 8)


def test_a_frozen_redis_closes_no_eyes(service) -> None:
    first = service.issued(service.here, "frozen")
    service.issued(service.other, "frozen")
    stream = Watched(service, first["ticket"])
    service.redis.pause()
    try:
        at = service.revoke("frozen")
        begun = time.monotonic()
        nothing_dead(service, "frozen", at, first["usersig"], 10)
        until(lambda: stream.ended_at, 2)
        assert stream.ended_at - begun < STREAMS
    finally:
        service.redis.resume()


def test_everybody_of_an_app(service) -> None:
    users = [f"all{i}" for i in range(20)]
    firsts = {user: service.issued(service.here, user) for user in users}
    streams = [Watched(service, firsts[user]["ticket"]) for user in users[:5]]
    done = command(service.environ, "revoke", APP, "--all-users", "--yes")
    assert "revoked" in done.out
    begun = time.monotonic()
    time.sleep(OTHERS)
    for user in users:
        for process in (service.here, service.other):
            answer = service.sig(process, user)
            if answer.status == 200:
                assert answer.json["usersig"] != firsts[user]["usersig"]
            else:
                assert answer.json["code"] == "revoke-pause"
    for stream in streams:
        until(lambda stream=stream: stream.ended_at, max(0.1, STREAMS - time.monotonic() + begun))
        assert stream.reported()[-1] == "sig.revoked"
    # Until the margin for clocks that are apart, and the pause, are over.
    until(lambda: service.sig(service.other, users[0]).status == 200, 20)
    for user in users:
        assert service.issued(service.other, user)["issued_at"] > firsts[user]["issued_at"]


def test_without_sql_what_a_lost_revocation_could_concern_is_not_served(service) -> None:
    first = service.issued(service.here, "cutoff")
    service.cached("cutoff")
    time.sleep(9)  # a sig that is older than the grace
    service.postgres.pause()
    try:
        begun = time.monotonic()
        assert service.issued(service.here, "cutoff")["usersig"] == first["usersig"]
        refused = until(lambda: service.sig(service.here, "cutoff").status == 503, 30)
        assert refused
        waited = time.monotonic() - begun
        assert 6 <= waited <= 20, waited
        ready = get(service.here.url + "/readyz")
        assert ready.status == 503
        assert "revocation.grace" in ready.json["checks"]["revocations"]
    finally:
        service.postgres.resume()
    until(lambda: service.sig(service.here, "cutoff").status == 200, 30)
    until(lambda: get(service.here.url + "/readyz").status == 200, 30)
