"""How many connections a process takes follows from its descriptor limit and its settings."""

from __future__ import annotations

import resource

import pytest
from structlog.testing import capture_logs

from sigmgr.settings import Settings
from sigmgr.wiring.connections import capacity_for


def room(monkeypatch, files, **tree):
    monkeypatch.setattr(resource, "getrlimit", lambda _: (files, files))
    limits, streams = capacity_for(Settings.model_validate(tree))
    return limits.connections, streams


def test_the_pools_keep_their_files_and_a_tenth_is_no_stream(monkeypatch):
    # SQLite: 3 x 18 files, Redis: 2 x 50, and 40 of its own.
    assert room(monkeypatch, 1194) == (1000, 900)
    postgres = {"database": {"url": "postgresql+psycopg://h/d"}}
    assert room(monkeypatch, 1158, **postgres) == (1000, 900)


def test_the_settings_are_a_limit_too(monkeypatch):
    assert room(monkeypatch, 20_000, http={"max_connections": 500}) == (500, 450)
    assert room(monkeypatch, 20_000, gateway={"max_streams": 70})[1] == 70


@pytest.mark.parametrize(
    ("files", "connections"), [(8, 2), (256, 64), (resource.RLIM_INFINITY, 999_806)]
)
def test_it_is_never_nothing_and_never_boundless(monkeypatch, files, connections):
    assert room(monkeypatch, files)[0] == connections


def test_it_is_reported(monkeypatch):
    with capture_logs() as lines:
        room(monkeypatch, 1194)
    [line] = lines
    assert (line["log_level"], line["connections"], line["descriptors"]) == ("info", 1000, 1194)
