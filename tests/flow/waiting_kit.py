"""What tests of waiting share: a store that hangs, rows that others hold, and a clock for it.

The clock is the real one: the limits are a tenth of the usual ones, and who asks must have an
answer within ten times of them, which is still far from for ever.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from sigmgr.flow.limits import WaitLimits
from sigmgr.model import errors
from sigmgr.model.holder import Holder
from sigmgr.model.sig import Record
from sigmgr.ports import Ack, Confirmed
from tests.flow.world import World

SHORT = WaitLimits(0.07, 0.15)
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

    async def confirm(self, acks: Sequence[Ack], now: int) -> list[Confirmed]:
        if any(ack.user in self._rows for ack in acks):
            raise errors.StoreUnavailable
        return await self._tx.confirm(acks, now)  # type: ignore[no-any-return]

    async def try_lock(
        self, holders: Sequence[Holder], *, make: bool = True
    ) -> list[Record | None]:
        rows = await self._tx.try_lock([h for h in holders if h not in self._rows], make=make)
        free = iter(rows)
        return [None if holder in self._rows else next(free) for holder in holders]


async def comes_to_rest(world: World) -> None:
    """What hung goes on and ends; then every rule holds."""
    world.plan.heal()
    issue, deliver = world.flows.issue, world.flows.deliver
    openings, acks = deliver.openings, deliver.acks
    lanes = [issue._reads, issue.better._lane, openings._lane, acks._lane, deliver._lane]
    gathers = [issue.better._gather, openings._streams, openings._polls, acks._gather]
    async with asyncio.timeout(10):
        while any(lane.left for lane in lanes) or any(gather._runs for gather in gathers):
            await asyncio.sleep(0.001)
    await world.flows.publisher.flush()
    await world.settle()
    await world.check()
