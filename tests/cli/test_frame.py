"""The frame of the command line: help, exit statuses, and errors without tracebacks."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from sigmgr.cli import frame, keygen, output
from sigmgr.model import errors
from tests.cli.kit import process

NAMES = [*frame.GROUPS, *frame.COMMANDS]


def test_help_as_a_program_shows_every_command():
    done = process("--help")
    assert (done.status, done.err) == (0, "")
    assert {line.split()[0] for line in done.out.splitlines() if line.startswith("  ")} >= {*NAMES}
    assert max(map(len, done.out.splitlines())) <= 80


@pytest.mark.parametrize("name", NAMES)
def test_every_command_has_help(shell, name):
    done = shell(name, "--help")
    assert (done.status, done.err) == (0, "")
    assert done.out.startswith(f"Usage: sigmgr {name} ")


@pytest.mark.parametrize("name", ["keygen", "sig"])
def test_help_loads_nothing_heavy(name):
    heavy = "{'cryptography', 'sqlalchemy', 'redis', 'fastapi', 'asyncio'}"
    probe = (
        "import sys; from sigmgr.cli import frame; "
        f"frame.run([{name!r}, '--help']); print(sorted({heavy} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] in {"[]", "['asyncio']"}


def test_the_version_is_told(shell):
    done = shell("--version")
    assert (done.status, done.out.split()[0]) == (0, "sigmgr")


@pytest.mark.parametrize("arguments", [[], ["sig"]])
def test_a_bare_call_shows_help_and_is_wrong_usage(shell, arguments):
    done = shell(*arguments)
    assert (done.status, done.out, "Usage: sigmgr" in done.err) == (2, "", True)


def test_a_mistyped_command_is_told_the_right_one(shell):
    done = shell("keygne")
    assert (done.status, "'keygen'" in done.err) == (2, True)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["app", "add", "abc"], "Invalid value for 'SDKAPPID': it is no number"),
        (["keygen", "--format", "v9", "--out", "x"], "'v9' is not one of 'v1', 'v2'."),
        (["serve", "--port", "70000"], "it is to be less than or equal to 65535"),
        (["serve", "--port", "-1"], "it is to be greater than or equal to 0"),
        (["demo", "--port", "70000"], "it is to be less than or equal to 65535"),
        (["simulate", "--days", "1"], "it is to be greater than or equal to 5"),
    ],
)
def test_a_value_that_an_option_does_not_take(shell, arguments, said):
    done = shell(*arguments)
    assert (done.status, done.out) == (2, "")
    text = " ".join(done.err.split())
    assert said in text
    assert "code: usage" in text
    assert "Value error" not in text


def test_a_secret_on_a_mistyped_command_line_is_not_repeated(shell):
    secret = "0123456789abcdef" * 4
    for arguments in (["sig", secret], ["sig", "verify", "a", secret], [f"--{secret}"]):
        done = shell(*arguments)
        assert (done.status, secret[:20] in done.err) == (2, False)


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (errors.BadUserId("no"), 2, "bad-userid"),
        (errors.BadSig(errors.SigReason.EXPIRED), 2, "bad-sig"),
        (errors.WrongMasterKey(), 3, "wrong-master-key"),
        (errors.StoreUnavailable(), 3, "store-unavailable"),
        (output.Misuse("no", "do"), 2, "usage"),
        (RuntimeError("s3cret"), 3, "internal"),
        (OSError(28, "No space left on device"), 3, "internal"),
    ],
)
def test_an_error_becomes_a_status_and_three_lines(shell, monkeypatch, error, status, code):
    def broken(*_):
        raise error

    monkeypatch.setattr(keygen, "_refuse_existing", broken)
    done = shell("keygen", "--format", "v2", "--out", "x")
    assert (done.status, done.out) == (status, "")
    assert f"  code: {code}\n" in done.err
    assert "s3cret" not in done.err
    assert ("No space left" in done.err) == isinstance(error, OSError)


def test_debug_shows_where_the_unexpected_happened(capsys, monkeypatch):
    def broken(*_):
        raise RuntimeError

    monkeypatch.setattr(keygen, "_refuse_existing", broken)
    assert frame.run(["--debug", "keygen", "--format", "v2", "--out", "x"]) == 3
    assert "Traceback" in capsys.readouterr().err


def test_an_interrupt_is_status_130(shell, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(keygen, "_refuse_existing", interrupted)
    assert shell("keygen", "--format", "v2", "--out", "x").status == 130


def test_a_reader_that_has_gone_is_no_traceback():
    gone, out = os.pipe()
    os.close(gone)
    with os.fdopen(out, "wb") as closed:
        done = subprocess.run(
            [sys.executable, "-m", "sigmgr", "keygen", "--help"],
            stdout=closed,
            stderr=subprocess.PIPE,
            check=False,
        )
    assert (done.returncode in {0, 1, 3}, done.stderr) == (True, b"")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (59, "59 s"),
        (60, "1 min"),
        (86400, "1 d"),
        (90061, "1 d 1 h"),
        (86400 + 59, "1 d"),
        (-3661, "1 h 1 min"),
    ],
)
def test_durations_for_people(seconds, text):
    assert output.span(seconds) == text


def test_times_for_people():
    assert output.iso(0) == "1970-01-01T00:00:00Z"
    assert "no date" in output.iso(10**15)
