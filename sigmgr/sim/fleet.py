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
from random import Random

import httpx2

from sigmgr.ports import Clock
from sigmgr.sim.client import SimClient, World
from sigmgr.sim.cloud import NATIVE, WEB, Cloud
from sigmgr.sim.stats import Stats

IN_FLIGHT_SECONDS = 2


class ClientFleet:
    """Use as an async context manager; ``start`` it, ``tick`` it, ``stop`` it.

    ``users`` are (sdkappid, userid) pairs; every second one is a web client.
    ``stream_urls``: gateways to choose from, else the address that the service names.
    """

    def __init__(
        self,
        users: Sequence[tuple[int, str]],
        *,
        cloud: Cloud,
        clock: Clock,
        base_urls: Sequence[str],
        token: str,
        rng: Random,
        stream_urls: Sequence[str] = (),
        min_remaining: int = 0,
        ramp: float = 0.0,
        backoff_base: float = 0.5,
        idle: float = 60.0,
    ) -> None:
        self.stats = Stats(clients=len(users))
        self._cloud = cloud
        self._ramp = ramp
        self._rng = rng
        self.world = World(
            cloud=cloud,
            clock=clock,
            http=_short_calls(),
            base_urls=base_urls,
            token=token,
            rng=rng,
            stats=self.stats,
            min_remaining=min_remaining,
            stream_urls=stream_urls,
            backoff_base=backoff_base,
            idle=idle,
        )
        self.clients = [
            SimClient(sdkappid, userid, self.world, flavour=WEB if i % 2 else NATIVE)
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
            asyncio.create_task(client.run(self._rng.uniform(0, self._ramp)))
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
        stats.next_expiry = self._cloud.next_expiry()
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


def _short_calls() -> httpx2.AsyncClient:
    """One small pool for backend calls and acks; streams do not go through it."""
    # Proxies of the environment are ignored. Waiting for a free connection is a queue in this
    # process, and no failure of the service.
    return httpx2.AsyncClient(
        trust_env=False,
        timeout=httpx2.Timeout(10.0, pool=None),
        limits=httpx2.Limits(max_connections=32),
    )


async def _end(tasks: Sequence[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
