"""A connection lost before the commit: the story is told once more, and nobody notices."""

from __future__ import annotations

from pathlib import Path

import pytest

from sigmgr.model import errors
from tests.flow.test_faults import STORIES, _before
from tests.flow.world import DAY, World, open_world


async def _warn(world: World) -> None:
    assert await world.flows.warn.tick(world.clock() + 19 * DAY) > 0


#: Those that commit; a sweep deletes what was told, and opening marks by a call of its own.
COMMITTING = {**STORIES, "warn": _warn}
del COMMITTING["sweep"], COMMITTING["open"]


def lose(world: World, at: int, times: int) -> None:
    """The transaction breaks at its ``at``-th step, so many times in a row."""
    steps = left = 0
    left = times

    def fail(name: str, moment: str) -> None:
        nonlocal steps, left
        if not name.startswith("store.transaction") or moment != "before":
            return
        if name == "store.transaction":
            steps = 0
        steps += 1
        if steps == at and left:
            left -= 1
            raise errors.ConnectionLost

    world.plan.fail = fail


@pytest.mark.parametrize("story", sorted(COMMITTING))
async def test_a_lost_connection_is_not_noticed(story: str, tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        await _before(world, "tick" if story == "warn" else story)
        lose(world, at=0, times=0)
        await COMMITTING[story](world)
        steps = [name for name, moment in world.plan.calls if moment == "before"]
        count = sum(name.startswith("store.transaction") for name in steps)
        assert steps.count("store.transaction") == 1
        assert count >= 3
    for at in range(1, count + 1):
        home = tmp_path / str(at)
        home.mkdir()
        async with open_world(home) as world:
            await _before(world, "tick" if story == "warn" else story)
            lose(world, at, times=1)
            await COMMITTING[story](world)
            names = [name for name, moment in world.plan.calls if moment == "before"]
            assert names.count("store.transaction") == 2, at
            await world.settle()
            assert world.witness.violations == []
            await world.check()


async def test_one_that_goes_on_being_lost_is_told(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        await _before(world, "reissue")
        lose(world, at=2, times=2)
        with pytest.raises(errors.ConnectionLost):
            await STORIES["reissue"](world)


async def test_a_tick_counts_what_was_committed_once(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        await _before(world, "tick")
        lose(world, at=4, times=1)
        tally = await world.flows.renew.tick(world.clock())
        assert (tally.renewed, tally.total, tally.problems) == (4, 4, [])
