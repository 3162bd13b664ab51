"""Writes that fail are reported where people look, until they work again.

A real PostgreSQL and a real Valkey that refuse; a process that does everything and a worker.
What was seen before parts were probed by a write: readiness and doctor were ok throughout.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
import pytest

from tests.process.processes import Answer, ServeProcess, command, environment, get, new_master_key
from tests.process.test_hostile_revocation import post, until
from tests.servers import PostgresServer, RedisServer

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

APP = 1400000079
SECRET = "decade" * 10 + "beef"
PROBE = 2.0
GRACE = 12.0
#: One probe period, what a probe takes, and a busy machine.
SOON = PROBE + 5.0


class Service:
    """One process of every role and one worker over one PostgreSQL and one Valkey."""

    def __init__(self, home: Path, postgres: PostgresServer, redis: RedisServer) -> None:
        self.database = postgres.create_database()
        self.environ = environment(
            DATABASE__URL=postgres.url(self.database),
            REDIS__URL=redis.url,
            MASTER_KEY=new_master_key(),
            SCHEDULER__PROBE_EVERY=str(PROBE),
            REVOCATION__GRACE=str(GRACE),
            LOG__AS_JSON="true",
        )
        command(self.environ, "db", "upgrade")
        command(self.environ, "app", "add", APP)
        command(self.environ, "key", "add", APP, "--file", "-", "--activate", stdin=SECRET)
        made = command(self.environ, "token", "create", "--role", "backend", "--json")
        self.token: str = made.json["token"]
        self.postgres, self.redis = postgres, redis
        self.all = ServeProcess("all", self.environ, home)
        self.worker = ServeProcess("worker", self.environ, home, "--role", "worker")

    def sql(self, *statements: str) -> None:
        """By somebody who may write whatever the server's default is."""
        url = self.postgres.url(self.database, driver="postgresql")
        with psycopg.connect(url, autocommit=True) as session:
            session.execute("SET default_transaction_read_only = off")
            for statement in statements:
                session.execute(statement)

    def sig(self, user: str) -> Answer:
        return get(f"{self.all.url}/v1/apps/{APP}/users/{user}/sig", self.token)

    def ready(self, process: ServeProcess | None = None) -> Answer:
        return get(f"{(process or self.all).url}/readyz")

    def shows(self, part: str, text: str) -> bool:
        """Both processes report this part, and both are still to be used."""
        answers = [self.ready(self.all), self.ready(self.worker)]
        return all(
            answer.status == 200 and answer.json["checks"][part].startswith(text)
            for answer in answers
        )

    def doctor(self) -> dict[str, list[dict[str, Any]]]:
        """Findings by verdict."""
        done = command(self.environ, "doctor", "--json", check=False)
        found: dict[str, list[dict[str, Any]]] = {"fail": []}
        for finding in done.json:
            found.setdefault(finding["verdict"], []).append(finding)
        assert done.status == bool(found["fail"]), done
        return found

    def output(self, **fields: Any) -> list[dict[str, Any]]:
        """The lines of the log that hold these."""
        lines = [json.loads(line) for line in self.all.log.splitlines() if line.startswith("{")]
        return [line for line in lines if fields.items() <= line.items()]


@pytest.fixture(scope="module")
def service(tmp_path_factory, postgres_server, redis_server) -> Iterator[Service]:
    redis_server.wipe()
    made = Service(tmp_path_factory.mktemp("writes"), postgres_server, redis_server)
    with made.all, made.worker:
        made.all.wait_ready("/readyz")
        made.worker.wait_ready("/readyz")
        yield made


class Refusal(NamedTuple):
    """A part that answers and does not write. ``advice``: a word of the doctor's."""

    part: str
    why: str
    advice: str
    begin: Callable[[Service], None]
    end: Callable[[Service], None]


def config(*words: str) -> Callable[[Service], None]:
    def announce(service: Service) -> None:
        service.redis.command(*words)

    return announce


def sql(*statements: str) -> Callable[[Service], None]:
    return lambda service: service.sql(*statements)


def refusing(code: str) -> Callable[[Service], None]:
    """The server itself refuses every new row, as it does on a full disk."""
    triggers = [
        f"CREATE TRIGGER refuse BEFORE INSERT OR UPDATE ON {table} EXECUTE FUNCTION refuse()"
        for table in ("meta", "holders")
    ]
    body = f"$$ BEGIN RAISE SQLSTATE '{code}'; END $$"
    return sql(f"CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS {body}", *triggers)


