"""The SQLite connection that virtual months use: it works on the loop, and never blocks it."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sigmgr.model import errors
from sigmgr.store.engine import Engine, open_engine

COUNT = "SELECT count(*) FROM t"


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[Engine]:
    opened = open_engine(f"sqlite+aiosqlite:///{tmp_path}/inline.db", inline=True)
    async with opened.write() as connection:
        await connection.exec_driver_sql("CREATE TABLE t (n INTEGER)")
    yield opened
    await opened.close()


async def add(engine: Engine, n: int) -> None:
    async with engine.write() as connection:
        await connection.exec_driver_sql("INSERT INTO t VALUES (?)", (n,))
        await asyncio.sleep(0)


async def count(engine: Engine) -> int:
    async with engine.read() as connection:
        return int((await connection.exec_driver_sql(COUNT)).scalar_one())


async def test_it_starts_no_thread(engine: Engine) -> None:
    before = threading.active_count()
    await asyncio.gather(*(count(engine) for _ in range(4)))
    assert threading.active_count() == before


async def test_writers_take_turns(engine: Engine) -> None:
    await asyncio.gather(*(add(engine, n) for n in range(20)))
    async with engine.read() as connection:
        rows = (await connection.exec_driver_sql("SELECT n FROM t ORDER BY rowid")).scalars()
        assert list(rows) == list(range(20))


async def test_who_reads_beside_a_writer_sees_what_was_before(engine: Engine) -> None:
    async with engine.write() as connection:
        await connection.exec_driver_sql("INSERT INTO t VALUES (1)")
        assert await count(engine) == 0
    assert await count(engine) == 1


async def test_what_raises_is_undone(engine: Engine) -> None:
    with pytest.raises(ZeroDivisionError):
        async with engine.write() as connection:
            await connection.exec_driver_sql("INSERT INTO t VALUES (1)")
            raise ZeroDivisionError
    assert await count(engine) == 0
    await add(engine, 2)
    assert await count(engine) == 1


async def test_a_lock_of_somebody_else_is_an_error_and_no_wait(
    engine: Engine, tmp_path: Path
) -> None:
    other = sqlite3.connect(tmp_path / "inline.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    # To wait on the loop would be for ever: whoever holds the lock may be on it too.
    with pytest.raises(errors.StoreUnavailable):
        await add(engine, 1)
    async with engine.read() as connection:
        patience = await connection.exec_driver_sql("PRAGMA busy_timeout")
        assert patience.scalar_one() == 0
    other.execute("ROLLBACK")
    other.close()
    await add(engine, 1)
    assert await count(engine) == 1


async def test_a_file_that_does_not_open(tmp_path: Path) -> None:
    engine = open_engine(f"sqlite+aiosqlite:///{tmp_path}/none/inline.db", inline=True)
    with pytest.raises(errors.StoreUnavailable):
        await count(engine)
    await engine.close()
