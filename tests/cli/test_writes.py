"""The doctor's findings on parts that answer and do not write, over real servers."""

from __future__ import annotations

import re
import threading

import psycopg
import pytest

from tests.cli.kit import APP, SECRET, Shell, check_narrow


@pytest.fixture
def served(bare, monkeypatch, postgres_url, redis_server) -> Shell:
    """A shell over real servers and an app that signs."""
    redis_server.wipe()
    monkeypatch.setenv("SIGMGR_DATABASE__URL", postgres_url)
    monkeypatch.setenv("SIGMGR_REDIS__URL", redis_server.url)
    for words in (["db", "upgrade"], ["app", "add", APP]):
        assert bare(*words).status == 0
    assert bare("key", "add", APP, "--file", "-", "--activate", stdin=SECRET).status == 0
    return bare


def findings(shell: Shell) -> dict[str, list[tuple[str, str, str]]]:
    found: dict[str, list[tuple[str, str, str]]] = {}
    for one in shell("doctor", "--json").json:
        found.setdefault(one["part"], []).append((one["verdict"], one["text"], one["advice"]))
    return found


def test_parts_that_write(served):
    found = findings(served)
    assert found["database"][-1] == ("ok", "reads and writes", "")
    assert found["redis"] == [("ok", "answers and writes", "")]
    assert served("doctor").status == 0


def test_a_database_that_is_read_only_is_examined_to_the_end(served, postgres_url):
    name = postgres_url.rpartition("/")[2]
    plain = re.sub(r"^postgresql\+psycopg:", "postgresql:", postgres_url)
    with psycopg.connect(plain, autocommit=True) as session:
        session.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    found = findings(served)
    (_, answers, _), (verdict, text, advice) = found["database"]
    assert answers.startswith("answers")
    assert (verdict, text) == (
        "fail",
        "read-only: nothing new is issued, sigs at hand are served",
    )
    assert "primary" in advice
    assert [verdict for verdict, _, _ in found["apps"]] == ["ok"]
    done = served("doctor")
    assert done.status == 1
    check_narrow(done)


def test_a_redis_that_is_full(served, redis_server):
    redis_server.command("CONFIG", "SET", "maxmemory", "1")
    try:
        [(verdict, text, advice)] = findings(served)["redis"]
    finally:
        redis_server.command("CONFIG", "SET", "maxmemory", "0")
    assert verdict == "fail"
    assert text.startswith("full: gets are answered from the database")
    assert "maxmemory-policy" in advice
    assert findings(served)["redis"][0][0] == "ok"


def test_a_redis_far_away_has_the_time_of_its_setting(served, redis_server, monkeypatch):
    monkeypatch.setenv("SIGMGR_REDIS__TIMEOUT", "10")
    redis_server.pause()
    later = threading.Timer(2.5, redis_server.resume)
    later.start()
    try:
        assert findings(served)["redis"] == [("ok", "answers and writes", "")]
    finally:
        later.join()
