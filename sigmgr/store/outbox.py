"""Events that wait to be told: fulfils ``ports.Outbox``.

Rules:
1. An event is written in the transaction of what it tells. Events of one transaction, one
   app and one second share rows, a few each.
2. A row is deleted when all its events were told, never marked or changed: the queue stays
   as short as the work in hand. The order of ids is not the order of commits, so no reader
   keeps a cursor.
3. A relay holds what it took under row locks until it is done. SQLite has no row locks, and
   a write transaction held while Redis is slow would stop every request: there the relays
   of one process take turns, and two processes on one file may tell an event twice.
4. A row of a newer version, whose events have more fields, is read without those. One that
   is damaged is logged and deleted with the others of its batch: it must not hold them up
   for ever.

What this module does not do: tell anybody.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterable, Sequence
from functools import cache
from typing import Any

import msgspec
from sqlalchemy import BigInteger, Select, bindparam, cast, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from sigmgr.model.event import Event
from sigmgr.store.dialect import SQLITE, TRUE, Dialect, Rows
from sigmgr.store.engine import Engine
from sigmgr.store.tables import outbox
from sigmgr.telemetry import get_logger

log = get_logger("sigmgr.outbox")

#: Events of a row. So many usual ones are less than the 2 KB up to which PostgreSQL leaves a
#: row as it is; of more it would compress or move out a part.
ROW_EVENTS = 16

o = outbox.c
_COLUMNS = (("at", int), ("sdkappid", int), ("size", int), ("events", str))

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(list[Event])
_loose_decoder = msgspec.json.Decoder(list[list[Any]])


@cache
def _add(dialect: Dialect) -> Any:
    """A batch of rows; answers their ids."""
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
    """Write events within a transaction; answers the ids of their rows, which rise."""
    if not events:
        return []
    ids = await connection.scalars(_add(dialect), dialect.parameters(_packed(events)))
    return sorted(ids)


def _packed(events: Iterable[Event]) -> Rows:
    """Rows for these events, the order kept within an app and second."""
    groups: dict[tuple[int, int], list[Event]] = {}
    for event in events:
        groups.setdefault((event.at, event.holder.sdkappid), []).append(event)
    return [
        (at, sdkappid, len(part), _encoder.encode(part).decode())
        for (at, sdkappid), group in groups.items()
        for part in (group[i : i + ROW_EVENTS] for i in range(0, len(group), ROW_EVENTS))
    ]


def _unpacked(rows: Iterable[Any]) -> tuple[list[Event], list[Any]]:
    """The events of these rows, and the rows that could not be read."""
    events: list[Event] = []
    unread: list[Any] = []
    for row in rows:
        try:
            events += _read(row.events)
        except ValueError:
            unread.append(row)
    return events, unread


def _read(text: str) -> list[Event]:
    """Raises ValueError."""
    try:
        return _decoder.decode(text)
    except msgspec.ValidationError:
        known = len(Event._fields)
        return msgspec.convert([one[:known] for one in _loose_decoder.decode(text)], list[Event])


def _report(unread: Iterable[Any]) -> None:
    for row in unread:
        log.error(
            "a row of the outbox could not be read; its events were deleted untold",
            action="outbox-unread",
            row=row.id,
            app=row.sdkappid,
            count=row.size,
        )


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
                rows = await self._engine.rows(_look(), values)
                events, unread = _unpacked(rows)
                yield events
                await self.forget([row.id for row in rows])
        else:
            async with self._engine.write() as connection:
                rows = (await connection.execute(_take(self._engine.dialect), values)).all()
                events, unread = _unpacked(sorted(rows))
                yield events
        _report(unread)

    async def forget(self, ids: Sequence[int]) -> None:
        """See the port. A row may be left where a relay holds it; that relay deletes it."""
        if not ids:
            return
        dialect = self._engine.dialect
        values = dialect.parameters([(i,) for i in ids])
        await self._engine.writing(lambda connection: connection.execute(_forget(dialect), values))

    async def depth(self, now: int) -> tuple[int, int]:
        """See the port."""
        question = select(cast(func.sum(o.size), BigInteger), func.min(o.at))
        [(count, oldest)] = await self._engine.rows(question)
        return (count, max(0, now - oldest)) if count else (0, 0)
