"""Opens a simulation in virtual time."""

from __future__ import annotations

import random
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any

from sigmgr.cache.client import open_redis
from sigmgr.flow.assembly import Ports
from sigmgr.flow.registry import Apps
from sigmgr.flow.revocations import Revocations
from sigmgr.keys.cached import CachedValues
from sigmgr.keys.keychain import generate
from sigmgr.keys.ring import KeyRing
from sigmgr.keys.sealing import MasterKey, key_context
from sigmgr.model.policy import Policy
from sigmgr.model.redis_layout import Layout
from sigmgr.model.sig import KeyState
from sigmgr.model.usersig import FORMATS
from sigmgr.sim.cloud import Cloud
from sigmgr.sim.virtual_time import Simulation
from sigmgr.store import migrate
from sigmgr.store.catalog import Catalog
from sigmgr.store.engine import open_engine
from sigmgr.store.outbox import SqlOutbox
from sigmgr.store.revocations import SqlLooks
from sigmgr.store.stores import SqlJanitor, SqlStore
from sigmgr.wiring.parts import over_redis, policies


@asynccontextmanager
async def open_simulation(*, seed: int, **options: Any) -> AsyncIterator[Simulation]:
    """A simulation over its own SQLite file and in-process Redis, with three apps: v2 and v1 with
    the policy's defaults, and v2 with sigs of thirty days. The options are those of Simulation."""
    master = MasterKey(b"a run of virtual months has this")
    async with AsyncExitStack() as stack:
        # In process there is no network; a busy machine must not look like an outage.
        engine = open_engine("sqlite+aiosqlite:///:memory:", inline=True, lock_timeout_ms=_FOREVER)
        stack.push_async_callback(engine.close)
        await migrate.upgrade(engine)
        catalog = Catalog(engine)
        ring = KeyRing(catalog.sealed_keys, master, monotonic=time.monotonic)
        stack.push_async_callback(ring.aclose)
        apps = Apps(catalog.list_apps, time.monotonic)
        cloud = Cloud()
        for app in _APPS:
            await _furnish(catalog, master, cloud, app)
        await apps.refresh()
        await ring.refresh()
        redis = await open_redis("memory://", monotonic=time.monotonic)
        stack.push_async_callback(redis.aclose)
        layout = Layout(8)
        values = CachedValues(master.derive, layout)
        cache, announcer = over_redis(redis, layout, values, policies(apps))
        ports = Ports(
            registry=apps,
            store=SqlStore(engine),
            looks=SqlLooks(engine),
            outbox=SqlOutbox(engine),
            janitor=SqlJanitor(engine),
            cache=cache,
            announcer=announcer,
            signer=ring,
            draw=random.random,
            revocations=Revocations(time.monotonic, grace=60),
        )
        wipe = partial(redis.run, lambda client: client.flushall())
        yield Simulation(ports, wipe, cloud, seed=seed, **options)


async def _furnish(
    catalog: Catalog, master: MasterKey, cloud: Cloud, app: tuple[int, str, int]
) -> None:
    sdkappid, format_, ttl = app
    await catalog.add_app(sdkappid, policy=Policy(ttl=ttl), now=0)
    material = generate(format_)
    key = FORMATS.named(format_).keys.signer(material)
    await catalog.add_key(
        sdkappid,
        format=key.format,
        curve=key.curve,
        fingerprint=key.fingerprint,
        state=KeyState.ACTIVE,
        seal=lambda key_id: master.seal(material, context=key_context(sdkappid, key_id)),
        now=0,
    )
    cloud.introduce(sdkappid, key.public_pem, material)


_FOREVER = 86_400_000
_APPS = (
    (1400000001, "v2", 90 * 86400),
    (1400000002, "v1", 90 * 86400),
    (1400000003, "v2", 30 * 86400),
)
