"""Durable readers of events, whatever is killed: committers, announcements, relays, removal.

Each commit's events are noted beside the store when it is done. Whatever dies at whatever call
of a port, a reader is shown each of them once, without a gap in the numbers, those of a holder
in the order of their commits; and gateways were sent each at least once.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from sigmgr.model import errors
from sigmgr.model.cursor import Cursor
from sigmgr.model.event import Event
from sigmgr.model.holder import Holder
from sigmgr.ports import Numbered
from sigmgr.sim.faults import Crash
from sigmgr.sim.invariants import InvariantChecker
from sigmgr.store.feeds import SqlEventReader
from tests.contract.store_kit import KINDS, url_of
from tests.flow.world import APP, DAY, OTHER, World, open_world

USERS = [Holder(APP, f"u{n}") for n in range(4)]


class Recorder:
    """A store that notes the events of each commit, and the calls it passes on."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self.committed: list[Event] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Any]:
        appended: list[Event] = []
        async with self._store.transaction() as tx:
            real = tx.append

            async def append(events: list[Event]) -> list[int]:
                ids: list[int] = await real(events)
                appended.extend(events)
                return ids

            tx.append = append
            yield tx
        self.committed += [one for one in appended if one.holder.sdkappid == APP]


class Reader:
    """Goes along by pages of any size."""

    def __init__(self, world: World, engine: Any) -> None:
        self._events = SqlEventReader(engine)
        self._after: Cursor | None = None
        self.found: list[Numbered] = []

    async def read(self, limit: int) -> bool:
        """True at the end."""
        page = await self._events.read(APP, self._after, limit)
        self.found += page.events
        self._after = page.cursor
        return page.cursor.number == page.last


class Scene:
    """A world whose first app has a feed, with two readers."""

    def __init__(self, world: World) -> None:
        self.world = world
        engine = world.store._engine
        self.is_postgres = engine.dialect.name == "postgresql"
        self.recorder = Recorder(world.store)
        world.invariants = InvariantChecker(self.recorder, world.clock)  # type: ignore[arg-type]
        self.readers = [Reader(world, engine) for _ in range(2)]
        self.announced: list[Event] = []
        real = world.announcer.announce

        async def announce(batch: list[Any], now: int) -> list[bool]:
            shown = await real(batch, now)
            self.announced += [one.event for one in batch]
            return shown

        world.announcer.announce = announce  # type: ignore[method-assign, assignment]
        world.flows = world.process()

    async def do(self, step: Callable[[], Awaitable[object]]) -> None:
        """One thing that a process does; where it dies, another process begins with nothing."""
        try:
            await step()
        except errors.SigmgrError:
            pass
        except Crash:
            self.world.flows = self.world.process()

    async def finish(self) -> None:
        """All is healed, and what was left is done by others."""
        self.world.plan.heal()
        self.world.flows = self.world.process()
        for _ in range(2):
            await self.world.flows.relay.number(self.world.clock())
            await self.world.flows.relay.sweep(self.world.clock(), grace=0)
        await self.world.flows.renew.tick(self.world.clock())
        await self.world.flows.relay.number(self.world.clock())

    async def check(self, where: str) -> None:
        assert self.world.invariants.violations == [], where
        assert await self.world.outbox.depth(self.world.clock()) == (0, 0), where
        committed = self.recorder.committed
        for reader in self.readers:
            while not await reader.read(7):
                pass
            numbers = [one.number for one in reader.found]
            assert numbers == list(range(1, len(committed) + 1)), where
            for user in {one.holder for one in committed}:
                shown = [one.event for one in reader.found if one.event.holder == user]
                assert shown == [one for one in committed if one.holder == user], where
        assert set(committed) <= set(self.announced), where


@pytest.fixture(params=KINDS)
async def scene(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Scene]:
    async with open_world(tmp_path, url=url_of(request, request.param, tmp_path)) as world:
        await world.add_app(OTHER)
        await world.catalog.set_feed(APP, on=True)
        yield Scene(world)


def steps(scene: Scene) -> dict[str, Callable[[], Awaitable[object]]]:
    """What processes do; ``flows`` may be another process each time."""
    world = scene.world

    async def later() -> None:
        world.clock.advance(1)

    return {
        "issue": lambda: world.flows.issue.many([*USERS[:3], Holder(OTHER, "x")], world.clock()),
        "reissue": lambda: world.flows.issue.reissue(USERS[0], world.clock()),
        "revoke": lambda: world.flows.revoke.user(APP, "u3", world.clock()),
        "publish": lambda: world.flows.publisher.flush(),  # noqa: PLW0108  of the process of then
        "number": lambda: world.flows.relay.number(world.clock(), limit=2),
        "sweep": lambda: world.flows.relay.sweep(world.clock(), limit=2, grace=0),
        "clean up": lambda: world.flows.reconcile.clean_up(world.clock()),
        "read": lambda: scene.readers[0].read(2),
        "later": later,
    }


