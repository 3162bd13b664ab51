"""Facts in SQL; fulfils ``ports.Store`` and ``ports.Janitor``.

Rules:
1. Writes go through :meth:`SqlStore.transaction`, except two without events: marking users as seen,
   and deleting what is past.
2. Batches are cut, so that no statement holds locks for long.

What this module does not do: migrate, or manage apps and keys (``migrate``, ``catalog``).
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import TypeVar

from sqlalchemy.ext.asyncio import AsyncConnection

from sigmgr.model.holder import Holder
from sigmgr.model.sig import Record
from sigmgr.store import feeds
from sigmgr.store import holders as statements
from sigmgr.store.engine import Engine
from sigmgr.store.transaction import Memory, RevokedUntil, SqlTransaction

T = TypeVar("T")

#: Rows of one statement of a cut batch.
CUT = 1000


class SqlStore:
    """``revoked_until`` is this process's knowledge of a user's revocations; it is applied to the
    rows that are read, since a revocation of all users is not written into them."""

    def __init__(self, engine: Engine, revoked_until: RevokedUntil = lambda app, userid: 0) -> None:
        self._engine = engine
        self._dialect = engine.dialect
        self._memory = Memory(revoked_until)

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator[SqlTransaction]:
        try:
            async with self._engine.write() as connection:
                yield SqlTransaction(connection, self._dialect, self._memory)
        except BaseException:
            # Claimed rows are free again, before the position where the next claim would go on.
            self._memory.horizons.clear()
            raise

    async def find(self, holders: Sequence[Holder]) -> list[Record | None]:
        rows: dict[Holder, Record] = {}
        for wanted in _cut(sorted(set(holders))):
            found = await self._engine.rows(
                statements.named(self._dialect), self._dialect.parameters(wanted)
            )
            rows |= {record.holder: record for record in map(self._memory.record, found)}
        return [rows.get(holder) for holder in holders]

    async def of_user(self, sdkappid: int, userid: str) -> list[Record]:
        [rows] = await self.of_users([Holder(sdkappid, userid)])
        return rows

    async def of_users(self, users: Sequence[Holder]) -> list[list[Record]]:
        rows: dict[tuple[int, str], list[Record]] = {(u.sdkappid, u.userid): [] for u in users}
        for wanted in _cut(sorted(rows)):
            found = await self._engine.rows(
                statements.of_users(self._dialect), self._dialect.parameters(wanted)
            )
            for record in map(self._memory.record, found):
                rows[record.sdkappid, record.userid].append(record)
        return [sorted(rows[u.sdkappid, u.userid]) for u in users]

    async def count(self, sdkappid: int, most: int) -> int:
        [(found,)] = await self._engine.rows(
            statements.count(), {"sdkappid": sdkappid, "limit": most}
        )
        return int(found)

    async def page(self, after: Holder | None, limit: int) -> list[Record]:
        values = {"limit": limit, **(after._asdict() if after is not None else {})}
        rows = await self._engine.rows(statements.page(first=after is None), values)
        return list(map(self._memory.record, rows))

    async def apps_with_due(self, now: int) -> list[int]:
        """The nearest by the first few rows of each app, not by all."""
        rows = await self._engine.rows(statements.apps_tracked(), {"now": now})
        nearest = [
            (min(expiry for expiry in (overdue, ahead) if expiry is not None), sdkappid)
            for sdkappid, overdue, ahead in rows
            if overdue is not None
        ]
        return [sdkappid for _, sdkappid in sorted(nearest)]

    async def mark_seen(self, seen: Sequence[tuple[Holder, int]]) -> None:
        latest: dict[tuple[int, str], int] = {}
        for holder, at in seen:
            user = (holder.sdkappid, holder.userid)
            latest[user] = max(at, latest.get(user, at))
        for users in _cut(sorted(latest.items())):
            await self._engine.writing(
                partial(self._mark_seen, [(*user, at) for user, at in users])
            )

    async def _mark_seen(
        self, seen: Sequence[tuple[int, str, int]], connection: AsyncConnection
    ) -> None:
        found = await connection.execute(
            statements.seen_earlier(self._dialect), self._dialect.parameters(seen)
        )
        rows = [tuple(row) for row in found]
        if rows:
            await connection.execute(
                statements.mark_seen(self._dialect), self._dialect.parameters(rows)
            )


class SqlJanitor:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def forget_past(self, now: int, limit: int) -> int:
        statement = statements.forget_past(self._engine.dialect)
        return await self._engine.changed(statement, {"now": now, "limit": limit})

    async def forget_events(self, now: int, limit: int) -> int:
        return await feeds.forget(self._engine, now, limit)


def _cut(items: Sequence[T]) -> Iterator[list[T]]:
    rest = iter(items)
    while part := list(islice(rest, CUT)):
        yield part
