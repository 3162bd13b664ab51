"""Streams that open: the full state, by the batch, and nothing to whom it is no longer due."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable
from pathlib import Path

import pytest

from sigmgr.flow.limits import WaitLimits
from sigmgr.model import errors
from sigmgr.model.holder import Holder, Room
from sigmgr.model.policy import Policy
from sigmgr.model.revocation import Revocation
from sigmgr.model.sig import Current, KeyState, Reason
from tests.flow.waiting_kit import SHORT, Hangs, comes_to_rest, timed
from tests.flow.world import ALICE, APP, DAY, NOW, OTHER, World, open_world

RUSH = 1200


async def room_key(world: World, number: int) -> Current:
    return await world.flows.room_keys.current(
        APP, "alice", Room(id=number), privileges=255, ttl=None, now=world.clock()
    )


async def opened(world: World, sig: Current, *, rooms: bool = True) -> list[Current]:
    return await world.flows.deliver.opened(sig.holder, sig.issued_at, world.clock(), rooms=rooms)


def calls(world: World) -> Counter[str]:
    return Counter(name for name, moment in world.plan.calls if moment == "before")


async def test_a_stream_gets_the_users_sig_first_and_then_the_rooms(world: World) -> None:
    sig = await world.flows.issue.current(ALICE, world.clock())
    keys = [await room_key(world, number) for number in (1, 2)]
    assert await opened(world, sig) == [sig, *keys]


async def test_a_poll_asks_for_no_rooms(world: World) -> None:
    sig = await world.flows.issue.current(ALICE, world.clock())
    await room_key(world, 1)
    assert await opened(world, sig, rooms=False) == [sig]


@pytest.mark.parametrize("rooms", [True, False])
async def test_a_ticket_from_before_a_revocation_opens_nothing(world: World, rooms: bool) -> None:
    sig = await world.flows.issue.current(ALICE, world.clock())
    await world.flows.revoke.user(APP, "alice", world.clock())
    world.clock.advance(5)
    world.flows = world.process()  # that knows of it from the rows alone
    with pytest.raises(errors.TicketRevoked):
        await opened(world, sig, rooms=rooms)


@pytest.mark.parametrize("pause", [0, 10])
@pytest.mark.parametrize("moment", ["store.transaction", "store.transaction.commit"])
async def test_a_revocation_in_between_ends_its_ticket(
    world: World, moment: str, pause: int
) -> None:
    """The ticket is looked at again where a sig was made after the rows were read."""
    sig = await world.flows.issue.current(ALICE, world.clock())
    await world.flows.publisher.flush()
    world.clock.advance(70 * DAY)
    other, done = world.process(), []
    world.flows = world.process()

    async def revoke() -> None:
        world.plan.heal()
        # Long enough ago for the next sig to be made.
        await other.revoke.user(APP, "alice", world.clock() - pause)
        done.append(True)

    def between(name: str, when: str) -> Awaitable[object] | None:
        wanted = "before" if moment == "store.transaction" else "after"
        return revoke() if (name, when) == (moment, wanted) else None

    world.plan.fail = between
    with pytest.raises(errors.TicketRevoked):
        await opened(world, sig)
    assert done


async def test_a_rush_takes_a_few_reads_and_no_writes(world: World) -> None:
    users = [Holder(APP, f"user{n}") for n in range(RUSH)]
    sigs = [a for a in await world.flows.issue.many(users, world.clock()) if isinstance(a, Current)]
    await world.flows.publisher.flush()
    await world.flows.seen.flush(world.clock())
    world.clock.advance(2 * DAY)
    world.plan.calls.clear()
    reported = await asyncio.gather(*(opened(world, sig) for sig in sigs))
    assert reported == [[sig] for sig in sigs]
    made = calls(world)
    assert made["store.of_users"] <= 1 + RUSH // 500 + 1
    assert made["store.find"] == made["store.mark"] == made["store.transaction"] == 0
    assert made["signer.sign"] == 0, "what Redis holds of the same facts is not made again"
    assert await world.flows.seen.flush(world.clock()) == RUSH
    assert (await world.row(users[7])).seen_at == world.clock()


async def test_a_rush_of_whom_all_are_due_takes_a_few_transactions(world: World) -> None:
    users = [Holder(APP, f"user{n}") for n in range(RUSH)]
    sigs = [a for a in await world.flows.issue.many(users, world.clock()) if isinstance(a, Current)]
    await world.flows.publisher.flush()
    world.clock.advance(80 * DAY)
    world.flows = world.process(WaitLimits(60, 60))
    world.plan.calls.clear()
    reported = await asyncio.gather(*(opened(world, sig) for sig in sigs))
    assert all(new.issued_at == world.clock() for [new] in reported)
    assert [new.holder for [new] in reported] == users
    assert calls(world)["store.transaction"] <= 2 * (1 + RUSH // 500)
    await world.settle()
    await world.check()


async def test_what_redis_holds_of_other_facts_is_not_served(world: World) -> None:
    old = await world.flows.issue.current(ALICE, world.clock())
    await world.flows.publisher.flush()
    world.clock.advance(1)
    new = await world.flows.issue.reissue(ALICE, world.clock())  # untold
    world.flows = world.process()
    assert await world.cache.get([ALICE]) == [old]
    assert await opened(world, new) == [new]


async def test_one_who_cannot_be_served_holds_up_no_other_of_the_batch(world: World) -> None:
    sig = await world.flows.issue.current(ALICE, world.clock())
    stranger, late = Holder(OTHER, "bob"), Holder(APP, "carol")
    reported = await asyncio.gather(
        opened(world, sig),
        world.flows.deliver.opened(stranger, world.clock(), world.clock()),
        world.flows.deliver.opened(late, world.clock(), world.clock()),
        return_exceptions=True,
    )
    assert reported[0] == [sig]
    assert isinstance(reported[1], errors.AppUnknown)
    assert isinstance(reported[2], list), "a ticket without a row: after a restore, say"


async def test_who_was_dormant_is_woken_and_a_room_is_kept_alive(world: World) -> None:
    sig = await world.flows.issue.current(ALICE, world.clock())
    key = await room_key(world, 1)
    await world.flows.seen.flush(world.clock())
    async with world.store.transaction() as tx:
        [row] = await tx.lock([ALICE])
        await tx.save([(row._replace(due_at=None), row.issued_at)])
    world.clock.advance(3600)
    world.plan.calls.clear()
    assert await opened(world, sig) == [sig, key]
    assert calls(world)["store.transaction"] == 0
    await world.flows.seen.flush(world.clock())
    assert (await world.row()).due_at == sig.renew_at
    assert (await world.row(key.holder)).seen_at == world.clock()


async def test_where_signing_fails_the_old_sig_is_sent_while_it_is_valid(world: World) -> None:
    sig = await world.flows.issue.current(ALICE, world.clock())
    await world.flows.publisher.flush()
    world.clock.advance(80 * DAY)

    def no_new(name: str, moment: str) -> None:
        if name == "store.transaction.signing_states":
            raise errors.SigningFailed

    world.plan.fail = no_new
    world.plan.calls.clear()
    assert await opened(world, sig) == [sig]
    assert calls(world)["store.find"] == 0, "nothing was made, so no row is read again"


# -- a database that is away or hangs ----------------------------------------------------------


async def test_without_a_database_a_stream_opens_from_the_cache(world: World) -> None:
    sig = await world.flows.issue.current(ALICE, world.clock())
    await world.flows.publisher.flush()

    def away(name: str, moment: str) -> None:
        if name.startswith("store."):
            raise errors.StoreUnavailable

    world.plan.fail = away
    assert await opened(world, sig) == [sig]
    await world.redis.run(lambda client: client.flushall())
    with pytest.raises(errors.StoreUnavailable) as refused:
        await opened(world, sig)
    assert refused.value.retry_after == 1


@pytest.mark.parametrize("cached", [True, False])
@pytest.mark.parametrize("due", [True, False])
async def test_a_stream_opens_from_what_is_at_hand_whatever_call_hangs(
    cached: bool, due: bool, tmp_path: Path
) -> None:
    hung: list[str] = []
    for at in range(99):
        home = tmp_path / str(at)
        home.mkdir()
        async with open_world(home) as world:
            sig = await world.flows.issue.current(ALICE, world.clock())
            await world.flows.publisher.flush()
            world.clock.advance(80 * DAY if due else 60)
            if not cached:
                await world.redis.run(lambda client: client.flushall())
            world.flows = world.process(SHORT)
            hangs = Hangs(world, at)
            reported = await timed(opened(world, sig))
            if not hangs.name:
                assert (reported[0].issued_at > sig.issued_at) == due
                break
            hung.append(hangs.name)
            if isinstance(reported, errors.StoreUnavailable):
                assert reported.retry_after == 1
                assert not cached or hangs.name == "store.find", hangs.name
            else:
                assert reported == [sig]
            hangs.released.set()
            await comes_to_rest(world)
    assert hung[0] == "store.of_users"
    assert (len(hung) >= 6) == due


async def test_a_rush_while_it_hangs_is_answered_from_redis_by_few_calls(world: World) -> None:
    users = [Holder(APP, f"user{n}") for n in range(RUSH)]
    sigs = [a for a in await world.flows.issue.many(users, world.clock()) if isinstance(a, Current)]
    await world.flows.publisher.flush()
    world.flows = world.process(SHORT)
    world.plan.calls.clear()
    released = asyncio.Event()
    world.plan.fail = lambda name, moment: released.wait() if name.startswith("store.") else None
    for _ in range(3):
        reported = await timed(asyncio.gather(*(opened(world, sig) for sig in sigs)))
        assert reported == [[sig] for sig in sigs]
    made = calls(world)
    assert made["store.of_users"] <= 3, "those hang, and no other is sent after them"
    assert made["cache.get"] <= 3 * 6
    released.set()
    await comes_to_rest(world)


async def test_a_sig_that_was_replaced_after_a_taint_is_sent_with_its_reason(world: World) -> None:
    sig = await world.flows.issue.current(ALICE, world.clock())
    [old] = await world.catalog.list_keys(APP)
    await world.add_key(APP)
    await world.catalog.set_key_state(APP, old.key_id, KeyState.TAINTED, world.clock())
    await world.ring.refresh()
    world.clock.advance(5)
    [reported] = await opened(world, sig)
    assert reported.reason == Reason.KEY_TAINTED


async def test_a_room_key_that_is_revoked_on_its_way_is_left_out(world: World) -> None:
    """The user's own sig is later than the revocation."""
    key = await room_key(world, 1)
    world.clock.advance(60)
    sig = await world.flows.issue.current(ALICE, world.clock())
    assert await opened(world, sig) == [sig, key]

    def revoke(name: str, moment: str) -> None:
        if (name, moment) == ("store.of_users", "after"):
            until = sig.issued_at - 1
            world.revocations.learn([Revocation(APP, "alice", until, until + 90 * DAY)])

    world.plan.fail = revoke
    assert await opened(world, sig) == [sig]


