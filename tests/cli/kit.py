"""Running the command line inside the test's process, as close to a shell as it gets."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from typing import NamedTuple

from sigmgr.cli import frame

APP = 1400000079
#: As the console shows one.
SECRET = "c0ffee" * 10 + "beef"


class Done(NamedTuple):
    status: int
    out: str
    err: str

    @property
    def json(self):
        return json.loads(self.out)


class Shell:
    """``shell("sig", "sign", ...)``; numbers and paths may stand among the arguments."""

    def __init__(self, capsys, monkeypatch) -> None:
        self._capsys = capsys
        self._monkeypatch = monkeypatch

    def __call__(self, *arguments, stdin: str | bytes = b"") -> Done:
        raw = stdin.encode() if isinstance(stdin, str) else stdin
        self._monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(raw)))
        status = frame.run([str(one) for one in arguments])
        done = Done(status, *self._capsys.readouterr())
        assert "Traceback" not in done.err
        assert all(len(line) <= 80 for line in done.err.splitlines() if "/" not in line)
        return done


def process(*arguments, stdin: bytes = b"") -> Done:
    """The same as a program of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "sigmgr", *(str(one) for one in arguments)],
        input=stdin,
        capture_output=True,
        check=False,
        timeout=60,
    )
    return Done(done.returncode, done.stdout.decode(), done.stderr.decode())


def check_refusal(done: Done, status: int, code: str, *words: str) -> None:
    """Nothing on standard output; what happened, its code and what to do on the other."""
    assert done.status == status, done
    assert done.out == ""
    assert done.err.startswith("error: ")
    assert f"\n  code: {code}\n" in done.err
    assert "\n  what to do: " in done.err
    text = " ".join(done.err.split())
    for word in words:
        assert word in text, done.err


def check_narrow(done: Done) -> None:
    """Everything printed fits 80 columns, but a sig or a path, which is one word."""
    for line in (done.out + done.err).splitlines():
        assert len(line) <= 80 or " " not in line.strip(), line