STORY = ("issue", "number", "later", "reissue", "publish", "later", "reissue", "number", "sweep",
         "revoke", "read", "number", "clean up")  # fmt: skip


async def reported(scene: Scene) -> list[tuple[str, str]]:
    """The case once; answers the calls of ports that it made."""
    does = steps(scene)
    scene.world.plan.calls.clear()
    for name in STORY:
        await scene.do(does[name])
    return list(scene.world.plan.calls)


def killed_there(scene: Scene, name: str) -> bool:
    """On SQLite at every call. PostgreSQL differs in what others see and in locks: there at
    every call of the outbox and at both sides of every commit."""
    return not scene.is_postgres or name.startswith("outbox.") or name.endswith(".commit")


async def test_a_kill_at_every_call_shows_each_event_once(scene: Scene) -> None:
    world, at = scene.world, 0
    calls = await reported(scene)
    assert len(calls) > 60
    while at < len(calls):
        if killed_there(scene, calls[at][0]):

            def kill(name: str, moment: str, at: int = at) -> None:
                if len(world.plan.calls) == at + 1:
                    raise Crash(name)

            world.clock.advance(5)
            world.plan.fail = kill
            calls = await reported(scene)
            await scene.finish()
            await scene.check(f"after a kill at call {at}")
        at += 1


@pytest.mark.parametrize("seed", range(4))
async def test_any_order_of_steps_with_faults_shows_each_event_once(
    scene: Scene, seed: int
) -> None:
    world, rng, does = scene.world, random.Random(seed), steps(scene)

    def fail(name: str, moment: str) -> None:
        chance = rng.random()
        if chance < 0.03:
            raise Crash(name)
        if chance < 0.05 or (dead and name.startswith("cache")):
            raise errors.CacheUnavailable if name.startswith("cache") else errors.StoreUnavailable

    dead = False
    world.plan.fail = fail
    for _ in range(120):
        dead = rng.random() < 0.3
        await scene.do(does[rng.choice([*does])])
        if rng.random() < 0.02:
            # Nobody has been away for a week.
            for reader in scene.readers:
                while not await reader.read(5):
                    pass
            world.clock.advance(60 * DAY)
            await scene.do(lambda: world.flows.renew.tick(world.clock()))
    assert len(scene.recorder.committed) > 10
    await scene.finish()
    await scene.check("")


async def test_a_dead_redis_keeps_nothing_from_readers(scene: Scene) -> None:
    world = scene.world

    def no_cache(name: str, moment: str) -> None:
        if name.startswith("cache."):
            raise errors.CacheUnavailable

    world.plan.fail = no_cache
    await world.flows.issue.many(USERS, world.clock())
    await world.flows.publisher.flush()
    assert await world.flows.relay.number(world.clock()) == len(USERS)
    assert await scene.readers[0].read(100)
    assert [one.event for one in scene.readers[0].found] == scene.recorder.committed
    assert scene.announced == []
    world.plan.heal()
    await scene.finish()
    await scene.check("")


async def test_a_clean_up_ends_when_all_that_is_past_is_gone(scene: Scene) -> None:
    world = scene.world
    for user in USERS:
        await world.flows.issue.current(user, world.clock())
    await world.flows.relay.number(world.clock())
    await world.flows.reconcile.clean_up(world.clock() + 7 * DAY - 1, limit=1, batches=1)
    assert await scene.readers[0].read(100)
    assert len(scene.readers[0].found) == len(USERS)
    await world.flows.reconcile.clean_up(world.clock() + 7 * DAY, limit=1, batches=1)
    assert await scene.readers[1].read(100)
    assert scene.readers[1].found == []


async def test_apps_take_turns_and_a_stop_ends_after_a_batch(scene: Scene) -> None:
    world = scene.world
    await world.catalog.set_feed(OTHER, on=True)
    both = [one for n in range(6) for one in (Holder(APP, f"a{n}"), Holder(OTHER, f"b{n}"))]
    for one in both:
        await world.flows.issue.current(one, world.clock())
    calls = 0

    def stopping() -> bool:
        nonlocal calls
        calls += 1
        return calls > 2

    assert await world.flows.relay.number(world.clock(), limit=2, stopping=stopping) == 4
    assert await world.outbox.unnumbered() == [APP, OTHER]
    assert await world.flows.relay.number(world.clock(), limit=2) == 8
