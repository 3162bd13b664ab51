"""A database set back to an earlier moment: clients that hold what it lost get newer sigs."""

from __future__ import annotations

import asyncio

import pytest
import structlog

from sigmgr.flow.restored import lost_second
from sigmgr.model import errors
from sigmgr.model.holder import Holder
from sigmgr.model.sig import Current, Record
from sigmgr.telemetry import RESTORED
from tests.flow.waiting_kit import Held
from tests.flow.world import ALICE, APP, NOW, World

BOB = Holder(APP, "bob")


async def issued(world: World, user: Holder = ALICE) -> Current:
    world.clock.advance(10)
    return await world.flows.issue.reissue(user, world.clock())


async def set_back(world: World, *rows: Record) -> None:
    """As a restore of a backup does it: the rows as they were, and nothing in Redis."""
    async with world.store.transaction() as tx:
        now = await tx.lock([row.holder for row in rows])
        await tx.save([(old, new.issued_at) for old, new in zip(rows, now, strict=True)])
    await world.redis.run(lambda client: client.flushdb())
    world.flows = world.process()


async def lost(world: World, user: Holder = ALICE) -> tuple[Current, Current]:
    """A sig that the database has, and a newer one that it has lost."""
    kept = await issued(world, user)
    row = await world.row(user)
    gone = await issued(world, user)
    world.clock.advance(60)
    await set_back(world, row)
    assert (await world.row(user)).issued_at == kept.issued_at
    return kept, gone


def counted() -> float:
    return RESTORED._value.get()


async def test_an_ack_of_a_lost_sig_is_taken_and_leads_to_a_newer_one(world: World) -> None:
    _, gone = await lost(world)
    before = counted()
    with structlog.testing.capture_logs() as logs:
        await world.flows.deliver.ack(ALICE, gone.issued_at, gone.issued_at, world.clock())
    row = await world.row()
    assert row.issued_at > gone.issued_at
    assert row.reason == "Forced"
    assert counted() == before + 1
    assert [line["clients"] for line in logs if line.get("action") == "restored"] == [1]
    # It is published like any other, so that streams bring it.
    await world.flows.publisher.flush()
    [found] = await world.cache.get([ALICE])
    assert found is not None
    assert found.issued_at == row.issued_at
    await world.flows.deliver.ack(ALICE, row.issued_at, row.issued_at, world.clock())
    assert (await world.row()).acked == row.issued_at


async def test_a_stream_of_a_lost_sig_opens_with_a_newer_one(world: World) -> None:
    _, gone = await lost(world)
    [current] = await world.flows.deliver.opened(
        ALICE, gone.issued_at, world.clock(), held=gone.issued_at
    )
    assert current.issued_at > gone.issued_at
    assert (await world.row()).issued_at == current.issued_at


async def test_a_ticket_later_than_the_row_proves_it_without_a_claim(world: World) -> None:
    """A client that was just started claims nothing, and holds what its backend gave it."""
    kept, gone = await lost(world)
    [current] = await world.flows.deliver.opened(ALICE, gone.issued_at, world.clock())
    assert current.issued_at > gone.issued_at
    world.clock.advance(60)
    [again] = await world.flows.deliver.opened(
        ALICE, gone.issued_at, world.clock(), held=kept.issued_at
    )
    assert again.issued_at == current.issued_at, "once"


async def test_the_new_sig_is_later_even_if_the_lost_one_is_of_this_very_second(world) -> None:
    _, gone = await lost(world)
    world.clock.now = gone.issued_at
    [current] = await world.flows.deliver.opened(
        ALICE, gone.issued_at, world.clock(), held=gone.issued_at
    )
    assert current.issued_at == gone.issued_at + 1


async def test_all_devices_of_a_user_are_considered_and_one_sig_is_made(world: World) -> None:
    """With the ticket of the lost sig, and with an older one that proves nothing."""
    kept, gone = await lost(world)
    for ticket in (gone, kept):
        await asyncio.gather(
            *(
                world.flows.deliver.ack(ALICE, ticket.issued_at, gone.issued_at, world.clock())
                for _ in range(5)
            )
        )
        state = await world.flows.deliver.opened(
            ALICE, ticket.issued_at, world.clock(), held=gone.issued_at
        )
        assert state[0].issued_at > gone.issued_at
    row = await world.row()
    assert row.past.count("[") - 1 == 1


async def test_many_users_of_one_moment_are_mended_together(world: World) -> None:
    users = [Holder(APP, f"user-{n}") for n in range(30)]
    rows, gone = [], []
    for user in users:
        await issued(world, user)
        rows.append(await world.row(user))
        gone.append(await issued(world, user))
    await set_back(world, *rows)
    world.clock.advance(60)
    with structlog.testing.capture_logs() as logs:
        await asyncio.gather(
            *(
                world.flows.deliver.ack(one.holder, one.issued_at, one.issued_at, world.clock())
                for one in gone
            )
        )
    for one in gone:
        assert (await world.row(one.holder)).issued_at > one.issued_at
    assert len([line for line in logs if line.get("action") == "restored"]) == 1


@pytest.mark.parametrize("claim", [NOW - 35, NOW + 3600])
async def test_what_was_never_issued_is_a_conflict(world: World, claim: int) -> None:
    world.clock.advance(-100)
    for _ in range(3):
        world.clock.advance(20)
        current = await issued(world)
    row = await world.row()
    assert row.issued_at == NOW - 10
    with pytest.raises(errors.NeverIssued) as caught:
        await world.flows.deliver.ack(ALICE, current.issued_at, claim, world.clock())
    assert str(claim) in caught.value.text
    with pytest.raises(errors.NeverIssued):
        await world.flows.deliver.opened(ALICE, current.issued_at, world.clock(), held=claim)
    assert await world.row() == row._replace(seen_at=(await world.row()).seen_at)


