"""The stage: PostgreSQL with fsync, Valkey, a migrated database with one v2 app, its holders.

One PostgreSQL and one Valkey serve a whole run; each benchmark has databases of its own in
it and begins with an empty Valkey.
"""

from __future__ import annotations

import asyncio
import functools
import time
from base64 import b64encode
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import psycopg

from sigmgr.cache.announcer import RedisAnnouncer
from sigmgr.cache.client import RedisParts
from sigmgr.cache.sigs import RedisSigCache
from sigmgr.keys.cached import CachedValues
from sigmgr.keys.sealing import MasterKey
from sigmgr.model.policy import FULL_LIFE, Policy
from sigmgr.model.redis_layout import Layout
from sigmgr.model.sig import Current
from sigmgr.settings import Settings
from sigmgr.store import migrate
from sigmgr.wiring.base import open_base, open_database
from tests.servers import PostgresServer, RedisServer

SDKAPPID = 1400000001
SECRET = b"0123456789abcdef" * 4
MASTER_KEY = b64encode(bytes(range(32))).decode()
#: Nobody goes dormant, a wave is not spread over minutes, and clients that never ack (the
#: ones here do not) are not announced again meanwhile.
POLICY = Policy(idle_after=0, splay=0, resend=(36_000,))

#: Large enough that no checkpoint falls into a measurement.
_POSTGRES = {
    "shared_buffers": "1GB",
    "max_wal_size": "16GB",
    "checkpoint_timeout": "1h",
    "maintenance_work_mem": "512MB",
}

_SEED = """
INSERT INTO holders (sdkappid, userid, kind, scope, format, key_id, issued_at, ttl, renew_at,
  warn_after, expires_at, reason, due_at, seen_at)
SELECT %(sdkappid)s, 'user' || lpad(i::text, 7, '0'), 'user', '', 'v2', %(key_id)s, issued_at,
  %(ttl)s, issued_at + %(ttl)s * 2 / 3, issued_at + %(ttl)s * 2 / 3 + 172800,
  issued_at + %(ttl)s, 'Missing', issued_at + %(ttl)s * 2 / 3, issued_at
FROM (SELECT i, %(from)s + (hashint4(i) & 1048575)::bigint * %(width)s / 1048576 AS issued_at
      FROM generate_series(1, %(count)s) AS i) AS drawn
"""


@functools.cache
def postgres() -> PostgresServer:
    """Started once; stopped at exit. fsync and synchronous_commit are on."""
    server = PostgresServer(durable=True, settings=_POSTGRES)
    server.start()
    return server


@functools.cache
def valkey() -> RedisServer:
    """Started once; stopped at exit. Who begins to measure wipes it."""
    server = RedisServer()
    server.start()
    return server


def redis_over(redis: RedisParts) -> tuple[RedisSigCache, RedisAnnouncer]:
    """Cache and announcer as the service has them: values are sealed."""
    layout = Layout()
    values = CachedValues(MasterKey.from_base64(MASTER_KEY).derive, layout)

    def serve_until(current: Current) -> int:
        return current.expires_at

    return (
        RedisSigCache(redis, layout, values=values, serve_until=serve_until),
        RedisAnnouncer(redis, layout, values=values, serve_until=serve_until),
    )


@dataclass(frozen=True, slots=True)
class House:
    """A database with an app. ``settings`` is the tree that opens it, as JSON."""

    settings: dict[str, Any]
    dbname: str
    key_id: int
    token: str

    def connect(self) -> psycopg.Connection[Any]:
        """A plain connection, each statement its own transaction."""
        return psycopg.connect(
            postgres().url(self.dbname, driver="postgresql"),
            autocommit=True,
            prepare_threshold=None,
        )

    def seed(self, count: int, *, due: bool) -> None:
        """``count`` holders user0000001 ..., in random order of expiry: all overdue for their
        renewal, or none for weeks."""
        # Issued 70 to 61 days ago, or 20 to 10 days ago.
        oldest = int(time.time()) - (70 if due else 20) * 86400
        values = {
            "sdkappid": SDKAPPID,
            "key_id": self.key_id,
            "ttl": FULL_LIFE,
            "from": oldest,
            "width": 9 * 86400,
            "count": count,
        }
        with self.connect() as connection:
            connection.execute("TRUNCATE holders, outbox, events")
            connection.execute(_SEED, values)
            connection.execute("VACUUM ANALYZE holders")
            connection.execute("CHECKPOINT")

    def one(self, question: str) -> int:
        """The one number that a statement answers."""
        with self.connect() as connection:
            row = connection.execute(question).fetchone()
        assert row is not None
        return int(row[0])

    def drop(self) -> None:
        postgres().drop_database(self.dbname)


def build(*, feed: bool = False) -> House:
    """A new database, migrated, with one app, one active v2 key and one backend token; with a
    feed where that is asked for."""
    dbname = postgres().create_database()
    settings = {
        "database": {"url": postgres().url(dbname), "statement_timeout": 300},
        "redis": {"url": valkey().url, "timeout": 10},
        "http": {"port": 0},
        "log": {"level": "error"},
        "master_key": MASTER_KEY,
    }
    key_id, token = asyncio.run(_furnish(Settings.model_validate(settings), feed=feed))
    return House(settings, dbname, key_id, token)


async def _furnish(settings: Settings, *, feed: bool) -> tuple[int, str]:
    engine = open_database(settings)
    try:
        await migrate.upgrade(engine)
    finally:
        await engine.close()
    async with open_base(settings) as base:
        await base.catalog.add_app(SDKAPPID, "benchmark", policy=POLICY, now=base.clock())
        key = await base.add_key(SDKAPPID, "v2", SECRET, activate=True)
        if feed:
            await base.catalog.set_feed(SDKAPPID, on=True)
        token, _ = await base.add_token("backend", sdkappid=SDKAPPID, name="benchmark")
    return key.key_id, token


Handler = Callable[..., Awaitable[dict[str, Any]]]
