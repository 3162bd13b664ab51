"""A connection lost before the commit or in it: the flow runs once more, nobody notices."""

from __future__ import annotations

from pathlib import Path

import pytest

from sigmgr.model import errors
from sigmgr.model.sig import past_of
from tests.flow.test_faults import CASES, _before
from tests.flow.world import ALICE, DAY, World, open_world


async def _warn(world: World) -> None:
    assert await world.flows.warn.tick(world.clock.advance(19 * DAY)) > 0


#: Those that commit; a sweep deletes what was announced, and opening marks by a call of its own.
COMMITTING = {**CASES, "warn": _warn}
del COMMITTING["sweep"], COMMITTING["open"]


def lose(world: World, at: int, times: int, *, transaction: int = 1) -> None:
    """The transaction of this number breaks at its ``at``-th step, and so do those after it:
    so many times in a row."""
    opened = steps = 0
    left = times

    def fail(name: str, moment: str) -> None:
        nonlocal opened, steps, left
        if not name.startswith("store.transaction") or moment != "before":
            return
        if name == "store.transaction":
            opened, steps = opened + 1, 0
        steps += 1
        if opened >= transaction and steps == at and left:
            left -= 1
            raise errors.ConnectionLost

    world.plan.fail = fail


async def _transactions(world: World, case: str) -> list[int]:
    """How many steps each transaction of the case takes."""
    await COMMITTING[case](world)
    steps: list[int] = []
    for name, moment in world.plan.calls:
        if moment == "before" and name == "store.transaction":
            steps.append(1)
        elif moment == "before" and name.startswith("store.transaction"):
            steps[-1] += 1
    return steps


@pytest.mark.parametrize("case", sorted(COMMITTING))
async def test_a_lost_connection_is_not_noticed(case: str, tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        await _before(world, "tick" if case == "warn" else case)
        transactions = await _transactions(world, case)
    # An ack of a sig that is not the row's: tried, judged under the lock, a newer sig made.
    assert len(transactions) == (3 if case == "lost" else 1)
    assert max(transactions) >= 3
    places = [(n, at) for n, steps in enumerate(transactions, 1) for at in range(1, steps + 1)]
    for transaction, at in places:
        home = tmp_path / f"{transaction}-{at}"
        home.mkdir()
        async with open_world(home) as world:
            await _before(world, "tick" if case == "warn" else case)
            lose(world, at, times=1, transaction=transaction)
            await COMMITTING[case](world)
            names = [name for name, moment in world.plan.calls if moment == "before"]
            again = names.count("store.transaction") - len(transactions)
            # Who tries and judges does both once more.
            assert again == (2 if case == "lost" and transaction == 2 else 1), (transaction, at)
            await world.settle()
            assert world.invariants.violations == []
            await world.check()


async def test_one_that_goes_on_being_lost_is_reported(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        await _before(world, "reissue")
        lose(world, at=2, times=2)
        with pytest.raises(errors.ConnectionLost):
            await CASES["reissue"](world)


async def test_a_tick_counts_what_was_committed_once(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        await _before(world, "tick")
        lose(world, at=4, times=1)
        tally = await world.flows.renew.tick(world.clock())
        assert (tally.renewed, tally.total, tally.problems) == (4, 4, [])


def lose_the_answer(world: World, *, done: bool) -> None:
    """The first commit's answer is lost; whether it was done, nobody can tell from that."""
    left = 1

    def fail(name: str, moment: str) -> None:
        nonlocal left
        if (
            name == "store.transaction.commit"
            and moment == ("after" if done else "before")
            and left
        ):
            left = 0
            raise errors.CommitUnknown

    world.plan.fail = fail


@pytest.mark.parametrize("done", [True, False])
@pytest.mark.parametrize("case", sorted(COMMITTING))
async def test_a_commit_whose_answer_is_lost_is_not_noticed(
    case: str, done: bool, tmp_path: Path
) -> None:
    async with open_world(tmp_path) as world:
        await _before(world, "tick" if case == "warn" else case)
        lose_the_answer(world, done=done)
        if case == "warn" and done:
            # The first time fired them all.
            assert await world.flows.warn.tick(world.clock.advance(19 * DAY)) == 0
        else:
            await COMMITTING[case](world)
        await world.settle()
        assert world.invariants.violations == []
        await world.check()


@pytest.mark.parametrize("done", [True, False])
@pytest.mark.parametrize("named", [True, False])
async def test_a_reissue_is_done_once(done: bool, named: bool, tmp_path: Path) -> None:
    """Seconds later too, and where it names what it replaces: its own sig is not another's."""
    async with open_world(tmp_path) as world:
        await _before(world, "reissue")
        before = await world.row()
        lose_the_answer(world, done=done)
        made = await world.flows.issue.reissue(
            ALICE, world.clock(), replaces=before.issued_at if named else None
        )
        after = await world.row()
        assert (after.issued_at, after.expires_at) == (made.issued_at, made.expires_at)
        assert [past.issued_at for past in past_of(after)] == [before.issued_at]
        await world.settle()
        await world.check()
