"""A thief of logs: a service that logs all it can, asked rightly and wrongly, logs no secret."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tests.process.processes import ServeProcess, command, environment, new_master_key
from tests.thefts.loot import among, found

APP = 1400000077
SECRET = "".join(f"{i:02x}" for i in range(32))


def ask(url: str, credential: str = "", body: Any = None) -> tuple[int, bytes]:
    headers = {"Authorization": f"Bearer {credential}"} if credential else {}
    data = None
    if body is not None:
        headers["Content-Type"] = "application/json"
        data = json.dumps(body).encode()
    request = urllib.request.Request(url, data, headers)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


@pytest.mark.slow
def test_a_log_of_everything_holds_no_secret(tmp_path: Path) -> None:
    master = new_master_key()
    environ = environment(
        DATABASE__URL=f"sqlite+aiosqlite:///{tmp_path}/sigmgr.db",
        MASTER_KEY=master,
        LOG__LEVEL="debug",
        # Nobody listens there: what goes wrong is logged most.
        REDIS__URL="redis://:redis-password-of-some-length@127.0.0.1:1/0",
    )
    command(environ, "db", "upgrade")
    command(environ, "app", "add", APP)
    command(environ, "key", "add", APP, "--file", "-", "--activate", stdin=SECRET)
    token = command(environ, "token", "create", "--role", "backend", "--json").json["token"]
    sigs, secrets = [], [master, SECRET, token, "redis-password-of-some-length"]
    with ServeProcess("serve", environ, tmp_path, port=0) as service:
        service.wait_ready()
        users, stream = f"{service.url}/v1/apps/{APP}/users", f"{service.url}/v1/stream"
        for user in ("alice", "bob"):
            status, output = ask(f"{users}/{user}/sig", token)
            assert status == 200
            given = json.loads(output)
            sigs.append(given["usersig"])
            secrets.append(given["ticket"].removeprefix("t1."))
            assert ask(f"{stream}/current", given["ticket"])[0] == 200
            assert ask(f"{stream}/ack", given["ticket"], {"issued_at": given["issued_at"]})[0] < 300
            assert ask(f"{users}/{user}/sig", given["ticket"])[0] == 401
            assert ask(f"{stream}/current", token)[0] == 401
        verify = f"{service.url}/v1/apps/{APP}/verify"
        assert ask(verify, token, {"usersig": sigs[0]})[0] == 200
        # Secrets where they do not belong.
        for wrong in (sigs[0], token, secrets[-1], SECRET):
            assert 400 <= ask(f"{users}/{wrong}/sig", token)[0] < 500
            assert 400 <= ask(f"{service.url}/{wrong}", wrong)[0] < 500
            assert 400 <= ask(verify, token, {"usersig": wrong, "more": wrong})[0] < 500
            asked = f"{users}/carol/sig/reissue?token={wrong}"
            assert ask(asked, wrong, {"reason": wrong})[0] in {400, 401, 404}
        assert ask(f"{users}/alice/sig/revoke", token, {})[0] == 200
        assert service.stop() == 0
        log = service.log.encode()
    assert b"sigmgr serves" in log
    assert not found(log, sigs)
    assert not among(log, secrets)
