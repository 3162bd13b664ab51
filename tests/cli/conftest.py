"""Fixtures of the command line's tests."""

from __future__ import annotations

import pytest

from tests.cli.kit import Shell


@pytest.fixture
def shell(capsys, monkeypatch) -> Shell:
    return Shell(capsys, monkeypatch)
