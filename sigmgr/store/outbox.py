"""Events that wait to be announced, or for their numbers; fulfils ``ports.Outbox``.

Rules:
1. An event is written in the transaction of its cause. Events of one transaction, one app and one
   second share rows, a few each.
2. The insert itself reads whether the app's feed is on, and so whether the row waits for numbers.
   Switching a feed locks the table against inserts (``feeds``), so a commit is either wholly before
   the switch or sees it.
3. A row is deleted when its events are announced and wait for no number. The order of ids is not
   the order of commits, so no reader keeps a cursor over them.
4. One relay at a time gives numbers, under a lock of the app's row in ``feeds``, in the order of
   ids and without skipping an existing row. So numbers have no gaps, a row that commits late gets
   later ones, and events of one holder, each appended under the lock of its row, keep their order.
5. A sweeping relay holds row locks while it waits for Redis, and takes only rows that wait for no
   number, so a dead Redis does not stop numbering. SQLite has no row locks, and a write transaction
   during a slow Redis call would stop every request: there the relays of one process take turns,
   and two processes on one file may announce an event twice.
6. A row of a newer version, whose events have more fields, is read without those. A damaged one is
   logged and deleted with its batch, which it must not block; it still gets its numbers.

What this module does not do: announce, or read numbered events (``feeds``).
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterable, Sequence
from functools import cache, partial
from typing import Any

import msgspec
from sqlalchemy import (
    BigInteger,
    Select,
    Text,
    bindparam,
    cast,
    exists,
    func,
    literal_column,
    select,
    update,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from sigmgr.model.event import Event
from sigmgr.store.dialect import SQLITE, TRUE, Dialect, Rows
from sigmgr.store.engine import Engine
from sigmgr.store.tables import events as numbered
from sigmgr.store.tables import feeds, outbox
from sigmgr.telemetry import get_logger

log = get_logger("sigmgr.outbox")

#: Events of a row. So many are usually less than the 2 KB above which PostgreSQL would compress a
#: row or move it out.
ROW_EVENTS = 16

o = outbox.c
f = feeds.c
_COLUMNS = (("at", int), ("sdkappid", int), ("size", int), ("events", str))

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(list[Event])
_loose_decoder = msgspec.json.Decoder(list[list[Any]])


@cache
def _add(dialect: Dialect) -> Any:
    batch = dialect.batch(*_COLUMNS)
    names = [name for name, _ in _COLUMNS]
    waits = exists().where(f.sdkappid == batch.c.sdkappid, f.feed != "")
    rows = select(*(batch.c[name] for name in names), waits).where(TRUE).order_by(batch.c.n)
    return outbox.insert().from_select([*names, "waits"], rows).returning(o.id)


def _oldest(*columns: Any) -> Select[Any]:
    """The ``limit`` oldest from ``before`` or earlier that wait for no number, locked."""
    rows = select(*columns).where(o.at <= bindparam("before"), ~o.waits).order_by(o.id)
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
    """Delete those of a batch of ids that wait for no number. Rows locked by a sweep are left to
    it, so that nobody waits for Redis."""
    done = select(dialect.location(outbox)).where(dialect.among(o.id), ~o.waits)
    done = done.with_for_update(skip_locked=True)
    return outbox.delete().where(dialect.located(outbox, done))


@cache
def _lock_waiting(dialect: Dialect) -> Any:
    """Those of a batch of ids that wait for numbers, locked in the order of numbering."""
    rows = select(o.id).where(dialect.among(o.id), o.waits)
    return rows.order_by(o.id).with_for_update()


@cache
def _mark(dialect: Dialect) -> Any:
    return update(outbox).where(dialect.among(o.id), o.waits).values(announced=True)


# Numbers


@cache
def _unnumbered() -> Any:
    waiting = exists().where(o.sdkappid == f.sdkappid, o.waits)
    return select(f.sdkappid).where(waiting).order_by(f.sdkappid)


@cache
def _counter(dialect: Dialect) -> Any:
    """An app's counter, locked; nothing where the feed is off or another relay has it."""
    here = literal_column(dialect.history, Text).label("here")
    row = select(f.feed, f.number, f.history, here)
    row = row.where(f.sdkappid == bindparam("sdkappid"), f.feed != "")
    return row.with_for_update(skip_locked=True)


@cache
def _waiting() -> Any:
    """The first waiting rows, locked; waits for a row that is being marked."""
    rows = select(o.id, o.size).where(o.sdkappid == bindparam("sdkappid"), o.waits)
    return rows.order_by(o.id).limit(bindparam("limit", type_=BigInteger)).with_for_update()


@cache
def _keep(dialect: Dialect) -> Any:
    """Copy a batch of rows, numbered on from ``number``."""
    last = func.sum(o.size).over(order_by=o.id)
    number = bindparam("number", type_=BigInteger) + cast(last, BigInteger)
    at = bindparam("at", type_=BigInteger)
    rows = select(o.sdkappid, number, o.size, at, o.events).where(dialect.among(o.id))
    return numbered.insert().from_select([*numbered.c.keys()], rows)


@cache
def _leave(dialect: Dialect) -> tuple[Any, Any]:
    """Update or delete a batch of rows that have their numbers."""
    mine = dialect.among(o.id)
    return outbox.delete().where(mine, o.announced), update(outbox).where(mine).values(waits=False)


