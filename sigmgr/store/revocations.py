"""Revocations as rows, and the look; fulfils ``ports.Looks``.

Rules:
1. One row for each user, app, or all that were revoked and whose sigs may live; a later revocation
   raises it. ``at`` is the database's own second of the last write, so that readers ask what is new
   by one clock.
2. A row may become visible later than its ``at``: see ``flow/look``.
3. The look is one statement over its own connection: the database's second, numbers that change
   with the state of any key or API token, and new revocations.

What this module does not do: decide when to look.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, Final

from sqlalchemy import BigInteger, bindparam, func, literal_column, select, text, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from sigmgr.model.revocation import Revocation
from sigmgr.ports import LookResult
from sigmgr.store.dialect import SQLITE, TRUE, Dialect
from sigmgr.store.engine import Engine
from sigmgr.store.tables import revocations

r = revocations.c
_COLUMNS = (("sdkappid", int), ("userid", str), ("until", int), ("forget_at", int))

#: Of the state of each row: no changes make up for each other.
_MARK: Final = {
    "postgresql": "SELECT md5(string_agg(id || ' ' || {0}, ' ' ORDER BY id)) FROM {1}",
    "sqlite": "SELECT group_concat(id || ' ' || {0}, ' ') FROM {1}",
}

_UNTIL: Final = text(
    "SELECT max(until) FROM revocations"
    " WHERE (sdkappid = :sdkappid AND userid IN (:userid, '')) OR (sdkappid = 0 AND userid = '')"
)


@cache
def _look(dialect: Dialect) -> Any:
    mark = _MARK[dialect.name].format
    return text(
        f"SELECT {dialect.second} AS second,"  # noqa: S608 - constants
        f" ({mark('state', 'keys')}) AS keys, ({mark('revoked_at', 'tokens')}) AS tokens,"
        " r.sdkappid, r.userid, r.until, r.forget_at"
        " FROM (SELECT 1 AS one) AS o LEFT JOIN revocations AS r ON r.at >= :since"
    )


@cache
def _write(dialect: Dialect) -> Any:
    batch = dialect.batch(*_COLUMNS)
    names = [name for name, _ in _COLUMNS]
    second = literal_column(f"CAST({dialect.second} AS BIGINT)", BigInteger)
    rows = select(*(batch.c[name] for name in names), second.label("at")).where(TRUE)
    insert = dialect.insert(revocations).from_select([*names, "at"], rows)
    new, greatest = insert.excluded, func.max if dialect is SQLITE else func.greatest
    raised = {
        "until": greatest(r.until, new.until),
        "forget_at": greatest(r.forget_at, new.forget_at),
        "at": new.at,
    }
    return insert.on_conflict_do_update(index_elements=["sdkappid", "userid"], set_=raised)


@cache
def _page(*, first: bool) -> Any:
    rows = select(r.sdkappid, r.userid, r.until, r.forget_at)
    rows = rows.where(r.forget_at > bindparam("now", type_=BigInteger))
    if not first:
        position = tuple_(bindparam("sdkappid", type_=BigInteger), bindparam("userid"))
        rows = rows.where(tuple_(r.sdkappid, r.userid) > position)
    return rows.order_by(r.sdkappid, r.userid).limit(bindparam("limit", type_=BigInteger))


@cache
def _lag(dialect: Dialect) -> Any:
    return text(
        f"SELECT {dialect.second} - at FROM revocations"  # noqa: S608 - a constant
        " WHERE sdkappid = :sdkappid AND userid = :userid"
    )


@cache
def _forget(dialect: Dialect) -> Any:
    """Delete ``limit`` rows whose sigs have all expired ``now``."""
    past = select(dialect.location(revocations))
    past = past.where(r.forget_at <= bindparam("now", type_=BigInteger)).order_by(r.forget_at)
    past = past.limit(bindparam("limit", type_=BigInteger)).with_for_update(skip_locked=True)
    return revocations.delete().where(dialect.located(revocations, past))


async def write(connection: Any, dialect: Dialect, rows: Sequence[Revocation]) -> None:
    """Write revocations within a transaction, in order, so that two writers cannot deadlock."""
    ordered = [tuple(row) for row in sorted(rows)]
    await connection.execute(_write(dialect), dialect.parameters(ordered))


class SqlLooks:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def look(self, since: int) -> LookResult:
        statement = _look(self._engine.dialect)

        async def ask(connection: AsyncConnection) -> Sequence[Any]:
            return (await connection.execute(statement, {"since": since})).all()

        rows = await self._engine.looking(ask)
        found = [Revocation(*row[3:]) for row in rows if row[3] is not None]
        second, keys, tokens = rows[0][:3]
        return LookResult(float(second), keys or "", tokens or "", found)

    async def revocations(self, after: Revocation | None, limit: int, now: int) -> list[Revocation]:
        position = {} if after is None else {"sdkappid": after.sdkappid, "userid": after.userid}
        values = {"limit": limit, "now": now, **position}
        rows = await self._engine.rows(_page(first=after is None), values)
        return [Revocation(*row) for row in rows]

    async def revoked_until(self, sdkappid: int, userid: str) -> int:
        values = {"sdkappid": sdkappid, "userid": userid}
        [(until,)] = await self._engine.rows(_UNTIL, values)
        return int(until or 0)

    async def since_written(self, revocation: Revocation) -> float:
        values = {"sdkappid": revocation.sdkappid, "userid": revocation.userid}
        [(lag,)] = await self._engine.rows(_lag(self._engine.dialect), values)
        return float(lag)

    async def forget_revocations(self, now: int, limit: int) -> int:
        values = {"now": now, "limit": limit}
        return await self._engine.changed(_forget(self._engine.dialect), values)
