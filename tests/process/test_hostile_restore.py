"""A database restored from a backup under clients that go on: nobody is left with what it lost.

The service runs as a process of its own, on SQLite, whose file is put back while it is down,
as an operator does it.
"""

from __future__ import annotations

import http.client
import json
import shutil
from pathlib import Path

import pytest

from tests.process.processes import ServeProcess, command
from tests.process.test_serve import APP, furnished

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

USER = f"/v1/apps/{APP}/users/alice/sig"


def ask(service: ServeProcess, method: str, path: str, credential: str, body=None, **headers):
    """Status and JSON of one request; an event stream is read to the end of its first event."""
    connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=10)
    given = {"Authorization": f"Bearer {credential}", "Content-Type": "application/json"}
    given |= {name.replace("_", "-"): str(value) for name, value in headers.items()}
    sent = None if body is None else json.dumps(body)
    try:
        connection.request(method, path, body=sent, headers=given)
        answer = connection.getresponse()
        if answer.headers.get_content_type() != "text/event-stream":
            output = answer.read()
            return answer.status, json.loads(output) if output else None
        while not (line := answer.readline()).startswith(b"data: "):
            assert line
        return answer.status, json.loads(line.removeprefix(b"data: "))
    finally:
        connection.close()


def saved(home: Path, name: str) -> None:
    """A copy of the whole database. The service is down, so its log was written back."""
    shutil.copytree(home / "db", home / name)


def restored(home: Path, name: str) -> None:
    shutil.rmtree(home / "db")
    shutil.copytree(home / name, home / "db")


def test_clients_of_a_restored_database_get_newer_sigs(tmp_path):
    (tmp_path / "db").mkdir()
    environ, token = furnished(tmp_path / "db")
    service = ServeProcess("serve", environ, tmp_path, port=0)
    with service:
        service.wait_ready()
        _, first = ask(service, "GET", USER, token)
        assert service.stop() == 0
        saved(tmp_path, "backup")

        service.start().wait_ready()
        lost = first
        while lost["issued_at"] == first["issued_at"]:
            _, lost = ask(service, "POST", f"{USER}/reissue", token, {})
        held, ticket = lost["issued_at"], lost["ticket"]
        assert ask(service, "POST", "/v1/stream/ack", ticket, {"issued_at": held})[0] == 204
        assert service.stop() == 0

        restored(tmp_path, "backup")
        service.start().wait_ready()
        assert ask(service, "GET", USER, token)[1]["issued_at"] == first["issued_at"]

        # A client that comes back names its sig, and gets one that follows it.
        status, current = ask(service, "GET", "/v1/stream", ticket, Last_Event_ID=held)
        assert status == 200
        assert current["issued_at"] > held
        assert current["usersig"] not in {lost["usersig"], first["usersig"]}
        assert ask(service, "GET", USER, token)[1]["issued_at"] == current["issued_at"]

        # Another device of the same user is late; the first one's ticket proves nothing.
        for one in (ticket, first["ticket"]):
            assert ask(service, "POST", "/v1/stream/ack", one, {"issued_at": held})[0] == 204
            polled = ask(service, "GET", "/v1/stream/current", one, If_None_Match=f'"{held}"')
            assert (polled[0], polled[1]["issued_at"]) == (200, current["issued_at"])

        for never in (held + 3600, first["issued_at"] + 10**8):
            status, output = ask(service, "POST", "/v1/stream/ack", ticket, {"issued_at": never})
            assert (status, output["code"]) == (409, "never-issued")
            status, output = ask(service, "GET", "/v1/stream", ticket, Last_Event_ID=never)
            assert (status, output["code"]) == (409, "never-issued")
        assert ask(service, "GET", "/v1/stream", ticket)[1]["issued_at"] == current["issued_at"]

        assert service.log.count("restored from a backup") == 1
        assert "Traceback" not in service.log
        for secret in (ticket, current["usersig"], lost["usersig"]):
            assert secret not in service.log
        [row] = command(environ, "show", APP, "alice", "--json").json
        assert (row["issued_at"], row["reason"]) == (current["issued_at"], "Forced")
        assert service.stop() == 0
