"""Acks: durable by the batch, each judged by its own row, and none failed by another."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from sigmgr.flow.limits import WaitLimits
from sigmgr.model import errors
from sigmgr.model.event import EventType
from sigmgr.model.holder import Holder
from sigmgr.model.sig import Current
from sigmgr.ports import Announcement
from sigmgr.telemetry import ACKS
from tests.flow.waiting_kit import SHORT, Hangs, Held, comes_to_rest, timed
from tests.flow.world import ALICE, APP, World, open_world

BURST = 2500


async def issued(world: World, *users: Holder) -> list[Current]:
    answers = await world.flows.issue.many(users, world.clock())
    await world.flows.publisher.flush()
    while await world.flows.relay.sweep(world.clock(), grace=0):
        pass
    return [answer for answer in answers if isinstance(answer, Current)]


async def ack(world: World, sig: Current, issued_at: int | None = None) -> None:
    at = sig.issued_at if issued_at is None else issued_at
    await world.flows.deliver.ack(sig.holder, sig.issued_at, at, world.clock())


async def test_an_ack_is_durable_when_it_is_answered_and_reported_once(world: World) -> None:
    [sig] = await issued(world, ALICE)
    world.clock.advance(7)
    await ack(world, sig)
    row = await world.row()
    assert (row.acked, row.acked_at) == (sig.issued_at, world.clock())
    await ack(world, sig)
    async with world.outbox.take(10, world.clock()) as reported:
        assert [(e.type, e.holder, e.issued_at) for e in reported] == [
            (EventType.DELIVERED.value, ALICE, sig.issued_at)
        ]
    await world.settle()
    await world.check()


async def test_a_burst_takes_a_few_transactions(world: World) -> None:
    sigs = await issued(world, *(Holder(APP, f"user{n}") for n in range(BURST)))
    world.plan.calls.clear()
    await asyncio.gather(*(ack(world, sig) for sig in sigs for _ in range(2)))
    made = Counter(name for name, moment in world.plan.calls if moment == "before")
    assert made["store.transaction"] <= 1 + BURST // 1000 + 1
    assert made["store.find"] == 0
    rows = await world.store.find([sig.holder for sig in sigs])
    assert all(row is not None and row.acked == row.issued_at for row in rows)
    pending, _ = await world.outbox.depth(world.clock())
    assert pending == BURST, "an event each, not two"
    await world.settle()
    await world.check()


async def test_each_is_judged_by_its_own_row_and_none_is_made(world: World) -> None:
    good, revoked, ahead = await issued(world, *(Holder(APP, f"u{n}") for n in range(3)))
    await world.flows.revoke.user(APP, revoked.holder.userid, world.clock())
    stranger = good._replace(holder=Holder(APP, "stranger"))
    answers = await asyncio.gather(
        ack(world, good),
        ack(world, revoked),
        ack(world, ahead, ahead.issued_at + 100),
        ack(world, stranger),
        ack(world, good, good.issued_at - 5),
        return_exceptions=True,
    )
    assert [type(answer) for answer in answers] == [
        type(None), errors.TicketRevoked, errors.NeverIssued, errors.HolderUnknown, type(None),
    ]  # fmt: skip
    assert (await world.row(good.holder)).acked == good.issued_at
    assert (await world.row(ahead.holder)).acked == 0
    assert await world.store.find([stranger.holder]) == [None]


async def test_who_acks_with_a_ticket_from_before_a_revocation_is_refused_in_any_company(
    world: World,
) -> None:
    """Nor does a revocation of all users, which is in no row of theirs, let anybody pass."""
    sigs = await issued(world, *(Holder(APP, f"u{n}") for n in range(4)))
    world.clock.advance(60)
    new = await world.flows.issue.reissue(sigs[0].holder, world.clock())
    await world.flows.revoke.user(APP, sigs[1].holder.userid, world.clock())
    output = await asyncio.gather(
        world.flows.deliver.ack(new.holder, sigs[0].issued_at, new.issued_at, world.clock()),
        *(ack(world, sig) for sig in (new, *sigs[1:])),
        return_exceptions=True,
    )
    assert [type(answer) for answer in output] == [
        type(None), type(None), errors.TicketRevoked, type(None), type(None),
    ]  # fmt: skip
    await world.flows.revoke.everybody(APP, world.clock())
    output = await asyncio.gather(*(ack(world, sig) for sig in sigs), return_exceptions=True)
    assert {type(answer) for answer in output} == {errors.TicketRevoked}


async def test_an_older_ack_changes_nothing(world: World) -> None:
    [sig] = await issued(world, ALICE)
    world.clock.advance(10)
    newer = await world.flows.issue.reissue(ALICE, world.clock())
    await ack(world, newer)
    row = await world.row()
    world.clock.advance(10)
    await ack(world, sig)
    assert await world.row() == row


@pytest.fixture
def announced(world: World) -> list[tuple[Holder, int]]:
    """Whose delivery was announced, and of which second."""
    seen: list[tuple[Holder, int]] = []
    real = world.announcer.announce

    async def announce(batch: Sequence[Announcement], now: int) -> list[bool]:
        seen.extend(
            (one.event.holder, one.event.issued_at)
            for one in batch
            if one.event.type == EventType.DELIVERED.value
        )
        return await real(batch, now)

    world.announcer.announce = announce  # type: ignore[method-assign, assignment]
    return seen


def counted() -> float:
    return ACKS.labels("new")._value.get()


async def test_new_acks_are_announced_and_counted(
    world: World, announced: list[tuple[Holder, int]]
) -> None:
    sigs, before = await issued(world, ALICE, Holder(APP, "bob")), counted()
    for _ in range(2):
        await asyncio.gather(*(ack(world, sig) for sig in sigs))
        await world.flows.publisher.flush()
    assert sorted(announced) == [(sig.holder, sig.issued_at) for sig in sigs]
    assert counted() - before == 2
    assert await world.outbox.depth(world.clock()) == (0, 0)


@pytest.mark.parametrize("newest_first", [False, True])
async def test_acks_of_earlier_sigs_leave_the_newest_of_them_in_the_row(
    world: World, announced: list[tuple[Holder, int]], newest_first: bool
) -> None:
    """Devices of one user that have not got the last renewal yet."""
    sigs = await issued(world, ALICE)
    for _ in range(2):
        world.clock.advance(10)
        sigs.append(await world.flows.issue.reissue(ALICE, world.clock()))
    world.clock.advance(7)
    old, before = sigs[:2], counted()
    if newest_first:
        old.reverse()
    world.plan.calls.clear()
    for _ in range(2):
        await asyncio.gather(*(ack(world, sig) for sig in old))
        await world.flows.publisher.flush()
    row = await world.row()
    assert (row.acked, row.acked_at) == (sigs[1].issued_at, world.clock())
    assert row.issued_at == sigs[2].issued_at
    assert announced == [(ALICE, sigs[1].issued_at)]
    assert ("store.find", "before") not in world.plan.calls, "no row is missing"
    assert counted() - before == 1
    assert await world.outbox.depth(world.clock()) == (0, 0)


async def test_a_lost_connection_is_tried_once_more(world: World) -> None:
    [sig] = await issued(world, ALICE)
    lost = [errors.ConnectionLost]

    def lose(name: str, moment: str) -> None:
        if (name, moment) == ("store.transaction.confirm", "before") and lost:
            raise lost.pop()

    world.plan.fail = lose
    world.plan.calls.clear()
    await ack(world, sig)
    assert (await world.row()).acked == sig.issued_at
    assert world.plan.calls.count(("store.transaction.confirm", "before")) == 2
    assert ("store.transaction.try_lock", "before") not in world.plan.calls


async def test_a_batch_that_fails_fails_no_other(world: World) -> None:
    sigs = await issued(world, *(Holder(APP, f"user{n}") for n in range(1500)))
    left = {"store.transaction.confirm", "store.transaction.try_lock"}

    def the_first(name: str, moment: str) -> None:
        if name in left:
            left.discard(name)
            raise errors.StoreUnavailable

    world.plan.fail = the_first
    answers = await asyncio.gather(*(ack(world, sig) for sig in sigs), return_exceptions=True)
    assert Counter(type(answer) for answer in answers) == {
        errors.StoreUnavailable: 1000,
        type(None): 500,
    }
    world.plan.heal()
    await asyncio.gather(*(ack(world, sig) for sig in sigs))
    await world.settle()
    await world.check()


async def test_whatever_call_hangs_an_ack_is_refused_in_time_and_good_at_the_next_try(
    tmp_path: Path,
) -> None:
    hung: list[str] = []
    for at in range(99):
        home = tmp_path / str(at)
        home.mkdir()
        async with open_world(home) as world:
            [sig] = await issued(world, ALICE)
            world.flows = world.process(SHORT)
            hangs = Hangs(world, at)
            output = await timed(ack(world, sig))
            if not hangs.name:
                assert output is None
                break
            hung.append(hangs.name)
            assert isinstance(output, errors.StoreUnavailable)
            assert output.retry_after == 1
            hangs.released.set()
            await comes_to_rest(world)
            await ack(world, sig)
            assert (await world.row()).acked == sig.issued_at
    assert hung[0] == "store.transaction"
    assert hung[-1] == "store.transaction.commit"


async def test_acks_of_rows_that_others_hold_hold_up_no_other(world_held: World) -> None:
    world, rows = world_held, world_held.held  # type: ignore[attr-defined]
    sigs = await issued(world, *(Holder(APP, f"u{n}") for n in range(100)))
    rows.update(sig.holder for sig in sigs[::2])
    world.flows = world.process(SHORT)
    output = await timed(asyncio.gather(*(ack(world, s) for s in sigs), return_exceptions=True))
    assert [type(answer) for answer in output] == [errors.StoreUnavailable, type(None)] * 50
    assert {(one.text, one.retry_after) for one in output[::2]} == {
        ("another transaction holds this user's row", 1)
    }
    rows.clear()
    waiting = asyncio.gather(*(ack(world, sig) for sig in sigs))
    await timed(waiting)
    found = await world.store.find([sig.holder for sig in sigs])
    assert all(row is not None and row.acked == row.issued_at for row in found)


async def test_an_ack_waits_for_a_row_that_is_held_for_a_moment(world_held: World) -> None:
    world, rows = world_held, world_held.held  # type: ignore[attr-defined]
    [sig] = await issued(world, ALICE)
    rows.add(ALICE)
    waiting = asyncio.create_task(ack(world, sig))
    await asyncio.sleep(0.05)
    assert not waiting.done()
    rows.clear()
    await timed(waiting)


async def test_an_ack_waits_no_longer_than_the_limit_for_a_held_row_of_a_slow_store(
    world_held: World,
) -> None:
    [sig] = await issued(world_held, ALICE)
    world_held.held.add(ALICE)  # type: ignore[attr-defined]
    world_held.flows = world_held.process(WaitLimits(0.5, 0.6))
    world_held.plan.fail = lambda name, moment: (
        asyncio.sleep(0.2) if (name, moment) == ("store.transaction", "before") else None
    )
    began = time.monotonic()
    with pytest.raises(errors.StoreUnavailable):
        await ack(world_held, sig)
    assert time.monotonic() - began < 1.2
    world_held.held.clear()  # type: ignore[attr-defined]
    await comes_to_rest(world_held)


@pytest.fixture
async def world_held(tmp_path: Path) -> AsyncIterator[World]:
    """A world in which somebody holds the rows ``held``."""
    async with open_world(tmp_path) as world:
        world.held = set()  # type: ignore[attr-defined]
        world.invariants._store = Held(world.invariants._store, world.held)  # type: ignore[attr-defined]
        yield world
