"""Limits of an app on new holders and of a user on rooms: who exists is never refused."""

from __future__ import annotations

import asyncio

import pytest

from sigmgr.flow import newcomers
from sigmgr.model import errors
from sigmgr.model.holder import Holder, Room
from sigmgr.model.policy import Policy
from sigmgr.model.sig import Current, Reason
from tests.flow.world import ALICE, APP, World


def users(first: int, last: int) -> list[Holder]:
    return [Holder(APP, f"u{n}") for n in range(first, last)]


async def limited(world: World, **policy: float) -> None:
    await world.catalog.set_app(APP, policy=lambda _: Policy(**policy))
    await world.apps.refresh()
    await world.flows.newcomers.measure(world.clock())


async def asked(world: World, first: int, last: int) -> list[str]:
    """What a batch get answers for each of these users."""
    answers = await world.flows.issue.many(users(first, last), world.clock())
    return ["ok" if isinstance(one, Current) else one.code for one in answers]


async def room(world: World, number: int, user: str = "alice", **more: int) -> Current:
    return await world.flows.room_keys.current(
        APP, user, Room(id=1 + number), privileges=255, ttl=more.get("ttl"), now=world.clock()
    )


# -- how fast ----------------------------------------------------------------------------


async def test_so_many_a_second_and_the_others_learn_when(world: World) -> None:
    await limited(world, new_holders_per_second=3)
    assert (await asked(world, 0, 5)) == ["ok"] * 3 + ["too-many-new-holders"] * 2
    [refused] = await world.flows.issue.many(users(9, 10), world.clock())
    assert isinstance(refused, errors.TooManyNewHolders)
    assert refused.retry_after == 1
    assert await world.store.count(APP, 99) == 3
    world.clock.advance(1)
    # Those that exist take nothing of it.
    assert (await asked(world, 0, 8)) == ["ok"] * 6 + ["too-many-new-holders"] * 2


async def test_a_slow_rate_is_one_now_and_then(world: World) -> None:
    await limited(world, new_holders_per_second=0.25)
    assert await asked(world, 0, 1) == ["ok"]
    assert await asked(world, 1, 2) == ["too-many-new-holders"]
    world.clock.advance(3)
    assert await asked(world, 1, 2) == ["too-many-new-holders"]
    world.clock.advance(1)
    assert await asked(world, 1, 2) == ["ok"]


async def test_without_a_limit_there_is_none(world: World) -> None:
    assert set(await asked(world, 0, 300)) == {"ok"}


async def test_other_apps_have_their_own(world: World) -> None:
    await world.add_app(APP + 1)
    await limited(world, new_holders_per_second=1)
    assert await asked(world, 0, 2) == ["ok", "too-many-new-holders"]
    both = [Holder(APP + 1, "u1"), Holder(APP, "u2")]
    first, second = await world.flows.issue.many(both, world.clock())
    assert isinstance(first, Current)
    assert isinstance(second, errors.TooManyNewHolders)


# -- how many ----------------------------------------------------------------------------


async def test_the_last_one_is_exact_in_one_process(world: World) -> None:
    await limited(world, max_holders=5)
    answers = await asyncio.gather(*(asked(world, n, n + 2) for n in range(0, 20, 2)))
    answer = [one for pair in answers for one in pair]
    assert (answer.count("ok"), answer.count("max-holders")) == (5, 15)
    assert await world.store.count(APP, 99) == 5
    there = [record.holder for record in await world.store.page(None, 99)]
    assert all(isinstance(a, Current) for a in await world.flows.issue.many(there, world.clock()))
    with pytest.raises(errors.MaxHolders, match="has 5 holders") as refused:
        await world.flows.issue.current(Holder(APP, "one-more"), world.clock())
    assert refused.value.retry_after


