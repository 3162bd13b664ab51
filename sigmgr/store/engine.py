"""Opens a database of either kind.

Rules:
1. We send BEGIN ourselves. On PostgreSQL the time limits are in the message that begins, for this
   transaction only: that works behind PgBouncer in transaction mode, where settings of a session
   would leak or be refused. SQLite's driver would begin too late and lose updates, so a write there
   begins IMMEDIATE.
2. A process has the configured number of connections to PostgreSQL, and one for its looks.

What this module does not do: use them (``database``).
"""

from __future__ import annotations

from functools import partial
from typing import Final

from sqlalchemy import URL, exc, make_url, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from sigmgr.model import errors
from sigmgr.store import connect_errors, postgres, sqlite
from sigmgr.store.database import Engine, Kind, Patience
from sigmgr.store.dialect import POSTGRES, SQLITE

#: A living server ends a statement in time and keeps the connection; the answer is given up only
#: this much later.
_LATER: Final = 1.1

__all__ = ["Engine", "Patience", "database_time", "open_engine"]


def open_engine(
    url: str,
    *,
    pool_size: int = 10,
    connect_timeout: float = 5.0,
    statement_timeout_ms: int = 15_000,
    lock_timeout_ms: int = 5_000,
    idle_timeout_ms: int = 10_000,
    inline: bool = False,
    create: bool = True,
) -> Engine:
    """Open a database by its URL; nothing is connected yet. Raises BadSettings.

    ``sqlite+aiosqlite:///FILE``, ``sqlite+aiosqlite:///:memory:`` (a private file, deleted when
    closed: several connections must see the same data) or ``postgresql+psycopg://USER@HOST/NAME``.
    The timeouts bound a statement, the wait for a lock, and how long a transaction may be idle
    before the server ends it. ``inline`` runs SQLite on the event loop: see ``store.inline``.
    ``create``: a missing SQLite file is made, for its owner alone.
    """
    parsed = _parsed(url)
    lock = lock_timeout_ms / 1000
    if parsed.get_backend_name() == "sqlite":
        kind = _sqlite(parsed, lock, inline=inline, create=create)
        return Engine(kind, size=pool_size, patience=Patience(lock, lock, lock))
    kind = _postgres(parsed, pool_size, connect_timeout, idle_timeout_ms / 1000)
    statement = statement_timeout_ms / 1000
    patience = Patience(statement, statement * _LATER, lock)
    return Engine(kind, size=pool_size, patience=patience)


def _postgres(url: URL, size: int, connect_timeout: float, idle: float) -> Kind:
    pools: list[postgres.PoolState] = []

    def open_pool(size: int) -> AsyncEngine:
        pools.append(postgres.PoolState())
        return postgres.open_postgres(url, pools[-1], size, connect_timeout=connect_timeout)

    def be_patient(connection: AsyncConnection, seconds: float | None) -> None:
        assert connection.sync_connection is not None
        postgres.driver_of(connection.sync_connection.connection).patience = seconds

    async def close() -> None:
        for pool in pools:
            await pool.ended()

    return Kind(
        dialect=POSTGRES,
        open_pool=open_pool,
        begin=lambda limit, lock, durable: postgres.begin_message(
            limit / _LATER, lock, idle, durable=durable
        ),
        writers=max(1, size - max(1, size // 4)),
        be_patient=be_patient,
        close=close,
    )


def _sqlite(url: URL, lock: float, *, inline: bool, create: bool) -> Kind:
    url, private = sqlite.with_file(url)
    threads = sqlite.Threads()

    async def close() -> None:
        # A thread is busy no longer than it waits for the file's lock.
        await threads.ended(lock + 1)
        if private is not None:
            private.cleanup()

    return Kind(
        dialect=SQLITE,
        open_pool=partial(
            sqlite.open_sqlite,
            url,
            threads,
            lock_timeout=lock,
            inline=inline,
            create=create or private is not None,
        ),
        begin=lambda limit, lock, durable: "BEGIN IMMEDIATE",
        writers=1,
        be_patient=lambda connection, seconds: None,
        close=close,
    )


def _parsed(url: str) -> URL:
    try:
        parsed = make_url(url)
    except (exc.ArgumentError, ValueError):
        # The text of the cause would show the URL, and with it a password.
        raise errors.BadSettings(
            "the database URL cannot be read", advice=connect_errors.ESCAPES
        ) from None
    if parsed.get_backend_name() not in {"sqlite", "postgresql"}:
        raise errors.BadSettings(
            f"the database is sqlite+aiosqlite or postgresql+psycopg, not {parsed.drivername}"
        )
    if parsed.get_backend_name() == "postgresql":
        connect_errors.check_password(parsed, url)
    return parsed


async def database_time(engine: Engine) -> float:
    """The database's clock in Unix seconds, for comparison with ours."""
    [(second,)] = await engine.rows(text(f"SELECT {engine.dialect.second}"))
    return float(second)
