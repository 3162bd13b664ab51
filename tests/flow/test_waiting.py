"""Gets from a store that hangs: as harmless as a dead one, whichever call never answers."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from sigmgr.flow.limits import WaitLimits
from sigmgr.model import errors
from sigmgr.model.holder import Holder
from sigmgr.model.sig import Current
from tests.flow.waiting_kit import SHORT, Hangs, comes_to_rest, timed
from tests.flow.world import ALICE, APP, DAY, World, open_world


async def _due(world: World, *, cached: bool) -> Current:
    """Alice's sig, which a request must renew, and whether Redis still has it."""
    sig = await world.flows.issue.current(ALICE, world.clock())
    await world.flows.publisher.flush()
    world.clock.now = sig.expires_at - DAY + 3600
    if not cached:
        await world.redis.run(lambda client: client.flushall())
    return sig


@pytest.mark.parametrize("cached", [True, False])
async def test_whoever_has_a_valid_sig_gets_it_whatever_call_hangs(
    cached: bool, tmp_path: Path
) -> None:
    hung: list[str] = []
    for at in range(99):
        home = tmp_path / str(at)
        home.mkdir()
        async with open_world(home) as world:
            old = await _due(world, cached=cached)
            world.flows = world.process(SHORT)
            hangs = Hangs(world, at)
            answer = await timed(world.flows.issue.current(ALICE, world.clock()))
            if not hangs.name:
                assert answer.issued_at > old.issued_at
                break
            hung.append(hangs.name)
            if hangs.name == "store.find" and not cached:
                assert isinstance(answer, errors.StoreUnavailable), "nothing is at hand"
                assert answer.retry_after == 1
            else:
                assert answer == old
            hangs.released.set()
            await comes_to_rest(world)
    assert hung[0] == "store.find"
    assert hung[-1].endswith("commit")
    assert len(hung) >= 6


async def test_who_has_no_sig_yet_gets_503_in_time_and_has_one_afterwards(tmp_path: Path) -> None:
    bob, hung = Holder(APP, "bob"), 0
    for at in range(99):
        home = tmp_path / str(at)
        home.mkdir()
        async with open_world(home) as world:
            world.flows = world.process(SHORT)
            hangs = Hangs(world, at)
            answer = await timed(world.flows.issue.current(bob, world.clock()))
            if not hangs.name:
                break
            hung += 1
            assert isinstance(answer, errors.StoreUnavailable)
            assert answer.retry_after == 1
            hangs.released.set()
            await comes_to_rest(world)
            assert isinstance(await world.flows.issue.current(bob, world.clock()), Current)
            assert world.invariants.made == 1, "what was left to itself was not done twice"
    assert hung >= 6


async def test_a_batch_answers_item_by_item(world: World) -> None:
    known = [Holder(APP, f"known{n}") for n in range(20)]
    fresh = [Holder(APP, f"new{n}") for n in range(20)]
    sigs = await world.flows.issue.many(known, world.clock())
    await world.flows.publisher.flush()
    world.clock.now += 90 * DAY - 3600
    world.flows = world.process(SHORT)
    hangs = Hangs(world, 0)
    answers = await timed(world.flows.issue.many([*known, *fresh], world.clock()))
    assert answers[:20] == sigs
    assert {type(answer) for answer in answers[20:]} == {errors.StoreUnavailable}
    hangs.released.set()
    await comes_to_rest(world)


async def test_many_who_ask_while_it_hangs_wait_once_and_send_few_calls(world: World) -> None:
    world.flows = world.process(SHORT)
    world.plan.calls.clear()
    released = asyncio.Event()
    world.plan.fail = lambda name, moment: released.wait() if name == "store.find" else None
    await asyncio.gather(
        *(timed(world.flows.issue.current(Holder(APP, f"u{n}"), world.clock())) for n in range(8))
    )
    began, calls = time.monotonic(), len(world.plan.calls)
    for n in range(300):
        answer = await timed(world.flows.issue.current(Holder(APP, f"v{n}"), world.clock()))
        assert isinstance(answer, errors.StoreUnavailable)
    assert time.monotonic() - began < 10, "at once, not after a wait each"
    assert not any(name.startswith("store") for name, _ in world.plan.calls[calls:])
    released.set()
    await comes_to_rest(world)
    assert isinstance(await world.flows.issue.current(ALICE, world.clock()), Current)


# -- rows that another transaction holds -------------------------------------------------------


async def test_a_row_that_others_hold_is_served_from_its_valid_sig_at_once(
    held: tuple[World, set[Holder]],
) -> None:
    world, rows = held
    old = await world.flows.issue.current(ALICE, world.clock())
    await world.flows.publisher.flush()
    world.clock.now = old.renew_at + 10
    await world.redis.run(lambda client: client.flushall())
    rows.add(ALICE)
    world.flows = world.process(WaitLimits(60, 60))
    # Not even the limit: far more than a day is left.
    assert await timed(world.flows.issue.current(ALICE, world.clock())) == old
    rows.clear()
    await world.redis.run(lambda client: client.flushall())
    assert (await world.flows.issue.current(ALICE, world.clock())).issued_at > old.issued_at


async def test_rows_that_others_hold_hold_up_no_other_of_a_batch(
    held: tuple[World, set[Holder]],
) -> None:
    world, rows = held
    users = [Holder(APP, f"u{n}") for n in range(10)]
    rows.update(users[::2])
    world.flows = world.process(SHORT)
    answers = await timed(world.flows.issue.many(users, world.clock()))
    assert [isinstance(answer, Current) for answer in answers] == [False, True] * 5
    assert {type(answer) for answer in answers[::2]} == {errors.StoreUnavailable}
    rows.clear()
    assert all(isinstance(a, Current) for a in await world.flows.issue.many(users, world.clock()))


async def test_who_needs_a_row_that_others_hold_has_it_as_soon_as_they_let_go(
    held: tuple[World, set[Holder]],
) -> None:
    world, rows = held
    rows.add(ALICE)
    world.flows = world.process(WaitLimits(30, 30))
    asked = asyncio.create_task(world.flows.issue.current(ALICE, world.clock()))
    await asyncio.sleep(0.05)
    assert not asked.done()
    rows.clear()
    assert isinstance(await timed(asked), Current)


async def test_a_slow_store_and_a_held_row_together_keep_nobody_longer_than_the_limit(
    held: tuple[World, set[Holder]],
) -> None:
    world, rows = held
    rows.add(ALICE)
    world.flows = world.process(WaitLimits(0.3, 0.6))
    world.plan.fail = lambda name, moment: (
        asyncio.sleep(0.25) if (name, moment) == ("store.transaction", "before") else None
    )
    began = time.monotonic()
    answer = await timed(world.flows.issue.current(ALICE, world.clock()))
    assert isinstance(answer, errors.StoreUnavailable)
    assert time.monotonic() - began < 1.2
    rows.clear()
    await comes_to_rest(world)
