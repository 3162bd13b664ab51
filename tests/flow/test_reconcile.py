"""Drift: a cached sig behind the store's is put right, a page of holders at a time."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sigmgr.flow.reconcile import Reconcile
from sigmgr.model import errors
from sigmgr.model.holder import Holder
from sigmgr.telemetry import DRIFT
from tests.flow.world import APP, World

USERS = [Holder(APP, f"u{n}") for n in range(5)]


def reconcile(world: World, page: int) -> Reconcile:
    whole = world.flows.reconcile
    return Reconcile(
        derive=whole.derive,
        store=world.store,
        looks=world.looks,
        cache=world.cache,
        janitor=world.janitor,
        page=page,
    )


async def drifted(world: World, *users: Holder) -> None:
    """All have a cached sig; that of these is behind the store's."""
    await world.flows.issue.many(USERS, world.clock())
    await world.flows.publisher.flush()
    world.clock.advance(60)
    for user in users:
        await world.flows.issue.reissue(user, world.clock())


async def behind(world: World) -> list[Holder]:
    rows = await world.store.find(USERS)
    hits = await world.cache.get(USERS)
    return [
        row.holder
        for row, hit in zip(rows, hits, strict=True)
        if row is not None and (hit is None or hit.issued_at != row.issued_at)
    ]


async def test_cached_sigs_that_are_behind_are_put_right(world: World) -> None:
    await drifted(world, USERS[1], USERS[3])
    assert await behind(world) == [USERS[1], USERS[3]]
    counted = DRIFT._value.get()
    assert await world.flows.reconcile.step(world.clock()) == 2
    assert await behind(world) == []
    assert DRIFT._value.get() == counted + 2
    assert await world.flows.reconcile.step(world.clock()) == 0


async def test_it_goes_on_page_by_page_and_starts_over(world: World) -> None:
    await drifted(world, *USERS)
    walk = reconcile(world, 2)
    assert [await walk.step(world.clock()) for _ in range(3)] == [2, 2, 1]
    await world.flows.issue.reissue(USERS[0], world.clock.advance(60))
    assert await walk.step(world.clock()) == 1
    assert await behind(world) == []


async def test_what_is_not_cached_or_not_alive_is_no_drift(world: World) -> None:
    await drifted(world, USERS[0])
    await world.redis.run(lambda client: client.flushdb())
    assert await world.flows.reconcile.step(world.clock()) == 0
    assert await world.cache.get(USERS) == [None] * 5
    world.clock.advance(91 * 86_400)
    assert await world.flows.reconcile.step(world.clock()) == 0


async def test_while_redis_is_away_no_page_is_passed_over(world: World) -> None:
    await drifted(world, *USERS)
    walk = reconcile(world, 2)
    await walk.step(world.clock())
    walk.cache = world.flows.reconcile.cache
    world.plan.fail = cannot("cache.get")
    with pytest.raises(errors.CacheUnavailable):
        await walk.step(world.clock())
    world.plan.heal()
    assert [await walk.step(world.clock()) for _ in range(2)] == [2, 1]
    assert await behind(world) == []


async def test_what_could_not_be_put_right_is_not_counted(world: World) -> None:
    await drifted(world, *USERS)
    counted = DRIFT._value.get()
    world.plan.fail = cannot("cache.put")
    with pytest.raises(errors.CacheUnavailable):
        await world.flows.reconcile.step(world.clock())
    assert DRIFT._value.get() == counted
    world.plan.heal()
    assert await world.flows.reconcile.step(world.clock()) == 5
    assert await behind(world) == []


def cannot(call: str) -> Callable[[str, str], None]:
    def plan(name: str, moment: str) -> None:
        if (name, moment) == (call, "before"):
            raise errors.CacheUnavailable

    return plan


class Past:
    """Stands for janitor and looks: so many are left of each kind."""

    def __init__(self, holders: int, revocations: int, events: int) -> None:
        self.left = {"holders": holders, "revocations": revocations, "events": events}
        self.asked: list[str] = []

    def _forget(self, kind: str, limit: int) -> int:
        self.asked.append(kind)
        gone = min(limit, self.left[kind])
        self.left[kind] -= gone
        return gone

    async def forget_past(self, _now: int, limit: int) -> int:
        return self._forget("holders", limit)

    async def forget_revocations(self, _now: int, limit: int) -> int:
        return self._forget("revocations", limit)

    async def forget_events(self, _now: int, limit: int) -> int:
        return self._forget("events", limit)


async def cleaned(world: World, past: Past) -> int:
    whole = world.flows.reconcile
    walk = Reconcile(
        derive=whole.derive, store=world.store, looks=past, cache=world.cache, janitor=past
    )  # type: ignore[arg-type]
    return await walk.clean_up(world.clock(), limit=2, batches=3)


async def test_a_clean_up_asks_until_a_batch_is_not_full(world: World) -> None:
    past = Past(holders=3, revocations=2, events=1)
    assert await cleaned(world, past) == 3
    assert past.asked == ["holders", "holders", "revocations", "revocations", "events"]


async def test_a_clean_up_ends_after_its_batches(world: World) -> None:
    past = Past(holders=99, revocations=99, events=999)
    assert await cleaned(world, past) == 6
    counted = [past.asked.count(kind) for kind in ("holders", "revocations", "events")]
    assert counted == [3, 3, 60]
