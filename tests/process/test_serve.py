"""``sigmgr serve`` as a process of its own: it starts, serves, stops, and says what is wrong.

All on SQLite and the Redis inside the process. What a start refuses is tried with several
starts at once, because a start costs a second and most of it is waiting.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.process.processes import ServeProcess, command, environment, get, new_master_key

APP = 1400000078
SECRET = "5e7fed" * 10 + "beef"


def furnished(home: Path, *, ttl: str = "90d") -> tuple[dict[str, str], str]:
    """The environment of a migrated database with one app and its key, and a backend token."""
    environ = environment(
        DATABASE__URL=f"sqlite+aiosqlite:///{home}/sigmgr.db",
        MASTER_KEY=new_master_key(),
        SCHEDULER__RENEW_EVERY="0.3",
    )
    command(environ, "db", "upgrade")
    command(environ, "app", "add", APP, "--ttl", ttl)
    command(environ, "key", "add", APP, "--file", "-", "--activate", stdin=SECRET)
    token = command(environ, "token", "create", "--role", "backend", "--json").json["token"]
    return environ, token


@pytest.fixture(scope="module")
def ready(tmp_path_factory) -> tuple[dict[str, str], str]:
    """A furnished database that these tests share: they start services, they change little."""
    return furnished(tmp_path_factory.mktemp("ready"), ttl="12s")


class Stream:
    """One SSE stream, read line by line; every read ends within ten seconds."""

    def __init__(self, port: int, ticket: str) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        headers = {"Authorization": f"Bearer {ticket}", "Accept": "text/event-stream"}
        self._connection.request("GET", "/v1/stream", headers=headers)
        self.answer = self._connection.getresponse()

    def events(self) -> Iterator[tuple[str, dict]]:
        name = ""
        while line := self.answer.readline().decode():
            word, _, rest = line.strip().partition(": ")
            if word == "event":
                name = rest
            elif word == "data":
                yield name, json.loads(rest)

    def close(self) -> None:
        self.answer.close()
        self._connection.close()


@pytest.fixture
def streams() -> Iterator[Callable[[int, str], Stream]]:
    """Opens streams that are closed after the test, however it ends."""
    with contextlib.ExitStack() as stack:

        def opened(port: int, ticket: str) -> Stream:
            return stack.enter_context(contextlib.closing(Stream(port, ticket)))

        yield opened


def test_it_serves_renews_and_sends_bye(ready, tmp_path, streams):
    environ, token = ready
    with ServeProcess("serve", environ, tmp_path, port=0) as service:
        service.wait_ready()
        assert get(f"{service.url}/livez").json == {"status": "ok"}
        checks = get(f"{service.url}/readyz").json
        assert checks == {
            "status": "ok",
            "checks": dict.fromkeys(("database", "redis", "revocations", "clock"), "ok"),
        }

        sig = get(f"{service.url}/v1/apps/{APP}/users/alice/sig", token)
        assert sig.status == 200
        first = sig.json
        assert first["expires_at"] - first["issued_at"] == 12
        # The address that clients get is the one that was really bound.
        assert first["stream_url"] == f"{service.url}/v1/stream"

        stream = streams(service.port, first["ticket"])
        assert stream.answer.status == 200
        events = stream.events()
        name, current = next(events)
        assert name == "sig.current"
        # What is not acked is sent again, so the next message need not be the next sig.
        name, renewed = next(e for e in events if e[1]["issued_at"] > current["issued_at"])
        assert name == "sig.renewed"
        # The service's own seconds: how late a slow machine reads them here does not matter.
        assert renewed["issued_at"] < current["expires_at"] < renewed["expires_at"]

        began = time.monotonic()
        service.terminate()
        names = [name for name, _ in events]
        assert names[-1] == "bye"
        assert service.wait() == 0
        assert time.monotonic() - began < 8
        assert "Traceback" not in service.log
        assert renewed["usersig"] not in service.log
        assert token not in service.log


def test_it_serves_without_redis_and_reports_it(ready, tmp_path):
    environ, token = ready
    away = {**environ, "SIGMGR_REDIS__URL": "redis://127.0.0.1:1/0"}
    with ServeProcess("serve", away, tmp_path, "--host", "0.0.0.0", port=0) as service:
        service.wait_ready("/readyz")
        ready_ = get(f"{service.url}/readyz").json
        assert ready_["checks"]["database"] == "ok"
        assert ready_["checks"]["redis"].startswith("degraded: ")
        assert get(f"{service.url}/v1/apps/{APP}/users/carol/sig", token).status == 200
        # The address that it binds is none that a client can reach.
        assert "SIGMGR_HTTP__STREAM_URL" in service.log
        assert service.stop() == 0
        assert "Traceback" not in service.log


def test_ctrl_c_ends_it_too(ready, tmp_path):
    environ, _ = ready
    with ServeProcess("serve", environ, tmp_path, port=0) as service:
        service.wait_ready()
        os.kill(service._process.pid, 2)
        assert service.wait() == 0
        assert "Traceback" not in service.log


def refused(environ: dict[str, str], *arguments: object) -> tuple[int, str]:
    """Exit status and text of a ``serve`` that is to end by itself."""
    done = command(environ, "serve", "--port", 0, *arguments, check=False)
    assert "Traceback" not in done.err
    assert done.out == ""
    return done.status, done.err


REFUSALS = {
    "not migrated": ({"DATABASE__URL": "sqlite+aiosqlite:///{home}/new.db"}, [], "not-migrated"),
    "wrong master key": ({"MASTER_KEY": new_master_key()}, [], "wrong-master-key"),
    "missing master key": ({"MASTER_KEY": ""}, [], "master-key-missing"),
    "short master key": ({"MASTER_KEY": "YWJj"}, [], "bad-settings"),
    "master key file": (
        {"MASTER_KEY": "", "MASTER_KEY_FILE": "{home}/none"},
        [],
        "bad-settings",
    ),
    "unknown name": ({"HTTP__PROT": "80"}, [], "bad-settings"),
    "unknown section": ({"HTPP__PORT": "80"}, [], "bad-settings"),
    "a section as a value": ({"HTTP": "80"}, [], "bad-settings"),
    "bad value": ({"REDIS__SHARDS": "many"}, [], "bad-settings"),
    "unknown database": ({"DATABASE__URL": "mysql://localhost/x"}, [], "bad-settings"),
    "unknown redis": ({"REDIS__URL": "http://localhost"}, [], "bad-settings"),
    "one role": ({}, ["--role", "api"], "bad-settings"),
    "an address of elsewhere": ({}, ["--host", "203.0.113.1"], "bad-settings"),
    "no file": ({}, ["--config", "{home}/none.toml"], "bad-settings"),
    "file with unknown name": ({}, ["--config", "{home}/typo.toml"], "bad-settings"),
    "file that is no TOML": ({}, ["--config", "{home}/broken.toml"], "bad-settings"),
}


@pytest.fixture(scope="module")
def refusals(ready, tmp_path_factory) -> dict[str, tuple[int, str]]:
    """What every start of REFUSALS ended with; four at a time."""
    home = tmp_path_factory.mktemp("refused")
    (home / "typo.toml").write_text("[http]\nprot = 80\n")
    (home / "broken.toml").write_text("[http\n")
    seen: dict[str, tuple[int, str]] = {}
    names = iter(REFUSALS)
    turn = threading.Lock()

    def work() -> None:
        while True:
            with turn:
                name = next(names, None)
            if name is None:
                return
            settings, arguments, _ = REFUSALS[name]
            changed = {f"SIGMGR_{k}": v.format(home=home) for k, v in settings.items()}
            reported = [one.format(home=home) for one in arguments]
            seen[name] = refused({**ready[0], **changed}, *reported)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return seen


@pytest.mark.parametrize("name", REFUSALS)
def test_a_start_that_is_refused(name, refusals):
    status, text = refusals[name]
    assert status == 3, text
    _, _, code = REFUSALS[name]
    assert f"code: {code}" in text
    assert "what to do: " in text
    complaint = text[text.index("error: ") :]
    assert all(len(line) <= 80 or "/" in line for line in complaint.splitlines()), text


def test_a_refusal_does_not_show_the_value(refusals):
    assert "many" not in refusals["bad value"][1]
    assert "redis.shards" in refusals["bad value"][1]
    assert "http.prot" in refusals["unknown name"][1]
    assert "htpp" in refusals["unknown section"][1]


def test_a_port_that_is_taken(ready):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        done = command(ready[0], "serve", "--port", port, check=False)
    assert done.status == 3
    assert "code: address-in-use" in done.err
    assert str(port) in done.err
    assert "Traceback" not in done.err


def test_two_starts_that_upgrade_at_once(tmp_path):
    environ = environment(
        DATABASE__URL=f"sqlite+aiosqlite:///{tmp_path}/race.db", MASTER_KEY=new_master_key()
    )
    both = [ServeProcess(f"s{i}", environ, tmp_path, "--upgrade", port=0) for i in (1, 2)]
    with both[0], both[1]:
        for service in both:
            service.wait_ready("/readyz")
        applied = [line for s in both for line in s.log.splitlines() if "applied" in line]
        assert len(applied) == len(set(applied)) >= 1
        for service in both:
            service.terminate()
        assert [service.wait() for service in both] == [0, 0]
        assert all("Traceback" not in service.log for service in both)


def test_a_second_signal_ends_it_at_once(ready, tmp_path, streams):
    environ, token = ready
    with ServeProcess("serve", environ, tmp_path, port=0) as service:
        service.wait_ready()
        ticket = get(f"{service.url}/v1/apps/{APP}/users/bob/sig", token).json["ticket"]
        stream = streams(service.port, ticket)
        next(stream.events())
        service.terminate()
        service.terminate()
        assert service.wait(5) in {0, 143}
        assert "Traceback" not in service.log


def test_the_installed_command_is_the_module():
    """``sigmgr`` and ``python -m sigmgr`` are one."""
    script = Path(sys.executable).parent / "sigmgr"
    done = subprocess.run([script, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("sigmgr ")
