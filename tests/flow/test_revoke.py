"""Ending a user's sigs: all of them, known here first, and never too slowly for the others."""

from __future__ import annotations

import pytest

from sigmgr.flow.look import REVOKE_LIMIT
from sigmgr.model import errors
from sigmgr.model.event import EventType
from sigmgr.model.holder import Holder, Room
from sigmgr.model.policy import Policy
from sigmgr.model.revocation import WIDE_MARGIN
from sigmgr.model.sig import Current
from tests.flow.world import ALICE, APP, World


async def room_key(world: World, number: int) -> Current:
    return await world.flows.room_keys.current(
        APP, "alice", Room(id=number), privileges=255, ttl=None, now=world.clock()
    )


def lags(world: World, *seconds: float) -> list[float]:
    """How long the writes of revocations take, one after the other; then no time."""
    left = list(seconds)

    async def since_written(revocation: object) -> float:
        return left.pop(0) if left else 0.0

    world.looks.since_written = since_written  # type: ignore[method-assign, assignment]
    return left


def written(world: World) -> int:
    return world.plan.calls.count(("store.transaction.revoke", "after"))


async def test_every_sig_of_the_user_ends_and_each_is_reported_once(world: World) -> None:
    await world.flows.issue.current(ALICE, world.clock())
    room = await room_key(world, 5)
    await world.flows.publisher.flush()
    world.clock.advance(60)
    calls = []
    real = world.announcer.announce

    async def announce(batch: list[object], now: int) -> list[bool]:
        calls.extend(one.event for one in batch)  # type: ignore[attr-defined]
        return await real(batch, now)  # type: ignore[arg-type]

    world.announcer.announce = announce  # type: ignore[method-assign, assignment]
    done = await world.flows.revoke.user(APP, "alice", world.clock())
    assert done == (world.clock(), True)
    for holder in (ALICE, room.holder):
        row = await world.row(holder)
        assert (row.revoked_at, row.due_at) == (done.revoked_at, None)
    assert {(one.type, one.holder, one.issued_at) for one in calls} == {
        (EventType.REVOKED.value, holder, done.revoked_at) for holder in (ALICE, room.holder)
    }
    assert len(calls) == 2
    await world.settle()
    await world.check()


async def test_a_user_without_a_sig_is_revoked_too(world: World) -> None:
    done = await world.flows.revoke.user(APP, "alice", world.clock())
    assert done == (world.clock(), False)
    with pytest.raises(errors.RevokePause):
        await world.flows.issue.current(ALICE, world.clock())


async def test_a_sig_of_a_later_second_ends_as_well(world: World) -> None:
    """Another process has a clock that is ahead."""
    ahead = await world.flows.issue.current(ALICE, world.clock() + 3)
    done = await world.flows.revoke.user(APP, "alice", world.clock())
    assert done.revoked_at == ahead.issued_at


async def test_a_room_key_that_is_made_meanwhile_ends_as_well(world: World) -> None:
    """After the user's rows were looked for, and before they were locked."""
    await world.flows.issue.current(ALICE, world.clock())
    made: list[Current] = []

    async def make() -> None:
        made.append(await room_key(world, 5))

    def meanwhile(name: str, moment: str) -> object:
        if (name, moment) != ("store.of_user", "after") or made:
            return None
        world.plan.heal()
        return make()

    world.plan.fail = meanwhile  # type: ignore[assignment]
    done = await world.flows.revoke.user(APP, "alice", world.clock())
    row = await world.row(made[0].holder)
    assert (row.revoked_at, row.due_at) == (done.revoked_at, None)


async def test_this_process_knows_before_anybody_learns_it(world: World) -> None:
    await world.flows.issue.current(ALICE, world.clock())
    known: list[int] = []

    def look(name: str, moment: str) -> None:
        if (name, moment) == ("cache.announce", "before"):
            known.append(world.revocations.until(APP, "alice"))

    world.plan.fail = look
    done = await world.flows.revoke.user(APP, "alice", world.clock())
    assert known == [done.revoked_at]


async def test_one_that_took_as_long_as_others_look_back_is_not_written_again(
    world: World,
) -> None:
    lags(world, REVOKE_LIMIT)
    await world.flows.revoke.user(APP, "alice", world.clock())
    assert written(world) == 1


async def test_one_that_took_more_than_ten_seconds_is_written_again(world: World) -> None:
    """So long it may take by docs/revocation.md; a look goes back by twice of it."""
    for seconds, writes in ((10.0, 1), (10.1, 2)):
        world.plan.calls.clear()
        lags(world, seconds)
        await world.flows.revoke.user(APP, "alice", world.clock())
        assert written(world) == writes


