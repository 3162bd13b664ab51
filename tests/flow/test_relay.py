"""A commit's events are published together with their rows, or left to the sweep together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import pytest
import structlog

from sigmgr.flow.commit import Committed, append, joined
from sigmgr.flow.relay import Publisher
from sigmgr.model import errors
from sigmgr.model.event import Event, EventType
from sigmgr.model.holder import Holder
from sigmgr.model.sig import SigFacts
from sigmgr.ports import Announcement
from sigmgr.telemetry import OUTBOX_OLDEST, OUTBOX_PENDING
from tests.flow.world import ALICE, APP, OTHER, World


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


async def test_what_redis_has_taken_is_not_looked_up_again(world: World) -> None:
    await world.flows.issue.current(ALICE, world.clock())
    world.plan.calls.clear()
    await world.flows.publisher.flush()
    calls = [name for name, moment in world.plan.calls if moment == "before"]
    assert calls == ["cache.announce", "outbox.mark_announced"]


async def test_a_sig_that_the_cache_lacks_is_derived_again_while_it_lives(world: World) -> None:
    """The event was left behind, and Redis was wiped."""
    bob, carol, dead = (Holder(APP, name) for name in ("bob", "carol", "dead"))
    sigs = await world.flows.issue.many([ALICE, bob, carol, dead], world.clock())
    await world.flows.revoke.user(APP, "dead", world.clock())
    real = world.ring.sign

    async def sign(batch: Sequence[SigFacts]) -> list[str | errors.SigmgrError]:
        return [
            errors.SigningFailed() if facts.holder == carol else result
            for facts, result in zip(batch, await real(batch), strict=True)
        ]

    world.ring.sign = sign  # type: ignore[method-assign]
    world.flows = world.process()
    await world.redis.run(lambda client: client.flushall())
    with structlog.testing.capture_logs() as logs:
        assert await world.flows.relay.sweep(world.clock(), grace=0) == 4
    assert await world.cache.get([ALICE, bob, carol, dead]) == [*sigs[:2], None, None]
    assert [(one["action"], one["app"], one["code"]) for one in logs] == [
        ("derive-failed", APP, "signing-failed")
    ]


async def test_what_waits_is_measured(world: World) -> None:
    await committed(world, 0, 20)
    await world.flows.relay.measure(world.clock() + 7)
    assert (OUTBOX_PENDING._value.get(), OUTBOX_OLDEST._value.get()) == (20, 7)
    await world.flows.relay.sweep(world.clock(), grace=0)
    await world.flows.relay.measure(world.clock() + 8)
    assert (OUTBOX_PENDING._value.get(), OUTBOX_OLDEST._value.get()) == (0, 0)


async def test_an_app_that_another_relay_numbers_is_left_to_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    async def unnumbered() -> list[int]:
        return [APP, OTHER]

    async def number(sdkappid: int, now: int, limit: int) -> int:
        asked.append(sdkappid)
        return 0

    monkeypatch.setattr(world.outbox, "unnumbered", unnumbered)
    monkeypatch.setattr(world.outbox, "number", number)
    assert await world.flows.relay.number(world.clock()) == 0
    assert asked == [APP, OTHER]


async def test_the_publisher_runs_on_whatever_happens(
    world: World, announced: list[Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    publisher = world.flows.publisher
    running = asyncio.create_task(publisher.run())

    async def published(until: Callable[[], bool]) -> None:
        async with asyncio.timeout(5):
            while not until():
                await asyncio.sleep(0)

    first = await committed(world, 0, 3)
    publisher.soon(first, world.clock())
    await published(lambda: announced == events(first))

    async def broken(rows: object) -> None:
        raise ZeroDivisionError

    with monkeypatch.context() as patch, structlog.testing.capture_logs() as logs:
        patch.setattr(world.outbox, "mark_announced", broken)
        publisher.soon(await committed(world, 10, 3), world.clock())
        await published(lambda: bool(logs))
    assert [(one["action"], one["code"]) for one in logs] == [
        ("publish-failed", "ZeroDivisionError")
    ]
    third = await committed(world, 20, 3)
    publisher.soon(third, world.clock())
    await published(lambda: announced[6:] == events(third))
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


async def test_nothing_is_published_as_done(world: World) -> None:
    world.plan.calls.clear()
    assert await world.flows.publisher.at_once(Committed(), world.clock())
    assert world.plan.calls == []
