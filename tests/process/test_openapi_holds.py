"""What the OpenAPI document says is what a real service does, whatever it is sent.

schemathesis reads the document of a running ``sigmgr serve`` and sends it what the document
allows and what it forbids, with real credentials and without. Every check of it holds: no
500, every status documented, every body as its schema says, what is allowed is taken, what
is forbidden is refused. For longer: OPENAPI_EXAMPLES=400 in the environment.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.process.processes import ServeProcess, command, get
from tests.process.test_serve import APP, furnished

MAX_EXAMPLES = int(os.environ.get("OPENAPI_EXAMPLES", "30"))
pytestmark = [pytest.mark.slow, pytest.mark.timeout(10 * MAX_EXAMPLES)]

HOOKS = Path(__file__).with_name("openapi_hooks.py")
#: An answer of this never ends, and its opening has tests of its own.
ENDLESS = "/v1/stream"

CONFIG = """
hooks = "{hooks}"
[auth.openapi.token]
bearer = "{token}"
[auth.openapi.ticket]
bearer = "{ticket}"
[checks.not_a_server_error]
expected-statuses = ["2xx", "3xx", "4xx", 503]
"""
THIS_APP = f"[parameters]\nsdkappid = {APP}\n"


def hold(service: ServeProcess, home: Path, config: str) -> dict:
    """Run all checks; the report. Fails with what schemathesis says where one does not hold."""
    (home / "st.toml").write_text(config)
    line = [sys.executable, "-m", "schemathesis.cli", "--config-file", "st.toml", "run"]
    line += [f"{service.url}/openapi.json", "--checks", "all", "--exclude-path", ENDLESS]
    line += ["--max-examples", str(MAX_EXAMPLES), "--request-timeout", "20"]
    line += ["--continue-on-failure", "--report", "json", "--report-json-path", "report.json"]
    done = subprocess.run(line, cwd=home, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-2000:]
    return json.loads((home / "report.json").read_text())


def accepted(report: dict) -> dict[str, int]:
    """How often each operation has taken what it was sent."""
    return {
        name: sum(phase["accepted"] for phase in phases.values())
        for name, phases in report["valid_rates"].items()
    }


def test_the_document_holds(tmp_path):
    environ, backend = furnished(tmp_path)
    admin = command(environ, "token", "create", "--role", "admin", "--json").json["token"]
    with ServeProcess("serve", environ, tmp_path, port=0) as service:
        service.wait_ready()
        sig = get(f"{service.url}/v1/apps/{APP}/users/alice/sig", backend).json
        answer = get(f"{service.url}/openapi.json").json
        config = CONFIG.format(hooks=HOOKS, token=admin, ticket=sig["ticket"])

        report = hold(service, tmp_path, config + THIS_APP)
        assert report["operations"]["tested"] == report["operations"]["total"] - 1
        # It has looked behind the doors: every operation was asked in a way that it takes.
        asked = {
            f"{method.upper()} {path}"
            for path, operations in answer["paths"].items()
            for method in operations
            if path != ENDLESS
        }
        assert {name for name, times in accepted(report).items() if times} == asked
        assert report["test_cases"]["generated"] > 300

        # Apps that nobody knows, by a token that is bound to one.
        token = command(environ, "token", "create", "--role", "backend", "--app", APP, "--json")
        bound = CONFIG.format(hooks=HOOKS, token=token.json["token"], ticket=sig["ticket"])
        hold(service, tmp_path, bound)
        assert "Traceback" not in service.log
        assert service.stop() == 0