REFUSALS = [
    Refusal(
        "database",
        "read-only",
        "primary",
        sql("ALTER SYSTEM SET default_transaction_read_only = on", "SELECT pg_reload_conf()"),
        sql("ALTER SYSTEM RESET default_transaction_read_only", "SELECT pg_reload_conf()"),
    ),
    Refusal("database", "full", "space", refusing("53100"), sql("DROP FUNCTION refuse CASCADE")),
    Refusal(
        "database",
        "refuses writes (53200)",
        "log",
        refusing("53200"),
        sql("DROP FUNCTION refuse CASCADE"),
    ),
    Refusal(
        "redis",
        "full",
        "maxmemory",
        config("CONFIG", "SET", "maxmemory", "1"),
        config("CONFIG", "SET", "maxmemory", "0"),
    ),
    Refusal(
        "redis",
        "read-only",
        "replica",
        config("REPLICAOF", "127.0.0.1", "1"),
        config("REPLICAOF", "NO", "ONE"),
    ),
    Refusal(
        "redis",
        "refuses writes (NOREPLICAS)",
        "log",
        config("CONFIG", "SET", "min-replicas-to-write", "1"),
        config("CONFIG", "SET", "min-replicas-to-write", "0"),
    ),
]


@pytest.mark.parametrize("refusal", REFUSALS, ids=lambda one: f"{one.part}: {one.why}")
def test_a_part_that_refuses_writes_is_reported_and_then_no_more(
    service: Service, refusal: Refusal
) -> None:
    part, why = refusal.part, refusal.why
    until(lambda: service.shows(part, "ok"), SOON)
    hot = service.sig("hot").json
    before = len(service.output(action="health", part=part))
    with contextlib.ExitStack() as stack:
        stack.callback(refusal.end, service)
        refusal.begin(service)
        until(lambda: service.shows(part, f"degraded: {why}: "), SOON)
        assert service.ready().json["status"] == "degraded"
        assert service.sig("hot").json["usersig"] == hot["usersig"]
        new = service.sig(f"new while {part} {why}".replace(" ", "-")[:32])
        if part == "database":
            assert (new.status, new.json["code"]) == (503, "store-refuses-writes")
            assert why in new.json["detail"]
        else:
            assert new.status == 200, new
        [finding] = [one for one in service.doctor()["fail"] if one["part"] == part]
        assert finding["text"].startswith(f"{why}: ")
        assert refusal.advice in finding["advice"]
    until(lambda: service.shows(part, "ok"), SOON)
    assert service.ready().json["status"] == "ok"
    assert service.doctor()["fail"] == []
    assert service.sig(f"new after {part} {why}".replace(" ", "-")[:32]).status == 200
    changes = service.output(action="health", part=part)[before:]
    assert [line["state"].split(": ")[:2] for line in changes] == [["degraded", why], ["ok"]]


def test_a_batch_that_is_refused_is_one_line(service: Service) -> None:
    refusing("53100")(service)
    try:
        users = [f"batch{number}" for number in range(20)]
        answer = post(
            f"{service.all.url}/v1/apps/{APP}/sigs/batch-get", service.token, {"userids": users}
        )
        assert answer.status == 200, answer
        codes = {item["error"]["code"] for item in answer.json["sigs"]}
        assert codes == {"store-refuses-writes"}
    finally:
        service.sql("DROP FUNCTION refuse CASCADE")
    [line] = service.output(action="batch-refused")
    assert line["refused"] == {"store-refuses-writes": 20}


def test_a_database_that_is_away_takes_nobody_out_until_nobody_can_be_served(
    service: Service,
) -> None:
    until(lambda: service.shows("database", "ok"), SOON)
    hot = service.sig("hot").json
    service.postgres.stop("immediate")
    try:
        began = time.monotonic()
        until(lambda: service.shows("database", "degraded: does not answer: "), SOON)
        while time.monotonic() - began < GRACE - 4:
            assert service.ready().status == 200
            assert service.sig("hot").json["usersig"] == hot["usersig"]
            time.sleep(0.2)
        refused = until(lambda: (output := service.ready()).status == 503 and output, GRACE)
        assert refused.json["status"] == "failed"
        assert refused.json["checks"]["revocations"].startswith("failed: ")
        # A worker serves nobody in any case, and nobody is led away from it.
        assert service.ready(service.worker).status == 200
        assert service.ready(service.worker).json["status"] == "degraded"
        [finding] = [one for one in service.doctor()["fail"] if one["part"] == "database"]
        assert "store-unavailable" in finding["text"]
    finally:
        service.postgres.start()
    until(lambda: service.shows("database", "ok"), SOON + 5)
    until(lambda: service.ready().json["status"] == "ok", SOON + 5)


def test_a_redis_that_is_away_takes_nobody_out(service: Service) -> None:
    until(lambda: service.shows("redis", "ok"), SOON)
    service.redis.stop("kill")
    try:
        until(lambda: service.shows("redis", "degraded: does not answer: "), SOON)
        assert service.sig("new-without-redis").status == 200
        [finding] = service.doctor()["fail"]
        assert finding["part"] == "redis"
    finally:
        service.redis.start()
    until(lambda: service.shows("redis", "ok"), SOON)
    assert service.doctor()["fail"] == []