async def test_another_process_sees_it_with_its_next_count(world: World) -> None:
    await limited(world, max_holders=5)
    other = world.process()
    await other.newcomers.measure(world.clock())
    assert set(await asked(world, 0, 5)) == {"ok"}
    # Not counted yet: so much an app may go beyond its limit.
    assert isinstance((await other.issue.many(users(5, 6), world.clock()))[0], Current)
    world.clock.advance(newcomers.CALM)
    await other.newcomers.measure(world.clock())
    [refused] = await other.issue.many(users(6, 7), world.clock())
    assert isinstance(refused, errors.MaxHolders)


async def test_counts_are_seldom_far_from_the_limit_and_frequent_near_it(world: World) -> None:
    await limited(world, max_holders=20)
    counted: list[int] = []
    count = world.store.count

    async def noted(sdkappid: int, most: int) -> int:
        counted.append(world.clock())
        return await count(sdkappid, most)

    world.store.count = noted  # type: ignore[method-assign]

    async def pass_time(seconds: int) -> int:
        before = len(counted)
        for _ in range(seconds):
            await world.flows.newcomers.measure(world.clock.advance(1))
        return len(counted) - before

    assert await pass_time(120) == 2
    await asked(world, 0, 19)
    assert await pass_time(20) == 4


async def test_a_count_that_fails_forgets_nothing_and_stops_no_other(world: World) -> None:
    other = APP + 1
    await world.add_app(other)
    await world.catalog.set_app(other, policy=Policy(max_holders=1))
    await limited(world, max_holders=20)
    assert set(await asked(world, 0, 20)) == {"ok"}
    counted: list[int] = []
    count = world.store.count

    async def failing(sdkappid: int, most: int) -> int:
        counted.append(sdkappid)
        if sdkappid == APP:
            raise errors.StoreUnavailable
        return await count(sdkappid, most)

    world.store.count = failing  # type: ignore[method-assign]
    for _ in range(2):
        with pytest.raises(errors.StoreUnavailable):
            await world.flows.newcomers.measure(world.clock.advance(newcomers.CALM))
        assert counted == [APP, other]
        counted.clear()
        assert await asked(world, 20, 21) == ["max-holders"]
    # What failed rests, too.
    await world.flows.newcomers.measure(world.clock.advance(1))
    assert counted == []


async def test_who_goes_makes_room(world: World) -> None:
    await limited(world, max_holders=3)
    assert (await asked(world, 0, 4)).count("ok") == 3
    async with world.store._engine.write() as connection:
        await connection.exec_driver_sql("DELETE FROM holders WHERE userid = 'u1'")
    world.clock.advance(newcomers.NEAR)
    await world.flows.newcomers.measure(world.clock())
    assert await asked(world, 7, 8) == ["ok"]


async def test_a_limit_that_is_lifted_holds_nobody(world: World) -> None:
    await limited(world, max_holders=1)
    assert await asked(world, 0, 2) == ["ok", "max-holders"]
    await limited(world)
    assert set(await asked(world, 0, 9)) == {"ok"}


@pytest.mark.parametrize("limit", [{"max_holders": 1}, {"new_holders_per_second": 1}])
async def test_whose_row_is_lost_keeps_a_cached_sig_that_is_valid(
    world: World, limit: dict[str, int]
) -> None:
    first = await world.flows.issue.current(ALICE, world.clock())
    await world.flows.publisher.flush()
    async with world.store._engine.write() as connection:
        await connection.exec_driver_sql("DELETE FROM holders")
    await limited(world, **limit)
    # So little is left that a better one is looked for.
    world.clock.now = first.expires_at - 60
    assert await asked(world, 0, 1) == ["ok"]
    assert await world.flows.issue.current(ALICE, world.clock()) == first
    assert (await asked(world, 1, 2))[0] in {"max-holders", "too-many-new-holders"}


# -- every way in ------------------------------------------------------------------------


