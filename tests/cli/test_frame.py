"""The frame of the command line: help, exit statuses, and errors without tracebacks."""

from __future__ import annotations

import os
import shlex
import sqlite3
import subprocess
import sys
from contextlib import closing
from types import SimpleNamespace

import pytest

from sigmgr.cli import frame, keygen, missing, output
from sigmgr.keys.keychain import generate
from sigmgr.model import errors
from tests.cli.kit import APP, SECRET, check_refusal, process

NAMES = [*frame.GROUPS, *frame.COMMANDS]


def every_command() -> dict[str, object]:
    """Each command by the words that call it."""
    top, found = frame.LazyGroup(name="sigmgr"), {}
    for name in NAMES:
        command = top.get_command(None, name)
        below = getattr(command, "commands", {})
        found |= {f"{name} {one}": below[one] for one in below} or {name: command}
    return found


COMMANDS = every_command()
REQUIRED = [
    (words, one.name)
    for words, command in COMMANDS.items()
    for one in command.params
    if one.required
]


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


@pytest.mark.parametrize("words", ["", *frame.GROUPS, *COMMANDS])
def test_help_is_whole_and_fits_80_columns(shell, monkeypatch, words):
    monkeypatch.setenv("COLUMNS", "80")
    done = shell(*words.split(), "--help")
    assert (done.status, done.err) == (0, "")
    assert max(map(len, done.out.splitlines())) <= 80
    assert "``" not in done.out
    # Where a list of commands is cut, three dots stand at the end.
    lines = done.out.partition("Options:")[2].splitlines()
    assert lines
    assert not [line for line in lines if line.endswith("...")]


def test_a_list_of_commands_shows_the_first_sentence_of_each(shell, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    answer = " ".join(shell("--help").out.split())
    assert (
        "simulate Drive the real flows, store and cache through months with seeded faults."
        in answer
    )
    assert "revoke End all sigs of a user, or of all users, and close their streams." in answer


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("Do it. And more.", "Do it."),
        ("Do it\n    now\n\n    More.", "Do it now."),
        ("Do it", "Do it."),
        (None, "."),
    ],
)
def test_a_first_sentence(text, first):
    assert frame.first_sentence(text) == first


@pytest.mark.parametrize(("words", "name"), REQUIRED, ids="-".join)
def test_what_is_missing_is_reported_with_its_purpose_and_an_example(
    shell, monkeypatch, tmp_path, words, name
):
    """Every option and argument that any command needs."""
    monkeypatch.chdir(tmp_path)
    [wanted] = [one for one in COMMANDS[words].params if one.name == name]
    done = shell(*words.split(), *all_but(COMMANDS[words], wanted))
    assert (done.status, done.out) == (2, "")
    text = " ".join(done.err.split())
    called = wanted.opts[0] if is_option(wanted) else wanted.metavar
    purpose = wanted.help.split(";")[0].rstrip(".")
    assert text.startswith(f"error: {called} is missing: {purpose}")
    _, _, advice = text.partition(" what to do: For example: ")
    example = shlex.split(advice.split("; or see '")[0])
    assert example[: 1 + len(words.split())] == ["sigmgr", *words.split()]
    # The example is what the command takes.
    kept = [one.opts[0] for one in COMMANDS[words].params if one.required and is_option(one)]
    assert [word for word in example if word.startswith("--")] == kept
    assert "is missing" not in shell(*example[1:]).err


def is_option(parameter) -> bool:
    return parameter.opts[0].startswith("-")


def all_but(command, wanted) -> list[str]:
    """What the command needs, up to the one that is missing where that is an argument."""
    given = []
    for one in command.params:
        if one.required and is_option(one) and one is not wanted:
            given += [one.opts[0], missing._value(one)]
    for one in command.params:
        if one is wanted and not is_option(one):
            break
        if one.required and not is_option(one):
            given.append(missing._value(one))
    return given


