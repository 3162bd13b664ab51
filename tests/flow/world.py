"""A small world for flows: SQLite, fakeredis, real keys, a clock moved by hand.

Everything is real but the clock, and every port is wrapped in a plan that may fail it. An
invariant checker around the store checks each commit; ``World.settle`` runs what the jobs of
a service would run.
"""

from __future__ import annotations

import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from sigmgr.cache.announcer import RedisAnnouncer
from sigmgr.cache.client import RedisParts, open_redis
from sigmgr.cache.sigs import RedisSigCache
from sigmgr.flow.assembly import Flows, Ports, assemble
from sigmgr.flow.limits import PROMPT, WaitLimits
from sigmgr.flow.registry import Apps
from sigmgr.flow.revocations import Revocations
from sigmgr.keys.cached import CachedValues
from sigmgr.keys.keychain import generate
from sigmgr.keys.ring import KeyRing
from sigmgr.keys.sealing import MasterKey, key_context
from sigmgr.model import errors
from sigmgr.model.app import KeyInfo
from sigmgr.model.holder import Holder
from sigmgr.model.policy import Policy
from sigmgr.model.redis_layout import Layout
from sigmgr.model.sig import Current, KeyState, Record
from sigmgr.model.usersig import FORMATS
from sigmgr.sim.invariants import InvariantChecker
from sigmgr.store import migrate
from sigmgr.store.catalog import Catalog
from sigmgr.store.engine import open_engine
from sigmgr.store.outbox import SqlOutbox
from sigmgr.store.revocations import SqlLooks
from sigmgr.store.stores import SqlJanitor, SqlStore
from sigmgr.testing import Faulty, ManualClock
from tests.schema import put_sqlite

NOW = 2_000_000_000
DAY = 86400
APP, OTHER = 1400000001, 1400000002
ALICE = Holder(APP, "alice")


def _serve_until(current: Current) -> int:
    return current.expires_at - DAY


