"""A commit's events are published together with their rows, or left to the sweep together."""

from __future__ import annotations

import pytest

from sigmgr.flow.commit import Committed, append, joined
from sigmgr.flow.relay import Publisher
from sigmgr.model import errors
from sigmgr.model.event import Event, EventType
from sigmgr.model.holder import Holder
from sigmgr.ports import Announcement
from tests.flow.world import APP, World


@pytest.fixture
def announced(world: World) -> list[Event]:
    """What was announced."""
    seen: list[Event] = []
    real = world.announcer.announce

    async def announce(batch: list[Announcement], now: int) -> list[bool]:
        answer = await real(batch, now)
        seen.extend(one.event for one in batch)
        return answer

    world.announcer.announce = announce  # type: ignore[method-assign, assignment]
    return seen


async def committed(world: World, first: int, count: int) -> Committed:
    now = world.clock()
    batch = [
        Announcement(
            Event(EventType.EXPIRED.value, Holder(APP, f"u{n:03d}"), now - 9, now, "Missing", now),
            None,
        )
        for n in range(first, first + count)
    ]
    async with world.store.transaction() as tx:
        return await append(tx, batch)


def events(*commits: Committed) -> list[Event]:
    return [one.event for one in joined(commits).batch]


async def waiting(world: World) -> int:
    return (await world.outbox.depth(world.clock()))[0]


async def test_a_commit_that_does_not_fit_is_left_whole_to_the_sweep(
    world: World, announced: list[Event]
) -> None:
    """If a part were published and its rows deleted, the rest would be lost."""
    publisher = Publisher(world.flows.relay, most=45)
    some, many, few = [await committed(world, *span) for span in ((0, 20), (100, 30), (200, 25))]
    for one in (some, many, few):
        publisher.soon(one, world.clock())
    assert announced == []
    await publisher.flush()
    assert announced == events(some, few)
    assert await waiting(world) == 30
    assert await world.flows.relay.sweep(world.clock(), grace=0) == 30
    assert announced == events(some, few, many)
    assert await waiting(world) == 0


async def test_what_was_flushed_makes_room(world: World, announced: list[Event]) -> None:
    publisher = Publisher(world.flows.relay, most=10)
    for first in (0, 100, 200):
        publisher.soon(await committed(world, first, 10), world.clock())
        await publisher.flush()
    assert len(announced) == 30
    publisher.soon(await committed(world, 300, 11), world.clock())
    await publisher.flush()
    assert await waiting(world) == 11, "more than may ever wait"


async def test_a_commit_that_fails_stays_whole(world: World, announced: list[Event]) -> None:
    def no_cache(name: str, moment: str) -> None:
        if name.startswith("cache."):
            raise errors.CacheUnavailable

    commit = await committed(world, 0, 20)
    world.plan.fail = no_cache
    assert not await world.flows.publisher.at_once(commit, world.clock())
    with pytest.raises(errors.CacheUnavailable):
        await world.flows.relay.sweep(world.clock(), grace=0)
    assert await waiting(world) == 20
    world.plan.heal()
    assert await world.flows.publisher.at_once(commit, world.clock())
    assert announced == events(commit)
    assert await waiting(world) == 0


async def test_a_sweep_takes_so_many_rows(world: World, announced: list[Event]) -> None:
    commit = await committed(world, 0, 40)
    assert len(commit.rows) == 3
    swept = [await world.flows.relay.sweep(world.clock(), limit=2, grace=0) for _ in range(3)]
    assert swept == [32, 8, 0]
    assert announced == events(commit)


async def test_young_rows_are_left_to_who_committed_them(
    world: World, announced: list[Event]
) -> None:
    await committed(world, 0, 3)
    assert await world.flows.relay.sweep(world.clock()) == 0
    assert await world.flows.relay.sweep(world.clock() + 1) == 3


def test_nothing_to_publish_is_nothing() -> None:
    assert not Committed()
    assert not joined([])
    assert not joined([Committed(), Committed()])
