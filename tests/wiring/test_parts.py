"""What a process still does when its work is over."""

from __future__ import annotations

import asyncio
import time
from base64 import b64encode

import pytest

from sigmgr.model import errors
from sigmgr.model.holder import Holder
from sigmgr.settings import Settings
from sigmgr.store import migrate
from sigmgr.store.stores import SqlStore
from sigmgr.wiring.base import open_database
from sigmgr.wiring.parts import open_parts


@pytest.fixture
async def settings(tmp_path) -> Settings:
    made = Settings.model_validate(
        {
            "database": {"url": f"sqlite+aiosqlite:///{tmp_path}/sigmgr.db"},
            "master_key": b64encode(bytes(32)).decode(),
        }
    )
    engine = open_database(made, create=True)
    await migrate.upgrade(engine)
    await engine.close()
    return made


async def refuses(*_):
    raise errors.StoreUnavailable


async def hangs(*_):
    await asyncio.sleep(30)


@pytest.mark.parametrize("mark_seen", [refuses, hangs])
async def test_sightings_that_cannot_be_written_fail_nothing_and_keep_nobody(
    settings, monkeypatch, mark_seen
):
    monkeypatch.setattr(SqlStore, "mark_seen", mark_seen)
    async with open_parts(settings) as parts:
        parts.flows.seen.note(Holder(1400000001, "alice"), parts.base.clock())
        began = time.monotonic()
    assert time.monotonic() - began < 5
