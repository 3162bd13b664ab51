"""The parts of a command that issues or revokes: a base, and the flows over it."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass

from sigmgr.cache.announcer import RedisAnnouncer
from sigmgr.cache.client import RedisParts, open_redis
from sigmgr.cache.null import NoRedis
from sigmgr.cache.sigs import RedisSigCache
from sigmgr.flow.assembly import Flows, Ports, assemble
from sigmgr.flow.limits import PATIENT, PROMPT
from sigmgr.flow.registry import Apps
from sigmgr.keys.cached import CachedValues
from sigmgr.model.errors import UnavailableError
from sigmgr.model.policy import Policy
from sigmgr.model.redis_layout import Layout
from sigmgr.model.sig import Current
from sigmgr.ports import Announcer, SigCache
from sigmgr.settings import Settings
from sigmgr.wiring.base import Base, open_base


@dataclass(frozen=True, slots=True)
class Parts:
    """A base, and the flows over it. ``redis`` None: commands beside a ``memory://`` service."""

    base: Base
    flows: Flows
    redis: RedisParts | None
    layout: Layout
    values: CachedValues
    policy_of: Callable[[int], Policy]


@asynccontextmanager
async def open_parts(settings: Settings, *, serving: bool = False) -> AsyncIterator[Parts]:
    """The parts that issue. ``serving``: this process is the service itself; only then gateways
    listen to its ``memory://`` Redis, and it loads the revocations once their listeners are there.
    """
    async with AsyncExitStack() as stack:
        base = await stack.enter_async_context(open_base(settings, serving=serving))
        if not serving:
            await base.load_revocations()
        policy_of = policies(base.apps)
        layout = Layout(settings.redis.shards)
        values = CachedValues(base.master.derive, layout, seal=settings.redis.seal)
        redis: RedisParts | None = None
        cache: SigCache = NoRedis()
        announcer: Announcer = NoRedis()
        if serving or not settings.redis.url.get_secret_value().startswith("memory:"):
            redis = await redis_of(settings)
            stack.push_async_callback(redis.aclose)
            cache, announcer = over_redis(redis, layout, values, policy_of)
        flows = assemble(
            Ports(
                registry=base.apps,
                store=base.store,
                jobs_store=base.jobs_store,
                looks=base.looks,
                revocations=base.revocations,
                outbox=base.outbox,
                janitor=base.janitor,
                cache=cache,
                announcer=announcer,
                signer=base.ring,
                draw=random.random,
                ordinary=base.clock.ordinary,
            ),
            batch=settings.scheduler.batch,
            lanes=1 if settings.database.is_sqlite else settings.scheduler.lanes,
            limits=PROMPT if serving else PATIENT,
        )
        yield Parts(base, flows, redis, layout, values, policy_of)
        await _finish(flows, base.clock())


async def _finish(flows: Flows, now: int) -> None:
    """Once the work is done, in two seconds or not: the sweep publishes what is left."""
    with suppress(UnavailableError, TimeoutError):
        async with asyncio.timeout(2.0):
            await flows.publisher.flush()
            await flows.seen.flush(now)


def over_redis(
    redis: RedisParts, layout: Layout, values: CachedValues, policy_of: Callable[[int], Policy]
) -> tuple[RedisSigCache, RedisAnnouncer]:
    def serve_until(current: Current) -> int:
        policy = policy_of(current.holder.sdkappid)
        ttl = current.expires_at - current.issued_at
        return current.expires_at - policy.durations(ttl).min_remaining

    return (
        RedisSigCache(redis, layout, values=values, serve_until=serve_until),
        RedisAnnouncer(redis, layout, values=values, serve_until=serve_until),
    )


async def redis_of(settings: Settings) -> RedisParts:
    """Redis, with the limits of its settings. Raises BadSettings."""
    timeout = settings.redis.timeout
    return await open_redis(
        settings.redis.url.get_secret_value(),
        monotonic=time.monotonic,
        protocol=settings.redis.protocol,
        max_connections=settings.redis.pool_size,
        socket_timeout=timeout * 0.5,
        connect_timeout=timeout * 0.3,
        total_timeout=timeout * 0.9,
    )


def policies(apps: Apps) -> Callable[[int], Policy]:
    """An app's policy without waiting; the defaults for an app that was removed."""
    default = Policy()

    def policy_of(sdkappid: int) -> Policy:
        app = apps.known(sdkappid)
        return default if app is None else app.policy

    return policy_of
