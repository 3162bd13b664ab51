"""A wheel is the whole program: what an installation without make brings along."""

from __future__ import annotations

import subprocess
import sys
import zipfile

from tests.architecture.sources import ROOT


def test_a_wheel_brings_the_command_the_migrations_and_the_drivers(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    [wheel] = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as packed:
        names = set(packed.namelist())
        reported = {name.rsplit("/", 1)[-1]: name for name in names if ".dist-info/" in name}
        metadata = packed.read(reported["METADATA"]).decode()
        commands = packed.read(reported["entry_points.txt"]).decode()
    versions = {path.name for path in (ROOT / "alembic" / "versions").glob("*.py")}
    assert versions
    assert {f"sigmgr/_alembic/versions/{name}" for name in versions} <= names
    assert "sigmgr/_alembic/env.py" in names
    ours = {path.relative_to(ROOT).as_posix() for path in (ROOT / "sigmgr").rglob("*.py")}
    assert ours <= names
    assert "sigmgr = sigmgr.cli:main" in commands
    # PostgreSQL, SQLite and Redis, none of them an extra that one has to know of.
    for driver in ("psycopg[binary]", "aiosqlite", "redis[hiredis]"):
        assert f"Requires-Dist: {driver}" in metadata
