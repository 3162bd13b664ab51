"""What the store's tests share: an open, migrated database of either kind, and records."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from sigmgr.model.event import Event
from sigmgr.model.holder import Holder
from sigmgr.model.sig import Record
from sigmgr.store import migrate
from sigmgr.store.catalog import Catalog
from sigmgr.store.engine import Engine, open_engine
from sigmgr.store.feeds import SqlEventReader
from sigmgr.store.outbox import SqlOutbox
from sigmgr.store.stores import SqlJanitor, SqlStore
from tests.schema import put_sqlite

NOW = 1_900_000_000
DAY = 86_400
TTL = 90 * DAY
APP = 1_400_000_001
KINDS = ("sqlite", "postgresql")

#: For what SQLite, whose writers take turns, cannot show.
only_postgres = pytest.mark.parametrize("db", ["postgresql"], indirect=True)


class Database(NamedTuple):
    engine: Engine
    store: SqlStore
    outbox: SqlOutbox
    janitor: SqlJanitor
    catalog: Catalog
    events: SqlEventReader

    @property
    def is_postgres(self) -> bool:
        return self.engine.dialect.name == "postgresql"

    async def put(self, records: Iterable[Record]) -> None:
        """Rows as they are, in place of all that were there."""
        async with self.engine.write() as connection:
            await connection.exec_driver_sql("DELETE FROM holders")
        rows = list(records)
        async with self.store.transaction() as tx:
            await tx.lock([row.holder for row in rows])
            await tx.save([(row, 0) for row in rows])

    async def get(self, holder: Holder) -> Record | None:
        return (await self.store.find([holder]))[0]


def url_of(request: pytest.FixtureRequest, kind: str, folder: Path, *, empty: bool = False) -> str:
    """Of a new database; ``empty``: one that never has the schema in it already."""
    if kind == "sqlite":
        return f"sqlite+aiosqlite:///{folder}/sigmgr.db"
    url: str = request.getfixturevalue("postgres_url" if empty else "schema_url")
    return url


@contextlib.asynccontextmanager
async def opened(url: str, **options: Any) -> AsyncIterator[Database]:
    put_sqlite(url)
    engine = open_engine(url, **options)
    try:
        await migrate.upgrade(engine)
        parts = SqlStore(engine), SqlOutbox(engine), SqlJanitor(engine), Catalog(engine)
        yield Database(engine, *parts, SqlEventReader(engine))
    finally:
        await engine.close()


def holder(number: int | str, kind: str = "user", scope: str = "", app: int = APP) -> Holder:
    userid = number if isinstance(number, str) else f"user{number:06d}"
    return Holder(app, userid, kind, scope)


def record(who: int | str | Holder, **more: Any) -> Record:
    """A live sig, issued at NOW and due after two thirds of its life."""
    whose = who if isinstance(who, Holder) else holder(who)
    issued_at, ttl = more.get("issued_at", NOW), more.get("ttl", TTL)
    times = {"renew_at": issued_at + ttl * 2 // 3, "warn_after": issued_at + ttl * 3 // 4}
    facts = {"format": "v2", "key_id": 1, "issued_at": issued_at, "ttl": ttl, "reason": "Missing"}
    facts |= times | {"expires_at": issued_at + ttl, "due_at": times["renew_at"]}
    return Record(*whose, **(facts | more))


def event(whose: Holder, at: int = NOW, **more: Any) -> Event:
    return Event("sig.issued", whose, at, at + TTL, "Missing", at)._replace(**more)
