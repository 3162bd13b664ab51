"""The worlds that tests start in."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sigmgr.model.holder import Holder
from tests.flow.waiting_kit import Held
from tests.flow.world import World, open_world


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as opened:
        yield opened


@pytest.fixture
async def held(tmp_path: Path) -> AsyncIterator[tuple[World, set[Holder]]]:
    """A world, and the rows of it that somebody holds."""
    rows: set[Holder] = set()
    async with open_world(tmp_path) as world:
        world.invariants._store = Held(world.invariants._store, rows)
        yield world, rows
