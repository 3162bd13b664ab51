"""Counts of holders: when an app is near its limit, what a slow or failing count does."""

from __future__ import annotations

import asyncio

import pytest

from sigmgr.flow import newcomers
from sigmgr.model import errors
from sigmgr.model.holder import Holder
from sigmgr.telemetry import NEW_HOLDERS_REFUSED
from tests.flow.test_newcomers import asked, limited, users
from tests.flow.world import APP, World


def counts(world: World, seconds: float = 0.0) -> list[int]:
    """When holders are counted from now on; each takes so long."""
    counted: list[int] = []
    count = world.store.count

    async def noted(sdkappid: int, most: int) -> int:
        counted.append(world.clock())
        await asyncio.sleep(seconds)
        return await count(sdkappid, most)

    world.store.count = noted  # type: ignore[method-assign]
    return counted


async def pass_time(world: World, seconds: int) -> None:
    for _ in range(seconds):
        await world.flows.newcomers.measure(world.clock.advance(1))


@pytest.mark.parametrize(("made", "again"), [(17, 60), (18, 5)])
async def test_from_nine_tenths_of_the_limit_on_it_is_near(
    world: World, made: int, again: int
) -> None:
    await asked(world, 0, made)
    await limited(world, max_holders=20)
    began, counted = world.clock(), counts(world)
    await pass_time(world, 60)
    assert counted[0] == began + again


@pytest.mark.parametrize(("made", "again"), [(7, 60), (8, 1)])
async def test_what_was_added_may_bring_it_near(world: World, made: int, again: int) -> None:
    await asked(world, 50, 60)
    await limited(world, max_holders=20)
    began, counted = world.clock(), counts(world)
    await asked(world, 0, made)
    await pass_time(world, 60)
    assert counted[0] == began + again


async def test_a_count_that_takes_long_rests_for_long(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At most a twentieth of the time is spent in counts."""
    monkeypatch.setattr(newcomers, "_REST", 1000)
    await asked(world, 0, 19)
    counted = counts(world, seconds=0.02)
    await limited(world, max_holders=20)
    await pass_time(world, 19)
    assert len(counted) == 1, "near its limit, and yet no count for 20 s and more"


async def test_where_the_first_count_fails_nobody_is_refused(world: World) -> None:
    await asked(world, 0, 3)

    async def away(sdkappid: int, most: int) -> int:
        raise errors.StoreUnavailable

    real, world.store.count = world.store.count, away  # type: ignore[method-assign]
    with pytest.raises(errors.StoreUnavailable):
        await limited(world, max_holders=3)
    assert await asked(world, 3, 5) == ["ok", "ok"]
    world.store.count = real  # type: ignore[method-assign]
    await world.flows.newcomers.measure(world.clock())
    assert await asked(world, 5, 6) == ["max-holders"], "it is counted at the next time"


async def test_who_is_refused_is_counted_with_the_reason(world: World) -> None:
    def counted(code: str) -> float:
        return NEW_HOLDERS_REFUSED.labels(str(APP), code)._value.get()

    before = counted("max-holders"), counted("too-many-new-holders")
    await limited(world, max_holders=3, new_holders_per_second=2)
    assert (await asked(world, 0, 4)).count("too-many-new-holders") == 2
    world.clock.advance(1)
    assert (await asked(world, 4, 9)).count("max-holders") == 4
    after = counted("max-holders"), counted("too-many-new-holders")
    assert (after[0] - before[0], after[1] - before[1]) == (4, 2)


async def test_who_is_refused_by_a_slow_rate_learns_how_long_it_takes(world: World) -> None:
    await limited(world, new_holders_per_second=0.1)
    assert await asked(world, 0, 1) == ["ok"]
    for left in (10, 6):
        [refused] = await world.flows.issue.many(users(1, 2), world.clock())
        assert isinstance(refused, errors.TooManyNewHolders)
        assert refused.retry_after == left
        world.clock.advance(4)


@pytest.mark.parametrize("rate", [0.3, 0.7, 0.15])
async def test_who_comes_when_it_was_told_to_is_let_in(world: World, rate: float) -> None:
    """A wait of a second and a part of the next is not rounded down."""
    await limited(world, new_holders_per_second=rate)
    assert await asked(world, 0, 1) == ["ok"]
    [refused] = await world.flows.issue.many(users(1, 2), world.clock())
    assert isinstance(refused, errors.TooManyNewHolders)
    assert refused.retry_after is not None
    world.clock.advance(refused.retry_after - 1)
    assert await asked(world, 1, 2) == ["too-many-new-holders"]
    world.clock.advance(1)
    assert await asked(world, 1, 2) == ["ok"]


async def test_a_rate_that_changes_counts_at_once(world: World) -> None:
    await limited(world, new_holders_per_second=1)
    assert await asked(world, 0, 2) == ["ok", "too-many-new-holders"]
    await limited(world, new_holders_per_second=3)
    assert (await asked(world, 2, 7)).count("ok") == 3
    await limited(world)
    assert set(await asked(world, 7, 20)) == {"ok"}


async def test_what_is_refused_takes_no_room(world: World) -> None:
    await limited(world, max_holders=2, new_holders_per_second=1)
    assert await asked(world, 0, 3) == ["ok"] + ["too-many-new-holders"] * 2
    world.clock.advance(1)
    assert await asked(world, 3, 5) == ["ok", "max-holders"]
    assert await world.store.count(APP, 99) == 2
    error = world.flows.newcomers.refused(
        dict.fromkeys([Holder(APP, "more")], await world.apps.app(APP)), (), world.clock()
    )
    assert [one.retry_after for one in error.values()] == [60]
