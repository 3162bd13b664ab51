"""A process that serves: gateway, jobs and HTTP around the other parts."""

from __future__ import annotations

import asyncio
import gc
import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace

from sigmgr.cache.near import NearCache
from sigmgr.health import Health
from sigmgr.http.app import App
from sigmgr.http.protocol import Connections
from sigmgr.http.server import bind_unless, bracketed, serve
from sigmgr.http.services import API, EVERY_ROLE, GATEWAY, Services
from sigmgr.model import errors
from sigmgr.model.ticket import Tickets
from sigmgr.push.admission import GatewayLimits
from sigmgr.push.gateway import Gateway
from sigmgr.push.shards import ShardChannels
from sigmgr.scheduler import Job, Ticker
from sigmgr.settings import Settings
from sigmgr.wiring.connections import Capacity, capacity_for
from sigmgr.wiring.http_services import credentials_of, http_services_of
from sigmgr.wiring.jobs import clock_job, jobs_of, look_of, probe_jobs
from sigmgr.wiring.parts import Parts, open_parts

#: The server cuts a drain at half of the time to stop; some of that is for its end.
_DRAIN_SHARE = 0.4
#: New objects before the young generation is scanned: a few batches' worth.
_YOUNG = 50_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """A process that serves: ``run`` until the stop event is set."""

    parts: Parts
    services: Services
    ticker: Ticker
    gateway: Gateway | None
    channels: ShardChannels
    connections: Connections

    async def run(self, stop: asyncio.Event, *, bound: Callable[[int], None]) -> None:
        """Serve HTTP and tick. Raises AddressInUse, BadAddress."""
        http = self.parts.base.settings.http
        listener = await bind_unless(stop, http.host, http.port)
        if listener is None:
            return
        port = listener.getsockname()[1]
        # Port 0 has its number only now.
        stream_url = http.stream_url or f"http://{bracketed(http.host)}:{port}/v1/stream"
        publisher = asyncio.create_task(self.parts.flows.publisher.run(), name="publisher")
        # Nothing starts before the port is ours, so that a second service only reports the error.
        self.channels.start()
        if self.gateway is not None:
            self.gateway.start()
        self.ticker.start()
        try:
            await serve(
                App(replace(self.services, stream_url=stream_url)),
                listener,
                stop=stop,
                drain=self._drain,
                graceful=http.graceful,
                bound=bound,
                connections=self.connections,
            )
        finally:
            await self.ticker.stop()
            if self.gateway is not None:
                await self.gateway.aclose()
            publisher.cancel()
            await asyncio.gather(publisher, return_exceptions=True)

    async def _drain(self) -> None:
        if self.gateway is not None:
            settings = self.parts.base.settings
            seconds = min(settings.gateway.drain, _DRAIN_SHARE * settings.http.graceful)
            await self.gateway.drain(seconds)


@asynccontextmanager
async def open_service(settings: Settings, roles: frozenset[str]) -> AsyncIterator[Service]:
    """All parts of a process with these roles. Raises what :func:`open_base` raises."""
    _refuse_memory_of_one(settings, roles)
    async with AsyncExitStack() as stack:
        parts = await stack.enter_async_context(open_parts(settings, serving=True))
        near = _near(settings) if API in roles else None
        health = Health(time.monotonic)
        credentials = credentials_of(parts.base)
        capacity = capacity_for(settings)
        gateway = _gateway(parts, credentials.tickets, capacity) if GATEWAY in roles else None
        channels = _channels(parts, near)
        for listener in (near, gateway):
            if listener is not None:
                channels.add(listener)
                parts.base.revocations.add(listener)
        serves = bool(roles & {API, GATEWAY})
        look = look_of(parts, health, near, credentials.tokens, vital=serves)
        await look.load(parts.base.clock())
        # Before the first new holder: a limit whose rows were never counted has no effect.
        await parts.flows.newcomers.measure(parts.base.clock())
        stack.push_async_callback(channels.aclose)
        services = http_services_of(
            parts, roles, credentials, near=near, gateway=gateway, health=health
        )
        ticker = Ticker(parts.base.clock, parts.base.clock.glance)
        ticker.add([Job("look", settings.scheduler.look_every, look.once)])
        ticker.add(
            [clock_job(parts, health, near), *jobs_of(parts, roles, lambda: ticker.stopping)]
        )
        ticker.add(await probe_jobs(parts, health))
        yield Service(
            parts=parts,
            services=services,
            ticker=ticker,
            gateway=gateway,
            channels=channels,
            connections=Connections(capacity.limits),
        )


def _refuse_memory_of_one(settings: Settings, roles: frozenset[str]) -> None:
    memory = settings.redis.url.get_secret_value().startswith("memory:")
    if memory and roles != EVERY_ROLE:
        raise errors.BadSettings(
            "redis.url is memory://, which lives inside one process; run --role all, or give"
            " the processes a Redis that they share"
        )


def _near(settings: Settings) -> NearCache[bytes] | None:
    entries = settings.http.near_entries
    return NearCache(max_entries=entries) if entries else None


def _channels(parts: Parts, near: NearCache[bytes] | None) -> ShardChannels:
    assert parts.redis is not None

    def on_state(up: bool) -> None:
        if near is not None:
            near.channel(up, parts.base.clock())

    return ShardChannels(
        parts.redis,
        parts.layout,
        draw=random.random,
        open_message=parts.values.open_message,
        on_state=on_state,
    )


def _gateway(parts: Parts, tickets: Tickets, capacity: Capacity) -> Gateway:
    settings = parts.base.settings
    return Gateway(
        parts.flows.deliver,
        tickets,
        parts.base.clock,
        random.random,
        parts.policy_of,
        stands=parts.base.revocations.stands,
        limits=GatewayLimits(
            shards=settings.redis.shards,
            heartbeat=settings.gateway.heartbeat,
            max_per_user=settings.gateway.max_per_user,
            max_streams=capacity.streams,
        ),
    )


def tune_gc() -> None:
    """Call it when all parts are built: the existing objects are never scanned again.

    Nearly all garbage is freed by reference counting; the collector only looks for cycles. With
    Python's default threshold it scans the records of each batch a dozen times, a fifth of the CPU
    of a mass renewal, and in a gateway its pauses grow with the streams.
    """
    gc.freeze()
    gc.set_threshold(_YOUNG, 20, 20)
