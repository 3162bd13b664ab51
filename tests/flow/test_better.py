"""Better sigs within the limits: who waits how long, and what is said to whom there is none for."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from sigmgr.flow.limits import WaitLimits
from sigmgr.model import errors
from sigmgr.model.holder import Holder
from sigmgr.model.policy import Policy
from sigmgr.model.sig import Current, SigFacts
from sigmgr.ports import Answer
from tests.flow.waiting_kit import SHORT, comes_to_rest, timed
from tests.flow.world import ALICE, APP, World

BOB, CAROL = Holder(APP, "bob"), Holder(APP, "carol")


async def ends_soon(world: World) -> Current:
    """Alice's sig, so near its end that a better one is waited for."""
    sig = await world.flows.issue.current(ALICE, world.clock())
    await world.flows.publisher.flush()
    world.clock.now = sig.expires_at - 3600
    return sig


async def better(world: World, *users: Holder) -> list[Answer]:
    """What they get, by the rows as they are now."""
    old = [row for row in await world.store.find(users) if row is not None]
    app = await world.apps.app(APP)
    answers = await world.flows.issue.better.than(old, dict.fromkeys(users, app), world.clock())
    return [answers[user] for user in users]


async def test_who_has_nothing_learns_that_the_row_is_held(
    held: tuple[World, set[Holder]],
) -> None:
    world, rows = held
    rows.add(BOB)
    world.flows = world.process(SHORT)
    bob, carol = await timed(world.flows.issue.many([BOB, CAROL], world.clock()))
    assert isinstance(bob, errors.StoreUnavailable)
    assert (bob.text, bob.retry_after) == ("another transaction holds this user's row", 1)
    assert isinstance(carol, Current), "in the same batch, and free"


async def test_who_has_nothing_learns_that_the_database_hangs(world: World) -> None:
    world.flows = world.process(SHORT)
    released = asyncio.Event()
    world.plan.fail = lambda name, moment: released.wait() if name == "store.transaction" else None
    [bob] = await timed(world.flows.issue.many([BOB], world.clock()))
    assert isinstance(bob, errors.StoreUnavailable)
    assert "did not answer" in bob.text
    assert bob.retry_after == 1
    released.set()
    await comes_to_rest(world)


async def test_who_has_a_valid_sig_waits_for_a_better_one_only_a_moment(
    held: tuple[World, set[Holder]],
) -> None:
    world, rows = held
    sig = await ends_soon(world)
    rows.add(ALICE)
    world.flows = world.process(WaitLimits(0.02, 60))
    assert await timed(better(world, ALICE)) == [sig]


async def test_one_in_the_batch_who_has_nothing_is_waited_for(
    held: tuple[World, set[Holder]],
) -> None:
    world, rows = held
    sig = await ends_soon(world)
    rows |= {ALICE, BOB}
    world.flows = world.process(WaitLimits(0.02, 60))
    asked = asyncio.create_task(better(world, ALICE, BOB))
    await asyncio.sleep(0.1)
    assert not asked.done()
    rows.discard(BOB)
    await asyncio.sleep(0.1)
    assert not asked.done(), "a better one is waited for, too"
    rows.clear()
    alice, bob = await timed(asked)
    assert isinstance(bob, Current)
    assert isinstance(alice, Current)
    assert alice.issued_at > sig.issued_at


async def test_a_better_sig_is_taken_as_soon_as_the_row_is_free(
    held: tuple[World, set[Holder]],
) -> None:
    world, rows = held
    sig = await ends_soon(world)
    rows.add(ALICE)
    world.flows = world.process(WaitLimits(60, 60))
    asked = asyncio.create_task(world.flows.issue.current(ALICE, world.clock()))
    await asyncio.sleep(0.05)
    assert not asked.done(), "too little is left of the old one"
    rows.clear()
    assert (await timed(asked)).issued_at > sig.issued_at


async def test_a_fault_that_nobody_foresaw_is_no_answer(world: World) -> None:
    real = world.ring.sign

    async def sign(batch: Sequence[SigFacts]) -> list[str | errors.SigmgrError]:
        if any(facts.holder == BOB for facts in batch):
            raise ZeroDivisionError
        return await real(batch)

    world.ring.sign = sign  # type: ignore[method-assign]
    with pytest.raises(ZeroDivisionError):
        await world.flows.issue.current(BOB, world.clock())
    assert isinstance(await world.flows.issue.current(CAROL, world.clock()), Current)


async def test_who_is_refused_is_not_made_and_holds_up_nobody(world: World) -> None:
    await world.flows.issue.current(ALICE, world.clock())
    await world.catalog.set_app(APP, policy=lambda _: Policy(max_holders=2))
    await world.apps.refresh()
    await world.flows.newcomers.measure(world.clock())
    await world.redis.run(lambda client: client.flushall())
    world.clock.advance(80 * 86400)
    answers = await world.flows.issue.many([ALICE, BOB, CAROL], world.clock())
    assert [type(answer) for answer in answers] == [Current, Current, errors.MaxHolders]
    assert await world.store.find([CAROL]) == [None]
    world.plan.calls.clear()
    [carol] = await world.flows.issue.many([CAROL], world.clock())
    assert isinstance(carol, errors.MaxHolders)
    assert ("store.transaction", "before") not in world.plan.calls
