"""Fixtures of the command line's tests."""

from __future__ import annotations

import pytest

from tests.cli.kit import APP, SECRET, Shell
from tests.process.processes import new_master_key


@pytest.fixture
def shell(capsys, monkeypatch) -> Shell:
    return Shell(capsys, monkeypatch)


@pytest.fixture
def bare(shell, monkeypatch, tmp_path) -> Shell:
    """A shell with settings and no database yet."""
    monkeypatch.setenv("SIGMGR_DATABASE__URL", f"sqlite+aiosqlite:///{tmp_path}/sigmgr.db")
    monkeypatch.setenv("SIGMGR_MASTER_KEY", new_master_key())
    monkeypatch.chdir(tmp_path)
    return shell


@pytest.fixture
def ready(bare) -> Shell:
    """A shell over a migrated database."""
    assert bare("db", "upgrade").status == 0
    return bare


@pytest.fixture
def signing(ready) -> Shell:
    """A shell over a database with one app that signs."""
    assert ready("app", "add", APP).status == 0
    assert ready("key", "add", APP, "--file", "-", "--activate", stdin=SECRET).status == 0
    return ready