async def test_a_reissue_that_creates_and_a_room_of_a_new_user_are_new_too(world: World) -> None:
    await limited(world, max_holders=1)
    await world.flows.issue.current(ALICE, world.clock())
    with pytest.raises(errors.MaxHolders):
        await world.flows.issue.reissue(
            Holder(APP, "bob"), world.clock(), reason=Reason.FORCED, create=True
        )
    with pytest.raises(errors.MaxHolders):
        await room(world, 1, "carol")
    with pytest.raises(errors.MaxHolders):
        await room(world, 1)
    assert await world.store.count(APP, 99) == 1
    # What exists is reissued, and revoked; a stranger is revoked all the same.
    world.clock.advance(5)
    await world.flows.issue.reissue(ALICE, world.clock(), reason=Reason.FORCED)
    await world.flows.revoke.user(APP, "mallory", world.clock())


async def test_after_a_revocation_of_all_users_the_limits_hold_as_before(world: World) -> None:
    await limited(world, max_holders=1)
    await world.flows.issue.current(ALICE, world.clock())
    await world.flows.revoke.everybody(APP, world.clock())
    world.clock.advance(20)
    with pytest.raises(errors.MaxHolders):
        await world.flows.issue.reissue(
            Holder(APP, "bob"), world.clock(), reason=Reason.FORCED, create=True
        )
    with pytest.raises(errors.MaxHolders):
        await room(world, 1, "carol")
    await world.flows.issue.reissue(ALICE, world.clock(), reason=Reason.FORCED)


async def test_who_has_nothing_but_a_row_is_not_new(world: World) -> None:
    await limited(world, max_holders=3)
    first = await room(world, 1, "carol")
    await world.flows.revoke.user(APP, "mallory", world.clock())
    world.clock.advance(newcomers.CALM)
    await world.flows.newcomers.measure(world.clock())
    assert await room(world, 1, "carol") == first
    for user in ("carol", "mallory"):
        await world.flows.issue.reissue(
            Holder(APP, user), world.clock(), reason=Reason.FORCED, create=True
        )
    assert await world.store.count(APP, 99) == 3


# -- rooms -------------------------------------------------------------------------------


async def test_a_user_has_so_many_live_rooms(world: World) -> None:
    await limited(world, max_rooms=3)
    keys = [await room(world, number) for number in range(3)]
    with pytest.raises(errors.MaxRooms, match="3 room keys") as refused:
        await room(world, 3)
    assert refused.value.retry_after == keys[0].expires_at - world.clock()
    # Others have their own, and what is live is answered, changed and renewed.
    await room(world, 3, "bob")
    assert await room(world, 1) == keys[1]
    world.clock.advance(2)
    changed = await world.flows.room_keys.current(
        APP, "alice", Room(id=3), privileges=42, ttl=None, now=world.clock()
    )
    assert changed.issued_at > keys[2].issued_at
    assert await world.store.count(APP, 99) == 6


async def test_a_room_that_ends_makes_room_for_the_next(world: World) -> None:
    await limited(world, max_rooms=2)
    await room(world, 0, ttl=100)
    await room(world, 1, ttl=200)
    with pytest.raises(errors.MaxRooms):
        await room(world, 2)
    world.clock.advance(100)
    await room(world, 2, ttl=200)
    with pytest.raises(errors.MaxRooms):
        await room(world, 0)


async def test_a_revocation_ends_the_rooms_and_so_makes_room(world: World) -> None:
    await limited(world, max_rooms=2)
    await room(world, 0)
    await room(world, 1)
    await world.flows.revoke.user(APP, "alice", world.clock())
    world.clock.advance(5)
    await room(world, 7)
    await room(world, 0)
    with pytest.raises(errors.MaxRooms):
        await room(world, 1)


async def test_rooms_that_come_at_once_are_counted_too(world: World) -> None:
    await limited(world, max_rooms=4)
    answers = await asyncio.gather(*(room(world, n) for n in range(12)), return_exceptions=True)
    assert sum(isinstance(one, Current) for one in answers) == 4
    assert {type(one) for one in answers} == {Current, errors.MaxRooms}


async def test_no_limit_on_rooms(world: World) -> None:
    await limited(world, max_rooms=0)
    for number in range(60):
        await room(world, number)