def _count(**values: Any) -> Any:
    return update(feeds).where(f.sdkappid == bindparam("app")).values(**values)


async def append(
    connection: AsyncConnection, dialect: Dialect, events: Sequence[Event]
) -> list[int]:
    """Write events within a transaction; answers the ids of their rows, in rising order."""
    if not events:
        return []
    ids = await connection.scalars(_add(dialect), dialect.parameters(_packed(events)))
    return sorted(ids)


def _packed(events: Iterable[Event]) -> Rows:
    groups: dict[tuple[int, int], list[Event]] = {}
    for event in events:
        groups.setdefault((event.at, event.holder.sdkappid), []).append(event)
    return [
        (at, sdkappid, len(part), _encoder.encode(part).decode())
        for (at, sdkappid), group in groups.items()
        for part in (group[i : i + ROW_EVENTS] for i in range(0, len(group), ROW_EVENTS))
    ]


def _unpacked(rows: Iterable[Any]) -> tuple[list[Event], list[Any]]:
    events: list[Event] = []
    unread: list[Any] = []
    for row in rows:
        try:
            events += read(row.events)
        except ValueError:
            unread.append(row)
    return events, unread


def read(text: str) -> list[Event]:
    """The events of a row. Raises ValueError."""
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
    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        # The last number of each feed that this process knows of.
        self._known: dict[int, tuple[str, int]] = {}

    @contextlib.asynccontextmanager
    async def take(self, limit: int, before: int) -> AsyncIterator[list[Event]]:
        values = {"limit": limit, "before": before}
        if self._engine.dialect is SQLITE:
            async with self._engine.relay_turn:
                rows = await self._engine.rows(_look(), values)
                events, unread = _unpacked(rows)
                yield events
                await self.mark_announced([row.id for row in rows])
        else:
            async with self._engine.write() as connection:
                rows = (await connection.execute(_take(self._engine.dialect), values)).all()
                events, unread = _unpacked(sorted(rows))
                yield events
        _report(unread)

    async def mark_announced(self, ids: Sequence[int]) -> None:
        """One statement where nothing waits for numbers. A row locked by a sweep is left to it. It
        need not be durable: what a crash brings back is announced twice, which readers bear."""
        if not ids:
            return
        await self._engine.writing(partial(self._mark_announced, ids), durable=False)

    async def _mark_announced(self, ids: Sequence[int], connection: AsyncConnection) -> None:
        dialect = self._engine.dialect
        values = dialect.parameters([(i,) for i in ids])
        done = (await connection.execute(_forget(dialect), values)).rowcount
        if done == len(ids):
            return
        waiting = (await connection.scalars(_lock_waiting(dialect), values)).all()
        if waiting:
            theirs = dialect.parameters([(i,) for i in waiting])
            await connection.execute(_mark(dialect), theirs)
        if done + len(waiting) < len(ids):
            # Some got their numbers between the two statements.
            await connection.execute(_forget(dialect), values)

    async def depth(self, now: int) -> tuple[int, int]:
        question = select(cast(func.sum(o.size), BigInteger), func.min(o.at))
        [(count, oldest)] = await self._engine.rows(question)
        return (count, max(0, now - oldest)) if count else (0, 0)

    async def unnumbered(self) -> list[int]:
        return [sdkappid for (sdkappid,) in await self._engine.rows(_unnumbered())]

    async def number(self, sdkappid: int, now: int, limit: int) -> int:
        count, known = await self._engine.writing(partial(self._number, sdkappid, now, limit))
        if known is not None:
            self._known[sdkappid] = known
        return count

    async def _number(
        self, sdkappid: int, now: int, limit: int, connection: AsyncConnection
    ) -> tuple[int, tuple[str, int] | None]:
        """How many events got numbers, and the feed's last number then."""
        dialect, app = self._engine.dialect, {"sdkappid": sdkappid}
        counter = (await connection.execute(_counter(dialect), app)).first()
        if counter is None:
            return 0, None
        feed, number, history, here = counter
        if history != here or self._is_ahead(sdkappid, feed, number):
            feed = await self._begin_anew(connection, sdkappid, here)
        rows = (await connection.execute(_waiting(), {**app, "limit": limit})).all()
        count = sum(row.size for row in rows)
        if rows:
            values = dialect.parameters([(row.id,) for row in rows])
            await connection.execute(_keep(dialect), {**values, "number": number, "at": now})
            await connection.execute(_count(number=number + count), {"app": sdkappid})
            for statement in _leave(dialect):
                await connection.execute(statement, values)
        return count, (feed, number + count)

    def _is_ahead(self, sdkappid: int, feed: str, number: int) -> bool:
        """This process knows of numbers that the database has not given: it was restored."""
        known_feed, known = self._known.get(sdkappid, ("", 0))
        return feed == known_feed and number < known

    async def _begin_anew(self, connection: AsyncConnection, sdkappid: int, here: str) -> str:
        """A new id for the feed, since its next numbers were given to other events before."""
        new = _count(feed=literal_column(self._engine.dialect.random_text), history=here)
        feed = await connection.scalar(new.returning(f.feed), {"app": sdkappid})
        log.warning(
            "the database was restored or failed over; readers of this app's events begin anew",
            action="feed-restored",
            app=sdkappid,
        )
        return str(feed)
