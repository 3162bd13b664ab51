"""What callers of one process share, and what a get leaves behind: counts and sightings."""

from __future__ import annotations

import asyncio

import pytest

from sigmgr.model import errors
from sigmgr.model.holder import Holder
from sigmgr.model.sig import Current, KeyState, Reason
from sigmgr.telemetry import GETS
from tests.flow.world import ALICE, APP, DAY, World

BOB = Holder(APP, "bob")


def counted() -> tuple[float, float]:
    """Sigs from the cache and through the store."""
    return GETS.labels("cache")._value.get(), GETS.labels("store")._value.get()


async def test_who_asks_is_seen_and_who_is_refused_is_not(world: World) -> None:
    await world.flows.issue.many([ALICE, BOB], world.clock())
    await world.flows.publisher.flush()
    await world.flows.seen.flush(world.clock())
    await world.flows.revoke.user(APP, "bob", world.clock())
    world.clock.advance(DAY)
    world.plan.fail = lambda name, moment: None
    alice, stranger = await world.flows.issue.many([ALICE, Holder(77, "bob")], world.clock())
    assert isinstance(alice, Current)
    assert isinstance(stranger, errors.AppUnknown)
    assert await world.flows.seen.flush(world.clock()) == 1
    assert (await world.row()).seen_at == world.clock()
    assert (await world.row(BOB)).seen_at < world.clock()


async def test_answers_are_counted_by_where_they_came_from(world: World) -> None:
    cache, store = counted()
    await world.flows.issue.many([ALICE, BOB], world.clock())
    assert counted() == (cache, store + 2)
    await world.flows.publisher.flush()
    await world.flows.issue.many([ALICE, BOB, Holder(APP, "carol")], world.clock())
    assert counted() == (cache + 2, store + 3)


async def test_who_joined_one_that_gave_up_is_answered_all_the_same(world: World) -> None:
    """The caller that ran it was cancelled; those that waited with it begin anew."""
    gate, begun = asyncio.Event(), asyncio.Event()

    async def hold() -> None:
        begun.set()
        await gate.wait()

    world.plan.fail = lambda name, moment: (
        hold() if (name, moment) == ("store.find", "before") else None
    )
    first = asyncio.create_task(world.flows.issue.current(ALICE, world.clock()))
    await begun.wait()
    second = asyncio.create_task(world.flows.issue.many([ALICE, BOB], world.clock()))
    third = asyncio.create_task(world.flows.issue.current(ALICE, world.clock()))
    for _ in range(50):
        await asyncio.sleep(0)
    first.cancel()
    gate.set()
    with pytest.raises(asyncio.CancelledError):
        await first
    [alice, bob], again = await asyncio.gather(second, third)
    assert isinstance(alice, Current)
    assert isinstance(bob, Current)
    assert again == alice
    assert world.invariants.made == 2
    assert not world.flows.issue._flights


async def test_callers_of_one_moment_share_one_read(world: World) -> None:
    world.plan.calls.clear()
    answers = await asyncio.gather(
        *(world.flows.issue.current(ALICE, world.clock()) for _ in range(9))
    )
    assert len(set(answers)) == 1
    assert world.plan.calls.count(("store.find", "before")) == 1
    assert world.plan.calls.count(("store.transaction", "before")) == 1


async def test_a_cached_sig_of_an_app_that_is_gone_is_not_served(world: World) -> None:
    sig = await world.flows.issue.current(ALICE, world.clock())
    foreign = sig._replace(holder=Holder(77, "alice"))
    await world.cache.put([foreign], world.clock())
    assert await world.cache.get([foreign.holder]) == [foreign]
    with pytest.raises(errors.AppUnknown):
        await world.flows.issue.current(foreign.holder, world.clock())


async def test_a_first_sig_costs_no_look_for_a_key_that_never_was(world: World) -> None:
    world.plan.calls.clear()
    await world.flows.issue.current(ALICE, world.clock())
    assert ("signer.key_state", "before") not in world.plan.calls


async def test_a_reissue_writes_why_and_counts_as_a_sighting(world: World) -> None:
    await world.flows.issue.reissue(ALICE, world.clock(), reason=Reason.FORCED)
    row = await world.row()
    assert (row.reason, row.seen_at) == (Reason.MISSING, world.clock()), "it was the first"
    world.clock.advance(60)
    await world.flows.issue.reissue(ALICE, world.clock(), reason=Reason.FORCED)
    row = await world.row()
    assert (row.reason, row.seen_at) == (Reason.FORCED, world.clock())
    world.clock.advance(60)
    await world.flows.issue.reissue(ALICE, world.clock())
    assert (await world.row()).reason == Reason.CLIENT_REQUESTED


async def test_a_sig_of_a_tainted_key_is_reissued_in_its_own_second(world: World) -> None:
    first = await world.flows.issue.current(ALICE, world.clock())
    new = await world.add_key(APP)
    assert await world.flows.issue.reissue(ALICE, world.clock()) == first
    await world.catalog.set_key_state(APP, first.key_id, KeyState.TAINTED, world.clock())
    await world.ring.refresh()
    second = await world.flows.issue.reissue(ALICE, world.clock())
    assert (second.key_id, second.issued_at) == (new.key_id, first.issued_at + 1)


async def test_a_reissue_in_the_pause_says_how_long_it_lasts(world: World) -> None:
    await world.flows.issue.current(ALICE, world.clock())
    await world.flows.revoke.user(APP, "alice", world.clock())
    for left in (2, 1):
        with pytest.raises(errors.RevokePause) as pause:
            await world.flows.issue.reissue(ALICE, world.clock())
        assert pause.value.retry_after == left
        world.clock.advance(1)
    assert (await world.flows.issue.reissue(ALICE, world.clock())).issued_at == world.clock()
