"""Events that wait to be told: fulfils ``ports.Outbox``.

Rules:
1. An event is written in the transaction of what it tells.
2. It is deleted when told, never marked: the queue stays as short as the work in hand. The
   order of ids is not the order of commits, so no reader keeps a cursor.
3. A relay holds what it took under row locks until it is done. SQLite has no row locks, and
   a write transaction held while Redis is slow would stop every request: there the relays
   of one process take turns, and two processes on one file may tell an event twice.

What this module does not do: tell anybody.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence
from functools import cache
from typing import Any

from sqlalchemy import BigInteger, Select, bindparam, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from sigmgr.model.event import Event
from sigmgr.model.holder import Holder
from sigmgr.store.dialect import SQLITE, TRUE, Dialect
from sigmgr.store.engine import Engine
from sigmgr.store.tables import outbox

o = outbox.c
_COLUMNS = (
    ("at", int),
    ("type", str),
    ("sdkappid", int),
    ("userid", str),
    ("kind", str),
    ("scope", str),
    ("issued_at", int),
    ("expires_at", int),
    ("reason", str),
    ("note", str),
)


@cache
def _add(dialect: Dialect) -> Any:
    """A batch of events; answers their ids."""
    batch = dialect.batch(*_COLUMNS)
    names = [name for name, _ in _COLUMNS]
    rows = select(*(batch.c[name] for name in names)).where(TRUE).order_by(batch.c.n)
    return outbox.insert().from_select(names, rows).returning(o.id)


def _oldest(*columns: Any) -> Select[Any]:
    """The ``limit`` oldest from ``before`` or earlier, locked."""
    rows = select(*columns).where(o.at <= bindparam("before")).order_by(o.id)
    return rows.limit(bindparam("limit", type_=BigInteger)).with_for_update(skip_locked=True)


@cache
def _look() -> Select[Any]:
    return _oldest(*o)


@cache
def _take(dialect: Dialect) -> Any:
    oldest = _oldest(dialect.location(outbox))
    return outbox.delete().where(dialect.located(outbox, oldest)).returning(*o)


@cache
def _forget(dialect: Dialect) -> Any:
    """Delete a batch of ids. One that a relay holds is left to it: nobody waits here."""
    batch = dialect.batch(("id", int))
    told = select(dialect.location(outbox)).join_from(batch, outbox, o.id == batch.c.id)
    told = told.with_for_update(of=outbox, skip_locked=True)
    return outbox.delete().where(dialect.located(outbox, told))


async def append(
    connection: AsyncConnection, dialect: Dialect, events: Sequence[Event]
) -> list[int]:
    """Write events within a transaction; answers their ids in order, which rise."""
    if not events:
        return []
    rows = [(e.at, e.type, *e.holder, e.issued_at, e.expires_at, e.reason, e.note) for e in events]
    ids = await connection.scalars(_add(dialect), dialect.parameters(rows))
    return sorted(ids)


def _event(row: Any) -> Event:
    outbox_id, at, kind_of_event, sdkappid, userid, kind, scope, issued, expires, reason, note = row
    holder = Holder(sdkappid, userid, kind, scope)
    return Event(kind_of_event, holder, issued, expires, reason, at, note, outbox_id)


class SqlOutbox:
    """See :class:`sigmgr.ports.Outbox`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @contextlib.asynccontextmanager
    async def take(self, limit: int, before: int) -> AsyncIterator[list[Event]]:
        """See the port."""
        values = {"limit": limit, "before": before}
        if self._engine.dialect is SQLITE:
            async with self._engine.relay_turn:
                async with self._engine.read() as connection:
                    rows = (await connection.execute(_look(), values)).all()
                events = [_event(row) for row in rows]
                yield events
                await self.forget([event.outbox_id for event in events])
            return
        async with self._engine.write() as connection:
            rows = (await connection.execute(_take(self._engine.dialect), values)).all()
            yield [_event(row) for row in sorted(rows)]

    async def forget(self, ids: Sequence[int]) -> None:
        """See the port. An event may be left where a relay holds it; that relay deletes it."""
        if not ids:
            return
        dialect = self._engine.dialect
        async with self._engine.write() as connection:
            await connection.execute(_forget(dialect), dialect.parameters([(i,) for i in ids]))

    async def depth(self, now: int) -> tuple[int, int]:
        """See the port."""
        async with self._engine.read() as connection:
            question = select(func.count(), func.min(o.at)).select_from(outbox)
            count, oldest = (await connection.execute(question)).one()
        return (count, max(0, now - oldest)) if count else (0, 0)
