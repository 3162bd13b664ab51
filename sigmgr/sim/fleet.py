"""Many emulated clients in one process, and their common counts.

Rules:
1. Clients start spread over ``ramp`` seconds, each by its own draw.
2. ``tick`` lets clients sign in; it comes before the cloud's tick of the same moment.
3. ``stop`` closes the streams, gives acks under way ``grace`` seconds, and then counts the unacked
   renewals of the last two seconds (``in_flight``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from sigmgr.sim.client import SimClient
from sigmgr.sim.cloud import NATIVE, WEB
from sigmgr.sim.stats import Stats, World

IN_FLIGHT_SECONDS = 2


class ClientFleet:
    """Use as an async context manager; ``start`` it, ``tick`` it, ``stop`` it.

    ``users`` are (sdkappid, userid) pairs; every second one is a web client.
    """

    def __init__(
        self, users: Sequence[tuple[int, str]], world: World, *, ramp: float = 0.0
    ) -> None:
        self.world = world
        self.stats = world.stats
        self.stats.clients = len(users)
        self._ramp = ramp
        self.clients = [
            SimClient(sdkappid, userid, world, flavour=WEB if i % 2 else NATIVE)
            for i, (sdkappid, userid) in enumerate(users)
        ]
        self._running: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> ClientFleet:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop(grace=0.0)
        await self.world.http.aclose()

    def start(self) -> None:
        self._running = [
            asyncio.create_task(client.run(self.world.rng.uniform(0, self._ramp)))
            for client in self.clients
        ]

    def tick(self, now: int) -> None:
        """Rule 2. Raises the exception of a client's task, which is a bug."""
        for task in self._running:
            if task.done() and not task.cancelled():
                task.result()
        for client in self.clients:
            client.tick(now)

    def snapshot(self) -> Stats:
        stats = self.stats
        stats.online = sum(1 for client in self.clients if client.state.session is not None)
        stats.next_expiry = self.world.cloud.next_expiry()
        return stats

    async def stop(self, grace: float = 2.0) -> Stats:
        """Rule 3. May be called twice."""
        stats = self.snapshot()
        stopped_at = self.world.clock()
        await _end(self._running)
        self._running = []
        acking = [client.acking for client in self.clients if client.acking is not None]
        if acking and grace:
            await asyncio.wait(acking, timeout=grace)
        await _end(acking)
        stats.in_flight = sum(
            client.unacked
            for client in self.clients
            if client.unacked_since >= stopped_at - IN_FLIGHT_SECONDS
        )
        return stats


async def _end(tasks: Sequence[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
