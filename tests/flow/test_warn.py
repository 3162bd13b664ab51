"""Warnings before expiry: each rung once, for any number of holders in one tick."""

from __future__ import annotations

from collections import Counter

import pytest

from sigmgr.model import errors
from sigmgr.model.event import Event, EventType
from sigmgr.model.holder import Holder
from sigmgr.model.sig import Current
from tests.flow.world import ALICE, APP, DAY, OTHER, World

WILL, GONE = EventType.WILL_EXPIRE.value, EventType.EXPIRED.value


@pytest.fixture
def announced(world: World) -> list[Event]:
    """The events that the cache was given."""
    events: list[Event] = []
    real = world.announcer.announce

    async def announce(batch: list[object], now: int) -> list[bool]:
        answer = await real(batch, now)  # type: ignore[arg-type]
        events.extend(one.event for one in batch)  # type: ignore[attr-defined]
        return answer

    world.announcer.announce = announce  # type: ignore[method-assign, assignment]
    return events


async def issued(world: World, *users: Holder) -> None:
    answers = await world.flows.issue.many(users, world.clock())
    assert all(isinstance(answer, Current) for answer in answers)
    await world.flows.publisher.flush()


async def test_each_rung_fires_once_though_runs_are_missed(
    world: World, announced: list[Event]
) -> None:
    await issued(world, ALICE)
    announced.clear()
    record = await world.row()
    fired = []
    for left in (8 * DAY, 7 * DAY, 6 * DAY, 12 * 3600, 12 * 3600 - 60, -5, -10):
        world.clock.now = record.expires_at - left
        fired.append(await world.flows.warn.tick(world.clock()))
    rungs = [7 * DAY, 3 * DAY, DAY, 6 * 3600, 3600]
    assert [(one.type, one.note) for one in announced] == [
        *((WILL, str(rung)) for rung in rungs), (GONE, ""),
    ]  # fmt: skip
    assert fired == [0, 1, 0, 2, 0, 3, 0]
    assert all(one.issued_at == record.issued_at for one in announced)
    assert (await world.row()).warned == 6
    assert await world.outbox.depth(world.clock()) == (0, 0)


async def test_more_than_a_batch_is_warned_of_in_one_tick(
    world: World, announced: list[Event]
) -> None:
    """A batch is 50 here. One app's last batch is full, the other's is not."""
    await world.add_app(OTHER)
    await issued(world, *(Holder(APP, f"u{n}") for n in range(120)))
    await issued(world, *(Holder(OTHER, f"u{n}") for n in range(100)))
    announced.clear()
    world.clock.advance(84 * DAY)
    assert await world.flows.warn.tick(world.clock()) == 220
    assert Counter(one.holder for one in announced).most_common(1)[0][1] == 1
    assert Counter(one.holder.sdkappid for one in announced) == {APP: 120, OTHER: 100}
    assert await world.flows.warn.tick(world.clock()) == 0


async def test_what_redis_does_not_take_is_left_to_the_relay(
    world: World, announced: list[Event]
) -> None:
    await issued(world, ALICE)
    announced.clear()
    world.clock.advance(84 * DAY)

    def no_cache(name: str, moment: str) -> None:
        if name.startswith("cache."):
            raise errors.CacheUnavailable

    world.plan.fail = no_cache
    assert await world.flows.warn.tick(world.clock()) == 1
    assert await world.flows.warn.tick(world.clock()) == 0
    await world.settle()
    assert [one.type for one in announced] == [WILL]


async def test_a_batch_whose_commit_fails_fires_with_the_next_tick(
    world: World, announced: list[Event]
) -> None:
    await issued(world, ALICE)
    announced.clear()
    world.clock.advance(84 * DAY)

    def no_commit(name: str, moment: str) -> None:
        if (name, moment) == ("store.transaction.commit", "before"):
            raise errors.StoreUnavailable

    world.plan.fail = no_commit
    with pytest.raises(errors.StoreUnavailable):
        await world.flows.warn.tick(world.clock())
    assert announced == []
    world.plan.heal()
    assert await world.flows.warn.tick(world.clock()) == 1
    assert [one.type for one in announced] == [WILL]
