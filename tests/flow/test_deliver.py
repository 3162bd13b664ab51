"""What gateways ask and what clients confirm: nothing old for long, nothing revoked at all."""

from __future__ import annotations

import asyncio

import pytest

from sigmgr.model import errors
from sigmgr.model.holder import Holder
from sigmgr.model.revocation import Revocation
from sigmgr.model.sig import Current, KeyState
from sigmgr.ports import Answer
from tests.flow.world import ALICE, APP, DAY, World

BOB = Holder(APP, "bob")


@pytest.fixture
async def old(world: World) -> Current:
    """Alice's sig as the cache has it; the store has a newer one by now."""
    current = await world.flows.issue.current(ALICE, world.clock())
    await world.flows.publisher.flush()
    world.clock.advance(60)
    await world.flows.issue.reissue(ALICE, world.clock())
    return current


async def latest(world: World, *users: Holder) -> list[Answer | None]:
    return await world.flows.deliver.latest(users or [ALICE], world.clock())


async def is_newest(world: World, current: Answer | None) -> bool:
    return isinstance(current, Current) and current.issued_at == (await world.row()).issued_at


async def test_a_cached_sig_is_believed_until_its_renewal_time(world: World, old: Current) -> None:
    world.clock.now = old.renew_at - 1
    world.plan.calls.clear()
    assert await latest(world) == [old]
    assert not [name for name, _ in world.plan.calls if name.startswith("store")]
    world.clock.now = old.renew_at
    [found] = await latest(world)
    assert await is_newest(world, found)


async def test_a_cached_sig_of_a_dead_key_is_not_believed(world: World, old: Current) -> None:
    await world.catalog.set_key_state(APP, old.key_id, KeyState.TAINTED, world.clock())
    await world.add_key(APP)
    [found] = await latest(world)
    assert await is_newest(world, found)


async def test_without_news_of_revocations_the_store_is_asked(world: World, old: Current) -> None:
    world.clock.advance(2 * 3600)
    assert await latest(world) == [old]
    world.revocations._looked_at = float("-inf")
    [found] = await latest(world)
    assert await is_newest(world, found)


async def test_each_is_answered_in_its_place(world: World, old: Current) -> None:
    bob = await world.flows.issue.current(BOB, world.clock())
    stranger = Holder(APP, "stranger")
    assert await latest(world, stranger, BOB, ALICE) == [None, bob, old]
    assert await world.store.find([stranger]) == [None], "nothing is issued"


async def test_what_has_expired_or_was_revoked_is_none(world: World, old: Current) -> None:
    await world.flows.issue.current(BOB, world.clock())
    await world.flows.revoke.user(APP, "bob", world.clock())
    assert await latest(world, BOB) == [None]
    world.clock.now = (await world.row()).expires_at
    assert await latest(world) == [None]


async def test_what_is_revoked_while_it_is_looked_up_is_not_answered(world: World) -> None:
    current = await world.flows.issue.current(ALICE, world.clock())

    async def revoke() -> None:
        until = current.issued_at
        world.revocations.learn([Revocation(APP, "alice", until, until + 90 * DAY)])

    world.plan.fail = lambda name, moment: (
        revoke() if (name, moment) == ("store.find", "after") else None
    )
    assert await latest(world) == [None]


async def test_while_the_store_is_away_what_is_valid_is_answered(
    world: World, old: Current
) -> None:
    def no_store(name: str, moment: str) -> None:
        if name.startswith("store."):
            raise errors.StoreUnavailable

    world.clock.now = old.renew_at
    world.plan.fail = no_store
    alice, bob = await latest(world, ALICE, BOB)
    assert alice == old
    assert isinstance(bob, errors.StoreUnavailable), "nobody knows that there is none"
    await world.catalog.set_key_state(APP, old.key_id, KeyState.TAINTED, world.clock())
    await world.ring.refresh()
    assert isinstance((await latest(world))[0], errors.StoreUnavailable)


async def test_where_nothing_is_derived_the_cached_sig_of_the_same_facts_is_answered(
    world: World, old: Current
) -> None:
    def no_signing(name: str, moment: str) -> None:
        if name == "signer.sign":
            raise errors.SigningFailed

    async def fails(batch: list[object]) -> list[object]:
        return [errors.SigningFailed() for _ in batch]

    world.clock.now = old.renew_at
    world.ring.sign = fails  # type: ignore[method-assign, assignment]
    [answer] = await latest(world)
    assert isinstance(answer, errors.SigningFailed), "the store has a newer one"
    row = await world.row()
    async with world.store.transaction() as tx:
        await tx.lock([ALICE])
        same = {"issued_at": old.issued_at, "expires_at": old.expires_at}
        await tx.save([(row._replace(**same), row.issued_at)])  # type: ignore[arg-type]
    assert await latest(world) == [old]


async def test_a_sig_of_a_revoked_key_is_none_though_its_string_fails(
    world: World, old: Current
) -> None:
    world.clock.now = old.renew_at
    await world.catalog.set_key_state(APP, old.key_id, KeyState.TAINTED, world.clock())
    await world.catalog.set_key_state(APP, old.key_id, KeyState.REVOKED, world.clock())
    await world.ring.refresh()

    async def fails(batch: list[object]) -> list[object]:
        return [errors.SigningFailed() for _ in batch]

    world.ring.sign = fails  # type: ignore[method-assign, assignment]
    assert await latest(world) == [None]


@pytest.mark.parametrize("in_company", [False, True])
async def test_an_ack_that_is_refused_writes_nothing(world: World, in_company: bool) -> None:
    """Of a ticket from before the revocation, which another process wrote, and of a second
    that never was."""
    revoked = await world.flows.issue.current(ALICE, world.clock())
    good = await world.flows.issue.current(BOB, world.clock())
    await world.flows.revoke.user(APP, "alice", world.clock())
    world.clock.advance(60)
    again = await world.flows.issue.current(ALICE, world.clock())
    await world.flows.publisher.flush()
    world.flows = world.process()
    before = await world.row()
    acks = [
        world.flows.deliver.ack(ALICE, revoked.issued_at, claim, world.clock())
        for claim in (revoked.issued_at, again.issued_at)
    ]
    acks.append(
        world.flows.deliver.ack(ALICE, again.issued_at, again.issued_at + 99, world.clock())
    )
    if in_company:
        acks.append(world.flows.deliver.ack(BOB, good.issued_at, good.issued_at, world.clock()))
        answer = await asyncio.gather(*acks, return_exceptions=True)
    else:
        answer = [(await asyncio.gather(ack, return_exceptions=True))[0] for ack in acks]
    assert [type(one) for one in answer[:3]] == [
        errors.TicketRevoked, errors.TicketRevoked, errors.NeverIssued,
    ]  # fmt: skip
    assert await world.row() == before
    assert (await world.row(BOB)).acked == (good.issued_at if in_company else 0)
    assert (await world.outbox.depth(world.clock()))[0] == in_company


async def test_who_has_a_stream_open_is_seen(world: World) -> None:
    await world.flows.issue.current(ALICE, world.clock())
    world.clock.advance(DAY)
    await world.flows.deliver.mark_seen([ALICE], world.clock())
    assert (await world.row()).seen_at == world.clock()

    def no_store(name: str, moment: str) -> None:
        raise errors.StoreUnavailable

    world.plan.fail = no_store
    await world.flows.deliver.mark_seen([ALICE], world.clock.advance(DAY))
