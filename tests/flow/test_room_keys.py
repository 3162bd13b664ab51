"""Room keys: the current one where it fits, else the next, and never out of a chain of wishes."""

from __future__ import annotations

import pytest

from sigmgr.model import errors
from sigmgr.model.holder import Holder, Room
from sigmgr.model.policy import Policy
from sigmgr.model.sig import Current, Reason
from tests.flow.world import ALICE, APP, DAY, World


async def ask(
    world: World, number: int = 1, privileges: int = 255, ttl: int | None = None
) -> Current:
    return await world.flows.room_keys.current(
        APP, "alice", Room(id=number), privileges=privileges, ttl=ttl, now=world.clock()
    )


async def limited(world: World, **policy: int) -> None:
    await world.catalog.set_app(APP, policy=lambda _: Policy(**policy))
    await world.apps.refresh()


async def test_two_wishes_in_one_second_are_met_and_the_third_has_to_wait(world: World) -> None:
    """The second key is of the next second; another would be of a second still further ahead."""
    first = await ask(world, privileges=255)
    second = await ask(world, privileges=42)
    assert (first.issued_at, second.issued_at) == (world.clock(), world.clock() + 1)
    with pytest.raises(errors.AskedTooOften) as refused:
        await ask(world, privileges=7)
    assert refused.value.retry_after == 1
    assert await ask(world, privileges=42) == second, "what fits is answered all the same"
    world.clock.advance(1)
    assert (await ask(world, privileges=7)).issued_at == world.clock() + 1


async def test_a_key_lives_as_long_as_is_asked_and_is_not_made_shorter(world: World) -> None:
    first = await ask(world)
    assert first.expires_at - first.issued_at == Policy().room_ttl
    world.clock.advance(1)
    assert await ask(world, ttl=Policy().room_ttl - 60) == first
    assert await ask(world, ttl=Policy().room_ttl) == first
    longer = await ask(world, ttl=Policy().room_ttl + 60)
    assert longer.expires_at - longer.issued_at == Policy().room_ttl + 60
    assert (await world.row(longer.holder)).reason == Reason.POLICY_CHANGED
    world.clock.advance(1)
    assert await ask(world) == longer, "no wish is no wish for the policy's"


@pytest.mark.parametrize("ttl", [-1, 0])
async def test_a_life_that_no_key_may_have_is_refused(world: World, ttl: int) -> None:
    with pytest.raises(errors.BadTtl):
        await ask(world, ttl=ttl)
    assert await world.store.find([ALICE]) == [None]


async def test_who_gets_a_key_counts_as_seen(world: World) -> None:
    key = await ask(world)
    row = await world.row(key.holder)
    assert (row.seen_at, row.privileges, row.reason) == (world.clock(), 255, Reason.MISSING)
    world.clock.advance(7)
    again = await ask(world, privileges=42)
    row = await world.row(again.holder)
    assert (row.seen_at, row.privileges) == (world.clock(), 42)


async def test_the_last_room_that_ends_makes_the_next_wait_for_a_second(world: World) -> None:
    await limited(world, max_rooms=1)
    key = await ask(world, 1)
    world.clock.now = key.expires_at - 1
    with pytest.raises(errors.MaxRooms, match="1 room keys") as refused:
        await ask(world, 2)
    assert refused.value.retry_after == 1
    world.clock.now = key.expires_at
    assert (await ask(world, 2)).issued_at == world.clock()


async def test_a_room_that_has_ended_is_a_new_room_for_the_limit(world: World) -> None:
    await limited(world, max_rooms=1)
    key = await ask(world, 1)
    world.clock.now = key.expires_at
    await ask(world, 2)
    with pytest.raises(errors.MaxRooms):
        await ask(world, 1)


async def test_a_revocation_of_the_user_ends_the_key_of_a_room_that_it_did_not_meet(
    world: World,
) -> None:
    """The row of the user alone has it; after the pause there is a new key."""
    key = await ask(world)
    world.clock.advance(5)
    async with world.store.transaction() as tx:
        [row] = await tx.lock([ALICE])
        await tx.save([(row._replace(revoked_at=world.clock()), row.issued_at)])
    with pytest.raises(errors.RevokePause) as pause:
        await ask(world)
    assert pause.value.retry_after == 2
    world.clock.advance(2)
    again = await ask(world)
    assert again.issued_at == world.clock() > key.issued_at
    assert (await world.row(again.holder)).reason == Reason.REVOKED


async def test_a_dormant_key_is_woken_and_others_are_left_as_they_are(world: World) -> None:
    key = await ask(world)
    before = await world.row(key.holder)
    world.plan.calls.clear()
    await ask(world)
    assert ("store.transaction.save", "before") not in world.plan.calls
    async with world.store.transaction() as tx:
        await tx.lock([key.holder])
        await tx.save([(before._replace(due_at=None), before.issued_at)])
    assert await ask(world) == key
    assert await world.row(key.holder) == before


async def test_the_app_has_to_be_known(world: World) -> None:
    with pytest.raises(errors.AppUnknown):
        await world.flows.room_keys.current(
            77, "alice", Room(id=1), privileges=255, ttl=None, now=world.clock()
        )
    key = await ask(world)
    assert key.holder == Holder(APP, "alice", "room", Room(id=1).scope)
    assert key.expires_at - key.issued_at < DAY
