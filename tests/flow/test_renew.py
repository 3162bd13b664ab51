"""Ticks: who is renewed, who rests, who is tried again, and who goes first."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import structlog

from sigmgr.model import errors
from sigmgr.model.holder import Holder, Room
from sigmgr.model.policy import Policy
from sigmgr.model.sig import Current, Reason
from sigmgr.store.transaction import SqlTransaction
from sigmgr.telemetry import REMAINING
from tests.flow.world import ALICE, APP, DAY, OTHER, World


async def issued(world: World, count: int, app: int = APP) -> list[Holder]:
    users = [Holder(app, f"u{i:03d}") for i in range(count)]
    answers = await world.flows.issue.many(users, world.clock())
    assert all(isinstance(answer, Current) for answer in answers)
    await world.flows.publisher.flush()
    return users


def later(world: World, days: int) -> None:
    world.clock.advance(days * DAY)


async def seen(world: World, users: list[Holder]) -> None:
    await world.store.mark_seen([(user, world.clock()) for user in users])


async def test_due_holders_are_renewed_by_any_number_of_workers_once_each(world: World) -> None:
    users = await issued(world, 120)
    later(world, 70)
    await seen(world, users)
    made = world.invariants.made
    await asyncio.gather(*(world.process().renew.tick(world.clock()) for _ in range(3)))
    assert world.invariants.made == made + 120
    for record in await world.store.page(None, 1000):
        assert record.issued_at == world.clock()
        assert record.reason == Reason.NEARING_EXPIRY
    assert await world.store.apps_with_due(world.clock()) == []
    await world.settle()
    await world.check()


async def test_who_was_not_seen_rests_and_is_issued_anew_when_asked_for(world: World) -> None:
    await issued(world, 3)
    later(world, 70)
    tally = await world.flows.renew.tick(world.clock())
    assert (tally.renewed, tally.rested, tally.kept, tally.total) == (0, 3, 0, 3)
    user = Holder(APP, "u000")
    assert (await world.row(user)).due_at is None
    answer = await world.fresh(user)
    assert isinstance(answer, Current)
    assert answer.issued_at == world.clock()
    assert (await world.row(user)).due_at is not None


async def test_who_is_seen_again_is_woken(world: World) -> None:
    [user] = await issued(world, 1)
    later(world, 70)
    await world.flows.renew.tick(world.clock())
    await seen(world, [user])
    assert (await world.row(user)).due_at == (await world.row(user)).renew_at
    assert (await world.flows.renew.tick(world.clock())).renewed == 1


async def test_a_failure_is_written_with_its_backoff_and_ends_with_success(world: World) -> None:
    [user] = await issued(world, 1)
    later(world, 70)
    await seen(world, [user])
    waits = []
    real = world.ring.sign

    async def broken(batch: object) -> list[object]:
        return [errors.SigningFailed("the module is away") for _ in batch]  # type: ignore[attr-defined]

    world.ring.sign = broken  # type: ignore[method-assign, assignment]
    for failures in range(1, 5):
        assert (await world.flows.renew.tick(world.clock())).failed == 1
        record = await world.row(user)
        assert record.failures == failures
        assert record.last_error == "signing-failed"
        assert record.due_at is not None
        waits.append(record.due_at - world.clock())
        assert (await world.flows.renew.tick(world.clock())).total == 0
        world.clock.now = record.due_at
    assert 30 <= waits[0] <= 90
    assert 300 <= waits[3] <= 900
    world.ring.sign = real  # type: ignore[method-assign]
    assert (await world.flows.renew.tick(world.clock())).renewed == 1
    assert (await world.row(user)).failures == 0


async def test_no_app_takes_more_than_its_share(world: World) -> None:
    await world.add_app(OTHER)
    big, small = await issued(world, 200), await issued(world, 10, OTHER)
    later(world, 70)
    await seen(world, big + small)
    tally = await world.flows.renew.tick(world.clock(), turns=1)
    assert tally.renewed == 25 + 10
    rows = await world.store.find(small)
    assert all(row is not None and row.issued_at == world.clock() for row in rows)


@pytest.mark.parametrize("lanes", [1, 2])
@pytest.mark.parametrize("where", ["claim", "publishing"])
async def test_a_bug_that_one_app_meets_stops_no_other(
    world: World, monkeypatch: pytest.MonkeyPatch, lanes: int, where: str
) -> None:
    """The poisoned app has the nearest deadlines, and so comes first in every tick."""
    poisoned, others = await issued(world, 3), []
    for app in (OTHER, OTHER + 1):
        await world.add_app(app)
        others += await issued(world, 3, app)
    later(world, 70)
    await seen(world, poisoned + others)
    monkeypatch.setattr(world.flows.renew, "lanes", lanes)
    target, name = (
        (SqlTransaction, "claim_due") if where == "claim" else (world.announcer, "announce")
    )
    real = getattr(target, name)

    async def broken(*args: Any, **more: Any) -> Any:
        app = args[1] if where == "claim" else args[0][0].event.holder.sdkappid
        if app == APP:
            raise ValueError("a bug")
        return await real(*args, **more)

    monkeypatch.setattr(target, name, broken)
    with pytest.raises(ValueError, match="a bug"):
        await world.flows.renew.tick(world.clock())
    rows = await world.store.find(others)
    assert all(row is not None and row.issued_at == world.clock() for row in rows)


async def test_a_paused_app_is_renewed_in_emergencies_only(world: World) -> None:
    [user] = await issued(world, 1)
    await world.catalog.set_app(APP, paused=True)
    await world.apps.refresh()
    later(world, 70)
    await seen(world, [user])
    assert (await world.flows.renew.tick(world.clock())).total == 0
    later(world, 16)
    await seen(world, [user])
    assert (await world.flows.renew.tick(world.clock())).renewed == 1
    assert (await world.row(user)).reason == Reason.EMERGENCY


async def test_the_earliest_deadline_goes_first(world: World) -> None:
    users = []
    for _ in range(8):
        [user] = [Holder(APP, f"x{len(users)}")]
        await world.flows.issue.current(user, world.clock())
        users.append(user)
        later(world, 1)
    await world.flows.publisher.flush()
    later(world, 70)
    await seen(world, users)
    async with world.store.transaction() as tx:
        claimed = await tx.claim_due(APP, world.clock(), 3)
    assert [record.holder for record in claimed] == users[:3]


async def test_a_shorter_policy_shortens_nobodys_sig(world: World) -> None:
    first = await world.flows.issue.current(ALICE, world.clock())
    await world.catalog.set_app(APP, policy=lambda _: Policy(ttl=DAY))
    await world.apps.refresh()
    world.clock.advance(60)
    second = await world.flows.issue.reissue(ALICE, world.clock())
    assert second.expires_at > first.expires_at


async def test_a_holder_that_is_looked_at_too_early_is_kept_until_its_renewal_time(
    world: World,
) -> None:
    """Its time to be looked at is earlier than that: after a restore, say, or a longer policy."""
    early, due = await issued(world, 2)
    before = await world.row(early)
    world.clock.now = before.renew_at - DAY
    await seen(world, [early, due])
    async with world.store.transaction() as tx:
        rows = await tx.lock([early, due])
        now = world.clock()
        await tx.save([(rows[0]._replace(due_at=now, failures=2), rows[0].issued_at)])
        await tx.save([(rows[1]._replace(due_at=now, renew_at=now), rows[1].issued_at)])
    tally = await world.flows.renew.tick(world.clock())
    assert (tally.kept, tally.renewed, tally.total) == (1, 1, 2)
    kept = await world.row(early)
    assert kept == before._replace(seen_at=world.clock(), failures=2)
    assert (await world.flows.renew.tick(world.clock())).total == 0
    assert (await world.outbox.depth(world.clock()))[0] == 0


async def test_a_tick_ends_between_batches_when_it_is_asked_to(world: World) -> None:
    users = await issued(world, 120)
    later(world, 70)
    await seen(world, users)
    looked = iter([False, True])
    tally = await world.flows.renew.tick(world.clock(), stopping=lambda: next(looked, True))
    assert tally.renewed == 50


async def test_what_rests_counts_as_claimed_and_the_tick_goes_on(world: World) -> None:
    """A full batch, of which some are renewed and some are put to rest, is not the last."""
    users = await issued(world, 60)
    later(world, 70)
    await seen(world, users[:20])
    tally = await world.flows.renew.tick(world.clock())
    assert (tally.renewed, tally.rested, tally.kept, tally.total) == (20, 40, 0, 60)
    assert await world.store.apps_with_due(world.clock()) == []


async def test_the_share_of_life_that_was_left_is_published(world: World) -> None:
    users = await issued(world, 3)
    later(world, 70)
    await seen(world, users)
    row = await world.row(users[0])

    def published() -> tuple[float, float]:
        [family] = REMAINING.collect()
        values = {sample.name.rpartition("_")[2]: sample.value for sample in family.samples}
        return values["count"], values["sum"]

    count, total = published()
    await world.flows.renew.tick(world.clock())
    now_count, now_total = published()
    assert now_count - count == 3
    assert now_total - total == pytest.approx(3 * (row.expires_at - world.clock()) / row.ttl)
    later(world, 91)
    await seen(world, users)
    await world.flows.renew.tick(world.clock())
    assert published() == (now_count + 3, now_total), "nothing was left"


async def test_a_tick_that_is_cancelled_leaves_no_turn_behind(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.add_app(OTHER)
    users = await issued(world, 3) + await issued(world, 3, OTHER)
    later(world, 70)
    await seen(world, users)
    monkeypatch.setattr(world.flows.renew, "lanes", 2)
    begun, ended = [], []

    async def hangs() -> None:
        turn = len(begun)
        begun.append(turn)
        try:
            await asyncio.Event().wait()
        finally:
            for _ in range(100 * turn):  # the rollback of the second takes its time
                await asyncio.sleep(0)
            ended.append(True)

    world.plan.fail = lambda name, moment: hangs() if name == "store.transaction" else None
    tick = asyncio.create_task(world.flows.renew.tick(world.clock()))
    async with asyncio.timeout(5):
        while len(begun) < 2:
            await asyncio.sleep(0)
    tick.cancel()
    with pytest.raises(asyncio.CancelledError):
        await tick
    assert ended == [True, True]
    world.plan.heal()
    assert (await world.flows.renew.tick(world.clock())).renewed == 6


async def test_the_first_problem_is_raised_and_the_others_are_reported(world: World) -> None:
    users = await issued(world, 1)
    for app in (OTHER, OTHER + 1):
        await world.add_app(app)
        users += await issued(world, 1, app)
    later(world, 70)
    await seen(world, users)
    problems: list[Exception] = [ValueError(), errors.StoreUnavailable("away"), KeyError()]

    def fails(name: str, moment: str) -> None:
        if (name, moment) == ("store.transaction.claim_due", "before"):
            raise problems.pop()

    world.plan.fail = fails
    with structlog.testing.capture_logs() as logs, pytest.raises(KeyError):
        await world.flows.renew.tick(world.clock())
    [line] = [one for one in logs if one["action"] == "renew-problems"]
    assert (line["count"], line["codes"]) == (2, ["ValueError", "store-unavailable"])


async def test_a_room_key_keeps_its_own_life(world: World) -> None:
    sig = await world.flows.issue.current(ALICE, world.clock())
    key = await world.flows.room_keys.current(
        APP, "alice", Room(id=1), privileges=42, ttl=3 * DAY, now=world.clock()
    )
    await world.flows.publisher.flush()
    world.clock.now = key.renew_at
    await seen(world, [ALICE])
    assert (await world.flows.renew.tick(world.clock())).renewed == 1
    row = await world.row(key.holder)
    assert (row.issued_at, row.ttl, row.privileges) == (world.clock(), 3 * DAY, 42)
    await world.catalog.set_app(APP, policy=lambda _: Policy(ttl=100 * DAY))
    await world.apps.refresh()
    world.clock.now = sig.expires_at - DAY
    await seen(world, [ALICE])
    await world.flows.renew.tick(world.clock())
    assert (await world.row()).ttl == 100 * DAY, "a sig has the life of the policy"