class Switch:
    """A plan that passes everything until set otherwise, and records the calls."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str]] = []
        self.fail: Callable[[str, str], Awaitable[object] | None] = lambda name, moment: None

    def __call__(self, name: str, moment: str) -> Awaitable[object] | None:
        self.calls.append((name, moment))
        return self.fail(name, moment)

    def heal(self) -> None:
        self.fail = lambda name, moment: None


class World:
    """The parts, by name. ``flows`` is one process's; ``process()`` starts another."""

    def __init__(
        self, engine: object, redis: RedisParts, apps: Apps, ring: KeyRing, master: MasterKey
    ) -> None:
        self.clock = ManualClock(NOW)
        self.ordinary = True
        self.plan = Switch()
        self.redis = redis
        self.apps = apps
        self.ring = ring
        self.master = master
        self.catalog = Catalog(engine)  # type: ignore[arg-type]
        self.revocations = Revocations(time.monotonic, grace=3600)
        self.store = SqlStore(engine, self._revoked_until)  # type: ignore[arg-type]
        self.outbox = SqlOutbox(engine)  # type: ignore[arg-type]
        self.janitor = SqlJanitor(engine)  # type: ignore[arg-type]
        self.invariants = InvariantChecker(self.store, self.clock)
        layout = Layout(4)
        values = CachedValues(master.derive, layout)
        self.cache = RedisSigCache(redis, layout, values=values, serve_until=_serve_until)
        self.announcer = RedisAnnouncer(redis, layout, values=values, serve_until=_serve_until)
        self.draw = random.Random(7).random
        self.looks = SqlLooks(engine)  # type: ignore[arg-type]
        self.flows = self.process()

    def _revoked_until(self, sdkappid: int, userid: str) -> int:
        return self.revocations.until(sdkappid, userid)

    def process(self, limits: WaitLimits = PROMPT) -> Flows:
        """Flows with nothing in memory but what a look at start reads: nothing is revoked yet."""
        self.revocations = Revocations(time.monotonic, grace=3600)
        self.revocations.looked(time.monotonic())
        return assemble(
            Ports(
                registry=self.apps,
                store=Faulty(self.invariants, self.plan, "store"),
                looks=Faulty(self.looks, self.plan, "looks"),
                revocations=self.revocations,
                ordinary=lambda: self.ordinary,
                outbox=Faulty(self.outbox, self.plan, "outbox"),
                janitor=Faulty(self.janitor, self.plan, "janitor"),
                cache=Faulty(self.cache, self.plan, "cache"),
                announcer=Faulty(self.announcer, self.plan, "cache"),
                signer=Faulty(self.ring, self.plan, "signer"),
                draw=self.draw,
            ),
            batch=50,
            gather_acks_for=0.0,
            limits=limits,
        )

    async def add_app(self, sdkappid: int, policy: Policy | None = None) -> KeyInfo:
        await self.catalog.add_app(sdkappid, policy=policy or Policy(), now=NOW)
        key = await self.add_key(sdkappid)
        await self.apps.refresh()
        return key

    async def add_key(self, sdkappid: int, format_: str = "v2") -> KeyInfo:
        """A new active key; the one before becomes old."""
        material = generate(format_)
        loaded = FORMATS.named(format_).keys.signer(material)
        added = await self.catalog.add_key(
            sdkappid,
            format=loaded.format,
            curve=loaded.curve,
            fingerprint=loaded.fingerprint,
            state=KeyState.ACTIVE,
            seal=lambda key_id: self.master.seal(material, context=key_context(sdkappid, key_id)),
            now=NOW,
        )
        await self.ring.refresh()
        return added

    async def fresh(self, user: Holder = ALICE) -> Current | errors.SigmgrError:
        """What a stream that opens gets of the user's sig, or why nothing."""
        [row] = await self.store.find([user])
        ticket = row.issued_at if row else self.clock()
        try:
            reported = await self.flows.deliver.opened(user, ticket, self.clock(), rooms=False)
        except errors.SigmgrError as error:
            return error
        return reported[0]

    async def row(self, holder: Holder = ALICE) -> Record:
        [record] = await self.store.find([holder])
        assert record is not None
        return record

    async def settle(self) -> None:
        """Heal everything, start anew as after a crash, and let the jobs run."""
        self.plan.heal()
        self.flows = self.process()
        await self.flows.relay.sweep(self.clock(), grace=0)
        await self.flows.reconcile.step(self.clock())

    async def check(self) -> None:
        """What holds at rest, whatever happened before."""
        assert self.invariants.violations == []
        assert await self.outbox.depth(self.clock()) == (0, 0)
        page = await self.store.page(None, 1000)
        cached = await self.cache.get([record.holder for record in page])
        for record, hit in zip(page, cached, strict=True):
            if hit is not None:
                assert hit.issued_at == record.issued_at > record.revoked_at


@asynccontextmanager
async def open_world(
    home: Path, policy: Policy | None = None, *, url: str | None = None
) -> AsyncIterator[World]:
    """``url``: of a database that is empty; none is a SQLite file in ``home``."""
    async with AsyncExitStack() as stack:
        url = url or f"sqlite+aiosqlite:///{home / 'world.db'}"
        put_sqlite(url)
        engine = open_engine(url)
        stack.push_async_callback(engine.close)
        await migrate.upgrade(engine)
        redis = await open_redis("memory://", monotonic=time.monotonic)
        stack.push_async_callback(redis.aclose)
        master = MasterKey(b"x" * 32)
        catalog = Catalog(engine)
        ring = KeyRing(catalog.sealed_keys, master, monotonic=time.monotonic)
        stack.push_async_callback(ring.aclose)
        world = World(engine, redis, Apps(catalog.list_apps, time.monotonic), ring, master)
        await world.add_app(APP, policy)
        yield world
        world.plan.heal()
        await world.flows.publisher.flush()