async def test_one_who_makes_a_second_up_holds_up_nobody_else(world: World) -> None:
    mine, other = await issued(world), await issued(world, BOB)
    wrong = world.flows.deliver.ack(ALICE, mine.issued_at, NOW + 3600, world.clock())
    right = world.flows.deliver.ack(BOB, other.issued_at, other.issued_at, world.clock())
    outcomes = await asyncio.gather(wrong, right, return_exceptions=True)
    assert isinstance(outcomes[0], errors.NeverIssued)
    assert outcomes[1] is None
    assert (await world.row(BOB)).acked == other.issued_at


async def test_where_no_sig_can_be_made_the_stream_opens_and_the_ack_waits(world: World) -> None:
    kept, gone = await lost(world)

    def no_signing(name: str, moment: str) -> None:
        if name == "signer.active_key":
            raise errors.NoSigningKey

    world.plan.fail = no_signing
    with pytest.raises(errors.NoSigningKey):
        await world.flows.deliver.ack(ALICE, gone.issued_at, gone.issued_at, world.clock())
    [current] = await world.flows.deliver.opened(
        ALICE, gone.issued_at, world.clock(), held=gone.issued_at
    )
    assert current.issued_at == kept.issued_at
    world.plan.heal()
    await world.flows.deliver.ack(ALICE, gone.issued_at, gone.issued_at, world.clock())
    assert (await world.row()).issued_at > gone.issued_at


async def test_a_revoked_ticket_proves_nothing(world: World) -> None:
    _, gone = await lost(world)
    await world.flows.revoke.user(APP, ALICE.userid, world.clock())
    with pytest.raises(errors.TicketRevoked):
        await world.flows.deliver.ack(ALICE, gone.issued_at, gone.issued_at, world.clock())
    with pytest.raises(errors.TicketRevoked):
        await world.flows.deliver.opened(ALICE, gone.issued_at, world.clock(), held=gone.issued_at)


async def test_whose_sig_is_replaced_counts_as_seen(world: World) -> None:
    _, gone = await lost(world)
    await world.flows.deliver.ack(ALICE, gone.issued_at, gone.issued_at, world.clock())
    assert (await world.row()).seen_at == world.clock()


async def test_of_several_lost_sigs_the_newest_counts(world: World) -> None:
    """Two devices with tickets of their own: the new sig is later than both of theirs."""
    _, gone = await lost(world)
    restored = world.flows.deliver.openings.restored
    later = world.clock() + 3
    made = await asyncio.gather(
        *(restored.newer_than(ALICE, at, world.clock()) for at in (later, gone.issued_at))
    )
    assert [one.issued_at for one in made] == [later + 1] * 2


async def test_what_is_newer_already_is_answered_and_not_made_again(world: World) -> None:
    _, gone = await lost(world)
    restored = world.flows.deliver.openings.restored
    current = await restored.newer_than(ALICE, gone.issued_at, world.clock())
    world.clock.advance(60)
    assert await restored.newer_than(ALICE, gone.issued_at, world.clock()) == current
    again = await restored.newer_than(ALICE, current.issued_at, world.clock())
    assert again.issued_at > current.issued_at, "the very second is not newer"


async def test_one_that_cannot_be_replaced_stops_no_other(world: World) -> None:
    """Its row is held, its app is gone, or a revocation has just ended it."""
    held, ended, fine = (Holder(APP, name) for name in ("held", "ended", "fine"))
    for user in (held, ended, fine):
        await issued(world, user)
    world.clock.advance(60)
    await world.flows.revoke.user(APP, "ended", world.clock())
    world.invariants._store = Held(world.invariants._store, {held})
    restored = world.flows.deliver.openings.restored
    answers = await asyncio.gather(
        *(
            restored.newer_than(user, world.clock() + 1, world.clock())
            for user in (held, ended, Holder(77, "alice"), fine)
        ),
        return_exceptions=True,
    )
    assert [type(one) for one in answers] == [
        errors.StoreUnavailable, errors.RevokePause, errors.AppUnknown, Current,
    ]  # fmt: skip
    assert answers[0].text == "another transaction holds this user's row"
    assert answers[0].retry_after == 1
    assert answers[1].retry_after == 2


async def test_it_is_reported_once_a_minute_with_all_that_came_since(world: World) -> None:
    _, gone = await lost(world)
    restored = world.flows.deliver.openings.restored
    before = counted()
    with structlog.testing.capture_logs() as logs:
        for wait in (0, 10, 10, 60):
            world.clock.advance(wait)
            await restored.newer_than(ALICE, gone.issued_at, world.clock())
    assert [line["clients"] for line in logs if line["action"] == "restored"] == [1, 3]
    assert counted() == before + 4


async def test_what_is_lost_is_the_newest_second_that_is_claimed_or_proved(world: World) -> None:
    kept = await issued(world)
    row, now = await world.row(), world.clock.advance(60)
    at = kept.issued_at
    for held, ticket, expected in (
        (0, at, 0), (at, at, 0), (at + 5, at, at + 5), (0, at + 7, at + 7),
        (at + 5, at + 7, at + 7), (at + 7, at + 5, at + 7),
    ):  # fmt: skip
        assert lost_second([row], ALICE, held, ticket, now) == expected
        assert lost_second([row], BOB, held, ticket, now) == 0, "no row, no proof"