async def test_what_is_revoked_while_the_cache_answers_is_not_sent(world: World) -> None:
    sig = await world.flows.issue.current(ALICE, world.clock())
    await world.flows.publisher.flush()

    def revoke(name: str, moment: str) -> None:
        if name == "store.of_users":
            raise errors.StoreUnavailable
        if (name, moment) == ("signer.key_state", "after"):
            world.revocations.learn([Revocation(APP, "alice", sig.issued_at, sig.expires_at)])

    world.plan.fail = revoke
    with pytest.raises(errors.TicketRevoked):
        await opened(world, sig)


async def test_the_rooms_are_part_of_the_state_unless_they_are_left_out(world: World) -> None:
    sig = await world.flows.issue.current(ALICE, world.clock())
    key = await room_key(world, 1)
    state = await world.flows.deliver.opened(ALICE, sig.issued_at, world.clock())
    assert state == [sig, key]
    world.clock.now = key.expires_at
    assert [one.holder for one in await opened(world, sig)] == [ALICE], "a room that has ended"


async def test_who_polls_without_a_row_gets_a_sig(world: World) -> None:
    stranger = Holder(APP, "stranger")
    [sig] = await world.flows.deliver.opened(stranger, NOW, NOW, rooms=False)
    assert (sig.holder, sig.issued_at) == (stranger, NOW)