async def test_one_that_took_longer_is_written_until_it_is_quick_enough(world: World) -> None:
    lags(world, REVOKE_LIMIT + 1, REVOKE_LIMIT + 1)
    await world.flows.revoke.user(APP, "alice", world.clock())
    assert written(world) == 3


async def test_one_that_is_never_quick_enough_is_not_answered(world: World) -> None:
    lags(world, *[REVOKE_LIMIT + 1.0] * 99)
    with pytest.raises(errors.StoreUnavailable, match="slowly"):
        await world.flows.revoke.user(APP, "alice", world.clock())
    assert written(world) == 6
    assert world.revocations.until(APP, "alice") == world.clock()


async def test_all_users_are_revoked_without_a_write_to_their_rows(world: World) -> None:
    current = await world.flows.issue.current(ALICE, world.clock())
    until = await world.flows.revoke.everybody(APP, world.clock())
    assert until == world.clock() + WIDE_MARGIN
    assert not (await world.row()).alive(world.clock())
    async with world.store.transaction() as tx:
        # The row as it lies there.
        world.store._memory.revoked_until = lambda sdkappid, userid: 0
        assert [row.revoked_at for row in await tx.lock([ALICE])] == [0]
    assert world.revocations.killed(current)
    loaded = await world.looks.revocations(None, 10, current.expires_at)
    assert [one.until for one in loaded] == [until], "for as long as any sig may live"


async def test_a_later_revocation_reaches_as_far_as_the_one_in_force(world: World) -> None:
    """By a process whose clock is behind, or after a revocation of all users."""
    await world.flows.issue.current(ALICE, world.clock())
    world.clock.advance(60)
    for revoke, behind in (
        (world.flows.revoke.user(APP, "alice", world.clock()), 5),
        (world.flows.revoke.everybody(APP, world.clock()), 0),
    ):
        await revoke
        until = world.revocations.until(APP, "alice")
        done = await world.flows.revoke.user(APP, "alice", world.clock() - behind)
        assert done.revoked_at == until
        assert (await world.row()).revoked_at == until


async def test_the_users_of_an_app_that_is_not_known_are_not_revoked(world: World) -> None:
    for revoke in (world.flows.revoke.everybody(77, world.clock()),
                   world.flows.revoke.user(77, "alice", world.clock())):  # fmt: skip
        with pytest.raises(errors.AppUnknown):
            await revoke
    assert await world.flows.revoke.everybody(0, world.clock()) == world.clock() + WIDE_MARGIN
    assert world.revocations.until(77, "anybody") == world.clock() + WIDE_MARGIN
    assert await world.store.find([Holder(77, "alice")]) == [None]


async def test_rooms_that_are_made_after_the_pause_are_left_alone(world: World) -> None:
    """While the answer is on its way, another process goes on."""
    first = await room_key(world, 5)
    world.clock.advance(60)
    made: list[Current] = []

    async def make() -> None:
        made.append(
            await world.process().room_keys.current(
                APP, "alice", Room(id=6), privileges=255, ttl=None, now=world.clock() + 9
            )
        )

    def meanwhile(name: str, moment: str) -> object:
        if (name, moment) != ("store.of_user", "before") or len(world.plan.calls) < 5 or made:
            return None
        world.plan.heal()
        return make()

    world.plan.calls.clear()
    world.plan.fail = meanwhile  # type: ignore[assignment]
    done = await world.flows.revoke.user(APP, "alice", world.clock())
    assert made[0].issued_at > done.revoked_at
    assert (await world.row(made[0].holder)).revoked_at == 0
    assert (await world.row(first.holder)).revoked_at == done.revoked_at
    assert done.known


async def test_a_revocation_is_kept_for_as_long_as_any_of_the_sigs_could_live(
    world: World,
) -> None:
    sig = await world.flows.issue.current(ALICE, world.clock())
    world.clock.now = sig.expires_at - 5
    await world.flows.revoke.user(APP, "alice", world.clock())
    until = world.revocations.until(APP, "alice")
    # A slow process may still make one in this second, of the longest life.
    longest = until + Policy().ttl
    for now, known in ((longest, until), (longest + 86399, until), (longest + 86400, 0)):
        for _ in range(3):
            world.revocations.forget(now)
        assert world.revocations.until(APP, "alice") == known
