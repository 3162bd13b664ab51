"""A process that serves: gateway, jobs and HTTP around a desk."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace

from sigmgr.cache.near import NearCache
from sigmgr.http import auth
from sigmgr.http.app import create_app
from sigmgr.http.doors import API, GATEWAY, WORKER, Doors, ReadyCheck
from sigmgr.http.longpoll import Waiters
from sigmgr.http.server import bind_unless, bracketed, serve
from sigmgr.model import errors
from sigmgr.model.ticket import Tickets
from sigmgr.ports import Clock
from sigmgr.push.gateway import Gateway
from sigmgr.push.shards import ShardChannels
from sigmgr.scheduler import Job, Ticker
from sigmgr.settings import Settings
from sigmgr.wiring.base import CHECK
from sigmgr.wiring.clock import wall_clock
from sigmgr.wiring.desk import Desk, open_desk

#: Batches of each app in one tick of renewal.
_TURNS = 5
#: The server cuts a drain that takes half of the time to stop; some of that is for its end.
_DRAIN_SHARE = 0.4


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """A process that serves: ``run`` until the stop event is set."""

    desk: Desk
    doors: Doors
    ticker: Ticker
    gateway: Gateway | None
    waiters: Waiters
    channels: ShardChannels

    async def run(self, stop: asyncio.Event, *, bound: Callable[[int], None] | None = None) -> None:
        """Serve HTTP and tick. Raises AddressInUse, BadAddress."""
        http = self.desk.base.settings.http
        listener = await bind_unless(stop, http.host, http.port)
        if listener is None:
            return
        port = listener.getsockname()[1]
        # Which port 0 became is known only now.
        stream_url = http.stream_url or f"http://{bracketed(http.host)}:{port}/v1/stream"
        background = [asyncio.create_task(self.desk.flows.teller.run(), name="teller")]
        # Nothing works before the port is ours: a second service says so and no more.
        self.channels.start()
        if self.gateway is not None:
            self.gateway.start()
        self.ticker.start()
        try:
            await serve(
                create_app(replace(self.doors, stream_url=stream_url)),
                http.host,
                port,
                stop=stop,
                drain=self._drain,
                graceful=http.graceful,
                sock=listener,
                bound=bound,
            )
        finally:
            await self.ticker.stop()
            if self.gateway is not None:
                await self.gateway.aclose()
            for task in background:
                task.cancel()
            await asyncio.gather(*background, return_exceptions=True)

    async def _drain(self) -> None:
        self.waiters.close()
        if self.gateway is not None:
            settings = self.desk.base.settings
            seconds = min(settings.gateway.drain, _DRAIN_SHARE * settings.http.graceful)
            await self.gateway.drain(seconds)


@asynccontextmanager
async def open_service(
    settings: Settings, roles: frozenset[str], clock: Clock = wall_clock
) -> AsyncIterator[Service]:
    """All parts of a process with these roles. Raises what :func:`open_base` raises."""
    memory = settings.redis.url.get_secret_value().startswith("memory:")
    if memory and roles != frozenset({API, GATEWAY, WORKER}):
        raise errors.BadSettings(
            "redis.url is memory://, which lives inside one process; run --role all, or give"
            " the processes a Redis that they share"
        )
    async with AsyncExitStack() as stack:
        desk = await stack.enter_async_context(open_desk(settings, clock, serving=True))
        assert desk.redis is not None
        near: NearCache[bytes] | None = None
        if API in roles and settings.http.near_entries:
            near = NearCache(max_entries=settings.http.near_entries)

        def on_state(up: bool) -> None:
            if near is not None:
                near.channel(up, clock())

        channels = ShardChannels(desk.redis, desk.layout, draw=random.random, on_state=on_state)
        tickets = Tickets(desk.base.master.derive("tickets"))
        waiters = Waiters(time.monotonic)
        gateway = _gateway(desk, tickets) if GATEWAY in roles else None
        for listener in (near, gateway, waiters if GATEWAY in roles else None):
            if listener is not None:
                channels.add(listener)
        stack.push_async_callback(channels.aclose)
        doors = _doors(desk, roles, tickets=tickets, waiters=waiters, near=near, gateway=gateway)
        ticker = Ticker(clock)
        ticker.add(_jobs(desk, roles, lambda: ticker.stopping))
        yield Service(
            desk=desk,
            doors=doors,
            ticker=ticker,
            gateway=gateway,
            waiters=waiters,
            channels=channels,
        )


def _gateway(desk: Desk, tickets: Tickets) -> Gateway:
    settings = desk.base.settings
    return Gateway(
        desk.flows.deliver,
        tickets,
        desk.base.clock,
        random.random,
        desk.policy_of,
        max_streams=settings.gateway.max_streams,
        heartbeat=settings.gateway.heartbeat,
        shards=settings.redis.shards,
    )


def _ready(desk: Desk) -> list[ReadyCheck]:
    """What this process needs, and what it misses when it is away."""

    async def database() -> None:
        await desk.base.catalog.get_meta(CHECK)

    async def redis() -> str | None:
        assert desk.redis is not None
        try:
            await desk.redis.run(lambda client: client.ping())
        except errors.CacheUnavailable:
            # Gets and streams go on over the database; taking every process out of the load
            # balancer at once would be the outage.
            return "degraded: Redis does not answer"
        return None

    return [("database", database), ("redis", redis)]


def _doors(
    desk: Desk,
    roles: frozenset[str],
    *,
    tickets: Tickets,
    waiters: Waiters,
    near: NearCache[bytes] | None,
    gateway: Gateway | None,
) -> Doors:
    base, http = desk.base, desk.base.settings.http
    assert desk.redis is not None

    return Doors(
        clock=base.clock,
        apps=base.apps,
        issue=desk.flows.issue,
        room_keys=desk.flows.room_keys,
        revoke=desk.flows.revoke,
        deliver=desk.flows.deliver,
        find=base.store.of_user,
        verify=base.ring.verify,
        tickets=tickets,
        tokens=auth.Auth(base.token_of, base.master.derive("tokens"), time.monotonic),
        waiters=waiters,
        stream_url=http.stream_url,
        ready=_ready(desk),
        roles=roles,
        gateway=gateway,
        near=near,
        near_ttl=http.near_ttl,
    )


def _jobs(desk: Desk, roles: frozenset[str], stopping: Callable[[], bool]) -> list[Job]:
    """What ticks in a process of these roles."""
    every, flows, base = desk.base.settings.scheduler, desk.flows, desk.base

    async def refresh(_: int) -> None:
        await base.apps.refresh()
        await base.ring.refresh()

    async def renew(now: int) -> None:
        # A few turns: what became due meanwhile, emergencies first of all, waits for none.
        await flows.renew.tick(now, turns=_TURNS, stopping=stopping)

    async def relay(now: int) -> None:
        while await flows.relay.sweep(now):
            if stopping():
                return

    async def measure(now: int) -> None:
        await flows.relay.measure(now)

    jobs = [
        Job("refresh", every.refresh_every, refresh),
        Job("seen", every.seen_every, flows.seen.flush),
    ]
    if WORKER in roles:
        jobs += [
            Job("renew", every.renew_every, renew),
            Job("relay", every.relay_every, relay),
            Job("warn", every.warn_every, flows.warn.tick),
            Job("reconcile", every.reconcile_every, flows.reconcile.step),
            Job("clean-up", every.clean_up_every, flows.reconcile.clean_up),
            Job("measure", every.reconcile_every, measure),
        ]
    return jobs
