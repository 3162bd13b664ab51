"""A store that hangs is as harmless as a dead one: every call in turn never answers.

The clock of these tests is the real one: the limits are a tenth of the usual ones, and who
asks must have an answer within ten times of them, which is still far from for ever.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from sigmgr.flow.limits import Limits
from sigmgr.model import errors
from sigmgr.model.holder import Holder
from sigmgr.model.sig import Current, Record
from tests.flow.world import ALICE, APP, DAY, World, open_world

SHORT = Limits(0.07, 0.15)
SLACK = 10 * SHORT.answer


class Hangs:
    """A plan for a world: the call number ``at`` of those that match never answers, until
    ``released``."""

    def __init__(self, world: World, at: int) -> None:
        self._world = world
        self._at = at
        self._seen = -1
        self.name = ""
        self.released = asyncio.Event()
        world.plan.fail = self

    def __call__(self, name: str, moment: str) -> Awaitable[object] | None:
        if not name.startswith("store.") or moment == "after":
            return None
        self._seen += 1
        if self._seen != self._at:
            return None
        self.name = name
        return self.released.wait()


async def timed(work: Awaitable[Any]) -> Any:
    """Its answer, or the error that it raised; never late."""
    began = time.monotonic()
    try:
        return await asyncio.wait_for(work, 60)
    except errors.SigmgrError as error:
        return error
    finally:
        assert time.monotonic() - began < SLACK


async def _due(world: World, *, cached: bool) -> Current:
    """Alice's sig, which a request must renew, and whether Redis still has it."""
    sig = await world.flows.issue.current(ALICE, world.clock())
    await world.flows.teller.flush()
    world.clock.now = sig.expires_at - DAY + 3600
    if not cached:
        await world.cache.drop([ALICE])
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
            await _comes_to_rest(world)
    assert hung[0] == "store.find"
    assert hung[-1].endswith("commit")
    assert len(hung) >= 6


async def test_who_has_no_sig_yet_hears_503_in_time_and_has_one_afterwards(tmp_path: Path) -> None:
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
            await _comes_to_rest(world)
            assert isinstance(await world.flows.issue.current(bob, world.clock()), Current)
            assert world.witness.made == 1, "what was left to itself was not done twice"
    assert hung >= 6


async def test_a_batch_answers_item_by_item(world: World) -> None:
    known = [Holder(APP, f"known{n}") for n in range(20)]
    fresh = [Holder(APP, f"new{n}") for n in range(20)]
    sigs = await world.flows.issue.many(known, world.clock())
    await world.flows.teller.flush()
    world.clock.now += 90 * DAY - 3600
    world.flows = world.process(SHORT)
    hangs = Hangs(world, 0)
    answers = await timed(world.flows.issue.many([*known, *fresh], world.clock()))
    assert answers[:20] == sigs
    assert {type(answer) for answer in answers[20:]} == {errors.StoreUnavailable}
    hangs.released.set()
    await _comes_to_rest(world)


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
    await _comes_to_rest(world)
    assert isinstance(await world.flows.issue.current(ALICE, world.clock()), Current)


# -- rows that another transaction holds -------------------------------------------------------


class Held:
    """A store of which another transaction holds some rows, as PostgreSQL's would."""

    def __init__(self, store: Any, rows: set[Holder]) -> None:
        self._store = store
        self._rows = rows

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Any]:
        async with self._store.transaction() as tx:
            yield _HeldRows(tx, self._rows)


class _HeldRows:
    def __init__(self, tx: Any, rows: set[Holder]) -> None:
        self._tx = tx
        self._rows = rows

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tx, name)

    async def try_lock(self, holders: Sequence[Holder]) -> list[Record | None]:
        rows = await self._tx.try_lock([h for h in holders if h not in self._rows])
        free = iter(rows)
        return [None if holder in self._rows else next(free) for holder in holders]


@pytest.fixture
async def held(tmp_path: Path) -> AsyncIterator[tuple[World, set[Holder]]]:
    """A world, and the rows of it that somebody holds."""
    rows: set[Holder] = set()
    async with open_world(tmp_path) as world:
        world.witness._store = Held(world.witness._store, rows)
        yield world, rows


async def test_a_row_that_others_hold_is_served_from_its_valid_sig_at_once(
    held: tuple[World, set[Holder]],
) -> None:
    world, rows = held
    old = await world.flows.issue.current(ALICE, world.clock())
    await world.flows.teller.flush()
    world.clock.now = old.renew_at + 10
    await world.cache.drop([ALICE])
    rows.add(ALICE)
    world.flows = world.process(Limits(60, 60))
    # Not even the limit: far more than a day is left.
    assert await timed(world.flows.issue.current(ALICE, world.clock())) == old
    rows.clear()
    await world.cache.drop([ALICE])
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
    world.flows = world.process(Limits(30, 30))
    asked = asyncio.create_task(world.flows.issue.current(ALICE, world.clock()))
    await asyncio.sleep(0.05)
    assert not asked.done()
    rows.clear()
    assert isinstance(await timed(asked), Current)


async def _comes_to_rest(world: World) -> None:
    """What hung goes on and ends; then every rule holds."""
    world.plan.heal()
    lanes: list[Callable[[], int]] = [
        lambda: world.flows.issue._reads.left,
        lambda: world.flows.issue.better._lane.left,
        lambda: len(world.flows.issue.better._gather._runs),
    ]
    async with asyncio.timeout(10):
        while any(left() for left in lanes):
            await asyncio.sleep(0.001)
    await world.flows.teller.flush()
    await world.settle()
    await world.check()
