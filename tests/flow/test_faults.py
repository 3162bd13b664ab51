"""A fault at every port call in turn: before it, after it (a lost answer), and a crash.

Each case runs once to learn which calls it makes; then it runs again for each of them, with
that call failing. Afterwards the world is healed and must be at rest with every rule held.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from sigmgr.model import errors
from sigmgr.model.holder import Holder, Room
from sigmgr.sim.faults import Crash
from tests.flow.world import ALICE, APP, DAY, World, open_world

Story = Callable[[World], Awaitable[None]]


async def _issue(world: World) -> None:
    await world.flows.issue.current(Holder(APP, "bob"), world.clock())
    await world.flows.publisher.flush()


async def _many(world: World) -> None:
    await world.flows.issue.many([Holder(APP, f"m{i}") for i in range(5)], world.clock())
    await world.flows.publisher.flush()


async def _reissue(world: World) -> None:
    await world.flows.issue.reissue(ALICE, world.clock())
    await world.flows.publisher.flush()


async def _room(world: World) -> None:
    await world.flows.room_keys.current(
        APP, "alice", Room(id=7), privileges=255, ttl=None, now=world.clock()
    )
    await world.flows.publisher.flush()


async def _revoke(world: World) -> None:
    await world.flows.revoke.user(APP, "alice", world.clock())


async def _tick(world: World) -> None:
    await world.flows.renew.tick(world.clock())


async def _sweep(world: World) -> None:
    await world.flows.relay.sweep(world.clock(), grace=0)


async def _lost(world: World) -> None:
    """A client holds, and proves with its ticket, what the database does not know."""
    at = world.clock()
    await world.flows.deliver.ack(ALICE, at, at, at)
    await world.flows.publisher.flush()


async def _ack(world: World) -> None:
    record = await world.row()
    await world.flows.deliver.ack(ALICE, record.issued_at, record.issued_at, world.clock())
    await world.flows.publisher.flush()


async def _open(world: World) -> None:
    record = await world.row()
    await world.flows.deliver.opened(ALICE, record.issued_at, world.clock())
    await world.flows.publisher.flush()


CASES: dict[str, Story] = {
    "issue": _issue,
    "many": _many,
    "reissue": _reissue,
    "lost": _lost,
    "room": _room,
    "revoke": _revoke,
    "tick": _tick,
    "sweep": _sweep,
    "ack": _ack,
    "open": _open,
}


async def _before(world: World, case: str) -> None:
    """Alice has a sig that is due soon; a few others as well."""
    await world.flows.issue.many([ALICE, *(Holder(APP, f"n{i}") for i in range(3))], world.clock())
    if case != "sweep":
        await world.flows.publisher.flush()
    world.clock.advance(70 * DAY if case in {"tick", "open"} else 60)
    await world.store.mark_seen(
        [(r.holder, world.clock()) for r in await world.store.page(None, 99)]
    )
    world.plan.calls.clear()


async def _run(world: World, case: str) -> None:
    try:
        await CASES[case](world)
    except (errors.SigmgrError, Crash):
        return


def _failing(at: int, crash: bool) -> Callable[[World], Callable[[str, str], None]]:
    def make(world: World) -> Callable[[str, str], None]:
        def fail(name: str, moment: str) -> None:
            if len(world.plan.calls) != at + 1:
                return
            if crash:
                raise Crash(name)
            raise (errors.CacheUnavailable if name.startswith("cache") else errors.StoreUnavailable)

        return fail

    return make


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("case", CASES)
async def test_a_fault_at_every_call_loses_nothing_and_doubles_nothing(
    case: str, tmp_path: Path
) -> None:
    first = tmp_path / "first"
    first.mkdir()
    async with open_world(first) as world:
        await _before(world, case)
        await CASES[case](world)
        calls = list(world.plan.calls)
        await world.settle()
        await world.check()
    assert len(calls) >= 4
    for at in range(len(calls)):
        for crash in (False, True):
            home = tmp_path / f"{at}-{crash}"
            home.mkdir()
            async with open_world(home) as world:
                await _before(world, case)
                world.plan.fail = _failing(at, crash)(world)
                await _run(world, case)
                await world.settle()
                await _check_after(world, case, f"{calls[at]} crash={crash}")


async def _check_after(world: World, case: str, where: str) -> None:
    assert world.invariants.violations == [], where
    await world.check()
    # The same again, unharmed: whatever was half done is finished, nobody is stuck.
    world.clock.advance(5)
    await CASES[case](world)
    await world.flows.renew.tick(world.clock())
    await world.settle()
    await world.check()
    assert await world.store.apps_with_due(world.clock()) == [], where