@pytest.mark.parametrize("name", ["keygen", "sig"])
def test_help_loads_nothing_heavy(name):
    heavy = "{'cryptography', 'sqlalchemy', 'redis', 'fastapi', 'asyncio'}"
    probe = (
        "import sys; from sigmgr.cli import frame; "
        f"frame.run([{name!r}, '--help']); print(sorted({heavy} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] in {"[]", "['asyncio']"}


def test_the_version_is_reported(shell):
    done = shell("--version")
    assert (done.status, done.out.split()[0]) == (0, "sigmgr")


@pytest.mark.parametrize("arguments", [[], ["sig"]])
def test_a_bare_call_shows_help_and_is_wrong_usage(shell, arguments):
    done = shell(*arguments)
    assert (done.status, done.out, "Usage: sigmgr" in done.err) == (2, "", True)


def test_a_mistyped_command_gets_the_right_one(shell):
    done = shell("keygne")
    assert (done.status, "'keygen'" in done.err) == (2, True)


@pytest.mark.parametrize(
    ("arguments", "answer"),
    [
        (["app", "add", "abc"], "Invalid value for 'SDKAPPID': it is no number"),
        (["keygen", "--format", "v9", "--out", "x"], "'v9' is not one of 'v1', 'v2'."),
        (["serve", "--port", "70000"], "it is to be less than or equal to 65535"),
        (["serve", "--port", "-1"], "it is to be greater than or equal to 0"),
        (["demo", "--port", "70000"], "it is to be less than or equal to 65535"),
        (["simulate", "--days", "1"], "it is to be greater than or equal to 5"),
    ],
)
def test_a_value_that_an_option_does_not_take(shell, arguments, answer):
    done = shell(*arguments)
    assert (done.status, done.out) == (2, "")
    text = " ".join(done.err.split())
    assert answer in text
    assert "code: usage" in text
    assert "Value error" not in text


def test_a_long_value_is_not_repeated(shell):
    done = shell("token", "create", "--role", "x y " * 30)
    assert (
        done.status,
        "a value of 120 characters is not one of" in " ".join(done.err.split()),
    ) == (
        2,
        True,
    )


@pytest.mark.parametrize("kind", ["smt_", "t1.", "eJ"])
@pytest.mark.parametrize(
    "words",
    [
        ["token", "create", "--role", "{}"],
        ["token", "create", "--role={}"],
        ["{}"],
        ["key", "{}"],
        ["app", "add", "5", "--policy", "{}"],
        ["app", "add", "5", "--ttl", "{}"],
        ["db", "downgrade", "{}"],
        ["sig", "sign", "--format", "v2", "--sdkappid", "5", "--userid", "a", "--key", "{}"],
        ["sig", "sign", "--format", "v2", "--sdkappid", "5", "--userid", "{}", "--key", "k"],
        ["sig", "decode", "{}"],
        ["key", "generate", "5", "--format", "v1", "--curve", "{}"],
        ["reissue", "5", "alice", "--reason", "{}"],
        ["issue", "5", "{}"],
        ["app", "list", "--config", "{}"],
        ["keygen", "--format", "v2", "--out", "no/such/{}"],
    ],
    ids=" ".join,
)
def test_a_credential_in_the_wrong_place_is_never_repeated(shell, words, kind):
    secret = kind + "Ab3dEf9aXyZ1" * 4
    done = shell(*(word.format(secret) for word in words))
    assert done.status in {2, 3}
    assert done.out == ""
    for at in range(3, len(secret) - 10):
        assert secret[at : at + 10] not in done.err


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
    assert output.duration(seconds) == text


def test_times_for_people():
    assert output.iso(0) == "1970-01-01T00:00:00Z"
    assert "no date" in output.iso(10**15)


# -- numbers and names ---------------------------------------------------------------------

ODD_NUMBERS = ["1.0", "1_0", "+5", "05", " 7 ", "\u0663", "1e1", "inf", "nan"]


@pytest.mark.parametrize("value", ODD_NUMBERS)
@pytest.mark.parametrize(
    "words",
    [
        ["serve", "--port"],
        ["demo", "--port"],
        ["demo", "--seconds"],
        ["demo", "--clients"],
        ["simulate", "--days"],
        ["simulate", "--holders"],
        ["simulate", "--seed"],
        ["token", "revoke"],
        ["app", "show"],
    ],
    ids=" ".join,
)
def test_a_number_is_plain_digits(shell, words, value):
    done = shell(*words, value)
    assert (done.status, done.out) == (2, "")
    assert "it is no number in plain digits" in " ".join(done.err.split())


@pytest.mark.parametrize("value", ODD_NUMBERS)
@pytest.mark.parametrize("name", ["max_holders", "max_rooms", "renew_from", "emergency"])
def test_a_number_of_a_policy_is_plain_digits(ready, name, value):
    if name in {"renew_from", "emergency"}:
        value = value.replace("1.0", "0.6_1")
    assert ready("app", "add", APP).status == 0
    done = ready("app", "set", APP, "--policy", f"{name}={value}")
    check_refusal(done, 2, "usage", name, "it is no number in plain digits")
    assert ready("app", "show", APP, "--json").json["policy"] == {}


def test_a_policy_takes_numbers(ready):
    words = ["--policy", "max_holders=3", "--policy", "renew_from=0.61", "--policy", "idle_after=0"]
    done = ready("app", "add", APP, *words, "--json")
    assert done.json["policy"] == {"max_holders": 3, "renew_from": 0.61, "idle_after": 0}


@pytest.mark.parametrize("digits", [11, 12, 13, 14, 19, 40, 5000])
def test_a_duration_beyond_all_is_reported_by_its_range(ready, tmp_path, digits):
    number = "9" * digits
    (tmp_path / "key").write_text(SECRET)
    signing = ["sig", "sign", "--format", "v2", "--sdkappid", APP, "--userid", "a", "--key"]
    for words in (
        ["app", "add", APP, "--ttl", f"{number}s"],
        ["app", "add", APP, "--room-ttl", f"{number}d"],
        [*signing, tmp_path / "key", "--ttl", number],
    ):
        check_refusal(ready(*words), 2, "bad-ttl", "is outside 10 to 315360000 s")
    done = ready("app", "add", APP, "--policy", f"idle_after={number}d")
    check_refusal(done, 2, "usage", "a duration has at most ten years")


@pytest.mark.parametrize("words", [["app", "add", 5], ["app", "set", APP], ["token", "create"]])
@pytest.mark.parametrize(
    ("name", "phrase"),
    [
        ("smt_" + "Ab3dEf9" * 6, "what looks like an API token is no name"),
        (SECRET, "what looks like a key or another secret is no name"),
        ("n" * 65, "a value of 65 characters is no name"),
        ("a\x1b[31mb", "is no name"),
        ("two\nlines", "is no name"),
    ],
)
def test_a_name_for_people_is_one(signing, words, name, phrase):
    role = ["--role", "ops"] if words[0] == "token" else []
    done = signing(*words, *role, "--name", name)
    check_refusal(done, 2, "usage", "--name", phrase)
    assert name not in done.err
    assert [one["name"] for one in signing("app", "list", "--json").json] == [""]
    assert signing("token", "list", "--json").json == []
    assert signing(*words, *role, "--name", "Chat, 用户 (EU)").status == 0


def test_a_name_from_before_is_not_shown_either(signing, tmp_path):
    secret = "smt_" + "Ab3dEf9" * 6
    assert signing("token", "create", "--role", "ops").status == 0
    with closing(sqlite3.connect(tmp_path / "sigmgr.db")) as database, database:
        database.execute("UPDATE apps SET name = ?", [secret])
        database.execute("UPDATE tokens SET name = ?", [secret])
    for words in (
        ["app", "list"], ["app", "show", APP], ["token", "list"], ["token", "revoke", 1],
        ["app", "remove", APP],
    ):  # fmt: skip
        done = signing(*words)
        assert "***" in done.out + done.err
        assert secret not in done.out + done.err


@pytest.mark.parametrize("words", COMMANDS)
def test_the_example_of_what_is_missing_is_a_whole_command(signing, tmp_path, words):
    """It may be refused for what is not there, but not for how it is called."""
    command = COMMANDS[words]
    if not any(one.required for one in command.params):
        return
    context = SimpleNamespace(command=command, command_path=f"sigmgr {words}")
    example = shlex.split(missing.example(context))[1:]
    (tmp_path / "app.pem").unlink(missing_ok=True)
    (tmp_path / "app.pem").write_bytes(generate("v1"))
    if words == "keygen":
        (tmp_path / "app.pem").unlink()
    done = signing(*example)
    assert "code: usage" not in done.err
