"""The whole command on a package of two files: what is noticed, what survives, what is told."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.mutants.place import ROOT

CODE = '''\
"""A tiny module."""

LEAST = 10


def enough(have: int) -> bool:
    return have >= LEAST


def count(numbers):
    total = 0
    while numbers:
        total += numbers.pop()
    note(total)
    return total


def note(total):
    print(total)


def never(a, b):
    return a < b
'''
CHECKS = """\
import pytest

from tiny.code import count, enough, never


def test_enough():
    assert enough(11)
    assert enough(10)
    assert not enough(9)


def test_count():
    numbers = [1, 2]
    assert count(numbers) == 3


@pytest.fixture(scope="module")
def redis_server():
    return "a server"


@pytest.mark.parametrize("n", [1, 2])
def test_never(redis_server, n):
    assert not never(n, n)
"""
EQUIVALENT = """
[[equivalent]]
file = "tiny/code.py"
function = "note"
line = "print(total)"
mutation = "print(total) -> pass"
reason = "nobody reads what is printed"
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    files = {
        "tiny/__init__.py": "",
        "tiny/code.py": CODE,
        "checks/test_code.py": CHECKS,
        "equivalent.toml": EQUIVALENT,
        "pytest.ini": "[pytest]\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def run(place: Path, *more: str) -> tuple[int, str, dict[str, str]]:
    """The exit code, what was printed, and each mutant's verdict."""
    command = [sys.executable, "-m", "tests.mutants", "--root", str(place), "--package", "tiny"]
    command += ["--tests", "checks", "--equivalents", str(place / "equivalent.toml"), "--jobs", "1"]
    command += ["--json", str(place / "verdicts.json"), *more]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert not done.stderr, done.stderr
    written = map(json.loads, (place / "verdicts.json").read_text().splitlines())
    return done.returncode, done.stdout, {one["what"]: one["verdict"] for one in written}


def test_what_is_noticed_and_what_survives(place: Path) -> None:
    code, printed, verdicts = run(place, "--files", str(place / "tiny" / "code.py"))
    assert verdicts == {
        "10 -> 11": "killed",
        "have >= LEAST -> have > LEAST": "killed",
        "0 -> 1": "killed",
        "numbers -> False": "killed",
        "total += numbers.pop() -> total -= numbers.pop()": "killed",
        "note(total) -> pass": "survived",
        "a < b -> a <= b": "unexecuted",
    }
    assert code == 1
    assert "71.4% noticed" in printed
    assert "tiny/code.py:14 count\n    note(total)\n    note(total) -> pass\n" in printed
    assert "a < b -> a <= b  (no test executes it)" in printed
    assert "nobody reads what is printed" in printed
    assert "left out" not in printed, "tests that want a server do not count as failing"


def test_a_fault_without_end_is_noticed_by_the_clock(place: Path) -> None:
    source = place / "tiny" / "code.py"
    source.write_text("def f(n):\n    while n:\n        n -= 1\n    return n\n")
    checks = place / "checks" / "test_code.py"
    checks.write_text("from tiny.code import f\n\ndef test_f():\n    assert f(1) == 0\n")
    code, printed, verdicts = run(place, "--files", str(source))
    assert verdicts["n -= 1 -> n += 1"] == "timeout"
    assert code == 0, printed


@pytest.mark.parametrize(
    ("arguments", "answer"),
    [
        (["--files", "sigmgr/model/nosuch.py"], "is no module of sigmgr/"),
        (["--files", "/etc/passwd"], "is no module of sigmgr/"),
        (["--changed", "nosuchrevision"], "git: "),
        (["--sample", "0"], "is no number from 1 on"),
        (["--jobs", "0"], "is no number from 1 on"),
        (["--files", "sigmgr/model/sig.py", "--json", "/nosuch/x"], "No such file or directory"),
    ],
)
def test_a_wrong_argument_is_named(arguments: list[str], answer: str) -> None:
    command = [sys.executable, "-m", "tests.mutants", *arguments]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2
    assert answer in done.stderr.splitlines()[-1]