async def test_a_sighting_is_written_at_once_where_any_row_needs_it(world: World) -> None:
    """The user was seen just now, and the room was not."""
    sig = await world.flows.issue.current(ALICE, world.clock())
    key = await room_key(world, 1)
    await opened(world, sig)
    await world.flows.seen.flush(world.clock())
    world.clock.advance(60)
    await opened(world, sig)
    assert await world.flows.seen.flush(world.clock()) == 0
    every = Policy().durations(key.expires_at - key.issued_at).mark_seen_every
    for age, written in ((every - 1, 0), (every, 1)):
        async with world.store.transaction() as tx:
            [row] = await tx.lock([key.holder])
            await tx.save([(row._replace(seen_at=world.clock() - age), row.issued_at)])
        await opened(world, sig)
        assert await world.flows.seen.flush(world.clock()) == written
    assert (await world.row(key.holder)).seen_at == world.clock()


async def test_a_wrong_claim_of_a_second_is_refused_with_the_store_at_hand(world: World) -> None:
    sig = await world.flows.issue.current(ALICE, world.clock())
    with pytest.raises(errors.NeverIssued):
        await world.flows.deliver.opened(ALICE, sig.issued_at, NOW, held=NOW + 999)


async def test_a_revocation_in_the_users_row_alone_ends_its_ticket(world: World) -> None:
    """A room's row, made by a process that was slower, may not have it."""
    sig = await world.flows.issue.current(ALICE, world.clock())
    await room_key(world, 1)
    world.clock.advance(60)
    async with world.store.transaction() as tx:
        [row] = await tx.lock([ALICE])
        await tx.save([(row._replace(revoked_at=sig.issued_at), row.issued_at)])
    await world.flows.issue.reissue(ALICE, world.clock())
    for rooms in (True, False):
        with pytest.raises(errors.TicketRevoked):
            await opened(world, sig, rooms=rooms)
