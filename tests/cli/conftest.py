"""Fixtures of the command line's tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.kit import APP, SECRET, Shell
from tests.process.processes import new_master_key


@pytest.fixture
def shell(capsys, monkeypatch) -> Shell:
    return Shell(capsys, monkeypatch)


@pytest.fixture(scope="session")
def master_key() -> str:
    return new_master_key()


@pytest.fixture(scope="session")
def databases() -> dict[str, bytes]:
    """Files as the commands left them. To make one takes longer than most tests."""
    return {}


@pytest.fixture
def bare(shell, monkeypatch, tmp_path, master_key) -> Shell:
    """A shell with settings and no database yet."""
    monkeypatch.setenv("SIGMGR_DATABASE__URL", f"sqlite+aiosqlite:///{tmp_path}/sigmgr.db")
    monkeypatch.setenv("SIGMGR_MASTER_KEY", master_key)
    monkeypatch.chdir(tmp_path)
    return shell


@pytest.fixture
def ready(bare, databases, tmp_path) -> Shell:
    """A shell over a migrated database."""

    def make() -> None:
        assert bare("db", "upgrade").status == 0

    _as_made_by(make, "ready", databases, tmp_path / "sigmgr.db")
    return bare


@pytest.fixture
def signing(bare, databases, tmp_path) -> Shell:
    """A shell over a database with one app that signs."""

    def make() -> None:
        assert bare("db", "upgrade").status == 0
        assert bare("app", "add", APP).status == 0
        assert bare("key", "add", APP, "--file", "-", "--activate", stdin=SECRET).status == 0

    _as_made_by(make, "signing", databases, tmp_path / "sigmgr.db")
    return bare


def _as_made_by(
    make: Callable[[], None], name: str, databases: dict[str, bytes], file: Path
) -> None:
    if name not in databases:
        make()
        assert not file.with_name("sigmgr.db-wal").exists(), "all of it is in the file"
        databases[name] = file.read_bytes()
        return
    file.touch(0o600)
    file.write_bytes(databases[name])
