"""Feeds: numbered events for durable readers; fulfils ``ports.EventReader``.

Rules:
1. The outbox gives numbers without gaps, and never twice within a feed. A feed that is switched on
   again continues after its last number, under another id.
2. Switching locks the outbox against inserts for a moment. What committed before is in no feed,
   what commits afterwards is in it.
3. Events are removed from the oldest on, in small batches. A gap before the first one found means
   that events after a cursor are gone.
4. A damaged row is logged and skipped: its numbers are missing.

What this module does not do: give numbers (``outbox``), or know the readers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import cache, partial
from typing import Any, Final

from sqlalchemy import BigInteger, Text, bindparam, func, literal_column, or_, select, text, update
from sqlalchemy.engine import Row
from sqlalchemy.ext.asyncio import AsyncConnection

from sigmgr.model import errors
from sigmgr.model.cursor import Cursor
from sigmgr.ports import Numbered, Page
from sigmgr.store.dialect import SQLITE, Dialect
from sigmgr.store.engine import Engine
from sigmgr.store.outbox import read
from sigmgr.store.tables import events, feeds, outbox
from sigmgr.telemetry import get_logger

log = get_logger("sigmgr.feeds")

#: How long events are kept, in seconds.
KEPT_FOR: Final = 7 * 86_400
#: More events than any row has. Bounds the walk over the index; the outbox packs far fewer.
_LARGEST_ROW: Final = 256
#: Seconds for one try to lock the outbox; writers wait meanwhile, and work between two tries.
_HOLD: Final = 0.3
_TRIES: Final = 20

e = events.c
f = feeds.c


@cache
def _feed() -> Any:
    row = select(f.feed, f.number, f.start).where(f.sdkappid == bindparam("sdkappid"))
    return row.where(f.feed != "")


@cache
def _oldest() -> Any:
    """The number before the first that is kept."""
    rows = select(e.number - e.size).where(
        e.sdkappid == bindparam("sdkappid"), e.number > bindparam("start", type_=BigInteger)
    )
    return rows.order_by(e.number).limit(1)


@cache
def _after() -> Any:
    after, until = bindparam("after", type_=BigInteger), bindparam("until", type_=BigInteger)
    rows = select(e.number, e.size, e.events).where(
        e.sdkappid == bindparam("sdkappid"),
        e.number > after,
        e.number - e.size < until,
        e.number < until + _LARGEST_ROW,
    )
    return rows.order_by(e.number)


@cache
def _forget(dialect: Dialect) -> Any:
    """Delete what is past among the ``limit`` oldest rows of an app, and all before it."""
    mine = e.sdkappid == bindparam("sdkappid")
    limit = bindparam("limit", type_=BigInteger)
    oldest = select(e.number, e.at).where(mine).order_by(e.number).limit(limit).subquery("oldest")
    past = select(func.max(oldest.c.number)).where(
        or_(
            oldest.c.at <= bindparam("before", type_=BigInteger),
            oldest.c.number <= bindparam("start", type_=BigInteger),
        )
    )
    found = select(dialect.location(events)).where(mine, e.number <= past.scalar_subquery())
    found = found.order_by(e.number).with_for_update(skip_locked=True)
    return events.delete().where(dialect.located(events, found))


# Switching


async def switch(engine: Engine, sdkappid: int, *, on: bool) -> None:
    """Switch the feed of a known app. The same state again changes nothing. Raises StoreUnavailable
    where writers kept the outbox locked."""
    for left in reversed(range(_TRIES)):
        try:
            async with engine.write(lock=_HOLD) as connection:
                await switch_within(connection, engine.dialect, sdkappid, on=on)
                return
        except errors.StoreUnavailable as error:
            if not left or isinstance(error, errors.StoreRefuses):
                raise
        await asyncio.sleep(_HOLD)


async def switch_within(
    connection: AsyncConnection, dialect: Dialect, sdkappid: int, *, on: bool
) -> None:
    """The same within a transaction, which must be short: writers wait for its end."""
    if on:
        row = dialect.insert(feeds).values(sdkappid=sdkappid)
        await connection.execute(row.on_conflict_do_nothing())
    mine = f.sdkappid == sdkappid
    feed = await connection.scalar(select(f.feed).where(mine).with_for_update())
    if bool(feed) == on:
        return
    if dialect is not SQLITE:
        await connection.execute(text("LOCK TABLE outbox IN SHARE ROW EXCLUSIVE MODE"))
    if on:
        new = {
            "feed": literal_column(dialect.random_text, Text),
            "start": f.number,
            "history": literal_column(dialect.history, Text),
        }
        await connection.execute(update(feeds).where(mine).values(new))
        return
    await connection.execute(update(feeds).where(mine).values(feed="", start=f.number))
    waiting = (outbox.c.sdkappid == sdkappid, outbox.c.waits)
    await connection.execute(outbox.delete().where(*waiting, outbox.c.announced))
    await connection.execute(update(outbox).where(*waiting).values(waits=False))


# Reading


class SqlEventReader:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def read(self, sdkappid: int, after: Cursor | None, limit: int) -> Page:
        return await self._engine.reading(partial(_page, sdkappid, after, limit))


async def _page(
    sdkappid: int, after: Cursor | None, limit: int, connection: AsyncConnection
) -> Page:
    feed = (await connection.execute(_feed(), {"sdkappid": sdkappid})).first()
    if feed is None:
        raise errors.FeedOff(f"app {sdkappid} has no feed")
    if after is None:
        after = await _begin(connection, sdkappid, feed)
    if after.feed != feed.feed or not 0 <= after.number <= feed.number:
        raise errors.CursorUnknown(begin=await _begin(connection, sdkappid, feed))
    until = min(after.number + limit, feed.number)
    values = {"sdkappid": sdkappid, "after": after.number, "until": until}
    rows = (await connection.execute(_after(), values)).all()
    first = rows[0].number - rows[0].size if rows else until
    if after.number < max(first, feed.start):
        raise errors.CursorExpired(begin=await _begin(connection, sdkappid, feed))
    return Page(_events(sdkappid, rows, after.number, until), Cursor(feed.feed, until), feed.number)


async def _begin(connection: AsyncConnection, sdkappid: int, feed: Row[Any]) -> Cursor:
    values = {"sdkappid": sdkappid, "start": feed.start}
    oldest = await connection.scalar(_oldest(), values)
    return Cursor(feed.feed, feed.number if oldest is None else oldest)


def _events(sdkappid: int, rows: Sequence[Any], after: int, until: int) -> list[Numbered]:
    found: list[Numbered] = []
    for number, size, document in rows:
        try:
            some = read(document)
            if len(some) != size:
                raise ValueError  # noqa: TRY301  as damaged as one that cannot be parsed
        except ValueError:
            log.error(  # noqa: TRY400  the cause would show what the row holds
                "a row of events could not be read; their numbers are passed over",
                action="events-unread",
                app=sdkappid,
                number=number,
                count=size,
            )
            continue
        found += map(Numbered, range(number - size + 1, number + 1), some)
    return [one for one in found if after < one.number <= until]


# Removal


async def forget(engine: Engine, now: int, limit: int) -> int:
    """Delete up to ``limit`` rows of each app that are past; answers how many of the fullest
    app."""
    most = 0
    for sdkappid, start in await engine.rows(select(f.sdkappid, f.start)):
        values = {"sdkappid": sdkappid, "start": start, "limit": limit, "before": now - KEPT_FOR}
        most = max(most, await engine.changed(_forget(engine.dialect), values))
    return most
