"""The shape of the source: small, documented, one clock, libraries in their place."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.architecture.sources import ROOT, imported, modules, name, tracked, tree

MOST_LINES_OF_A_FILE = 400
MOST_LINES_OF_A_FUNCTION = 40

# One thought, which two files would split: all rules of one stream, in order.
LONGER_FILES = {"sigmgr/model/delivery.py": 580}

# Where a library may be known; everybody else talks to a port.
HOMES = {
    "sqlalchemy": ("sigmgr/store/",),
    "alembic": ("sigmgr/store/",),
    "psycopg": ("sigmgr/store/",),
    "aiosqlite": ("sigmgr/store/",),
    "redis": ("sigmgr/cache/", "sigmgr/push/"),
    "fakeredis": ("sigmgr/cache/", "sigmgr/push/"),
    "apscheduler": ("sigmgr/scheduler.py",),
    # The emulated cloud verifies with code of its own, apart from the signer.
    "cryptography": ("sigmgr/keys/", "sigmgr/model/", "sigmgr/sim/"),
}
CLOCK_OWNERS = ("sigmgr/wiring/clock.py", "sigmgr/testing.py")

each_module = pytest.mark.parametrize("path", modules(), ids=name)


def test_import_contracts_hold() -> None:
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-logo"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@each_module
def test_a_file_fits_on_a_few_screens(path: Path) -> None:
    lines = len(path.read_text().splitlines())
    most = LONGER_FILES.get(name(path), MOST_LINES_OF_A_FILE)
    assert lines < most, f"{name(path)} has {lines} lines: split it by use case"


@each_module
def test_a_function_fits_on_a_screen(path: Path) -> None:
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    long = {
        f"{node.name} (line {node.lineno})": length
        for node in ast.walk(tree(path))
        if isinstance(node, functions) and (length := code_lines(node)) >= MOST_LINES_OF_A_FUNCTION
    }
    assert not long, f"{name(path)}: {long}"


def code_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """From ``def`` to the end, without the docstring."""
    length = (function.end_lineno or 0) - function.lineno + 1
    if ast.get_docstring(function) is not None:
        docstring = function.body[0]
        length -= (docstring.end_lineno or 0) - docstring.lineno + 1
    return length


@each_module
def test_a_module_describes_what_it_is_for(path: Path) -> None:
    if path.name == "__init__.py" and not path.read_text().strip():
        return
    assert ast.get_docstring(tree(path)), f"{name(path)} has no docstring"


@each_module
def test_only_the_clock_reads_the_clock(path: Path) -> None:
    if name(path) in CLOCK_OWNERS:
        return
    found = [f"line {node.lineno}" for node in ast.walk(tree(path)) if reads_clock(node)]
    assert not found, f"{name(path)} reads the wall clock ({found}): take `now` or a Clock"


def reads_clock(node: ast.AST) -> bool:
    """A use of the wall clock, called or handed on."""
    if isinstance(node, ast.ImportFrom):
        return node.module == "time" and any(a.name in {"time", "time_ns"} for a in node.names)
    if not isinstance(node, ast.Attribute):
        return False
    owner = ast.unparse(node.value).split(".")[-1]
    return (
        node.attr == "utcnow"
        or (owner == "time" and node.attr in {"time", "time_ns"})
        or (owner in {"datetime", "date"} and node.attr in {"now", "today"})
    )


@pytest.mark.parametrize(
    ("source", "reads"),
    [
        ("time.time()", True),
        ("clock = time.time_ns", True),
        ("datetime.datetime.now(UTC)", True),
        ("from time import time", True),
        ("time.monotonic()", False),
        ("clock.now()", False),
        ("from time import perf_counter", False),
    ],
)
def test_the_clock_rule_knows_a_clock(source: str, reads: bool) -> None:
    assert any(reads_clock(node) for node in ast.walk(ast.parse(source))) is reads


@each_module
def test_a_library_is_known_in_its_home_only(path: Path) -> None:
    strays = {
        library
        for library in imported(path)
        if library in HOMES and not name(path).startswith(HOMES[library])
    }
    assert not strays, f"{name(path)} imports {strays}"


@each_module
def test_a_class_is_named_for_what_it_is(path: Path) -> None:
    vague = [
        node.name
        for node in ast.walk(tree(path))
        if isinstance(node, ast.ClassDef) and re.search("Manager|Handler|Helper|Util", node.name)
    ]
    assert not vague, f"{name(path)}: {vague}"


def test_no_file_knows_the_machine_it_was_written_on() -> None:
    # Put together here, so that this file does not match itself.
    places = re.compile(rb"(?<![\w.:/-])/(?:" + b"|".join((b"work", b"home", b"root")) + rb")/\w")
    found = {name(path) for path in tracked() if places.search(path.read_bytes())}
    assert not found


def test_a_test_is_skipped_for_a_missing_server_only() -> None:
    # A platform may lack a kernel feature; every other skip would hide a failure.
    skip = re.compile(r"pytest\.skip\(|importorskip|mark\.skip\b|skipif\((?!\s*sys\.platform)")
    allowed = {ROOT / "tests" / "conftest.py", ROOT / "tests" / "servers.py", Path(__file__)}
    tests = set((ROOT / "tests").rglob("*.py")) - allowed
    found = {name(path) for path in tests if skip.search(path.read_text())}
    assert not found
