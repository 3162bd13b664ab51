"""The errors of the store when the database fails, and the limits it sets."""

from __future__ import annotations

import asyncio

import pytest

from sigmgr.model import errors
from sigmgr.store.engine import database_time, open_engine
from sigmgr.store.stores import SqlStore
from tests.contract.store_kit import KINDS, NOW, holder, opened, record, url_of


@pytest.fixture(params=KINDS)
async def db(request, tmp_path):
    async with opened(url_of(request, request.param, tmp_path)) as database:
        yield database


async def test_a_missing_schema_is_named(request, tmp_path):
    for kind in KINDS:
        engine = open_engine(url_of(request, kind, tmp_path, empty=True))
        with pytest.raises(errors.NotMigrated) as caught:
            await SqlStore(engine).find([holder(1)])
        assert caught.value.__cause__ is not None
        with pytest.raises(errors.NotMigrated):
            async with SqlStore(engine).transaction() as tx:
                await tx.lock([holder(1)])
        await engine.close()


async def test_an_absent_server_is_unavailable_and_the_text_has_no_password():
    engine = open_engine("postgresql+psycopg://me:hunter2@127.0.0.1:1/none")
    with pytest.raises(errors.StoreUnavailable) as caught:
        await SqlStore(engine).find([holder(1)])
    assert "hunter2" not in caught.value.text
    assert caught.value.__cause__ is not None
    await engine.close()


@pytest.mark.parametrize(
    "url", ["", "no url", "mysql://u:hunter2@h/d", "postgresql://[::1/x:hunter2"]
)
def test_a_bad_url_is_a_setting(url):
    with pytest.raises(errors.BadSettings) as caught:
        open_engine(url)
    assert "hunter2" not in caught.value.text


async def test_whoever_waits_too_long_for_a_lock_gets_an_error(request, tmp_path):
    for kind in KINDS:
        url = url_of(request, kind, tmp_path)
        async with opened(url, lock_timeout_ms=200) as db:
            await db.put([record(1)])
            async with db.store.transaction() as tx:
                await tx.lock([holder(1)])
                with pytest.raises(errors.StoreUnavailable):
                    async with db.store.transaction() as other:
                        await other.lock([holder(1)])
            async with db.store.transaction() as tx:
                await tx.lock([holder(1)])


async def test_no_free_connection_is_unavailable(postgres_url):
    small = {"pool_size": 1, "statement_timeout_ms": 500}
    async with opened(postgres_url, **small) as db, db.store.transaction():
        with pytest.raises(errors.PoolFull, match="the 1 connections of this process"):
            await db.get(holder(1))
        with pytest.raises(errors.PoolFull):
            async with db.store.transaction():
                pass


async def test_limits_hold_in_a_transaction_and_leave_nothing_behind(postgres_url):
    """As it must be behind a pooler that hands connections from one to another."""
    limits = "SELECT current_setting('statement_timeout'), current_setting('lock_timeout')"
    async with opened(postgres_url, pool_size=1, statement_timeout_ms=300) as db:
        async with db.engine.write() as connection:
            assert (await connection.exec_driver_sql(limits)).one() == ("300ms", "5s")
        async with db.engine.read() as connection:
            assert (await connection.exec_driver_sql(limits)).one() == ("0", "0")
            prepared = await connection.exec_driver_sql(
                "SELECT count(*) FROM pg_prepared_statements"
            )
            assert prepared.scalar_one() == 0
        with pytest.raises(errors.StoreUnavailable):
            async with db.engine.write() as connection:
                await connection.exec_driver_sql("SELECT pg_sleep(2)")
        with pytest.raises(errors.StoreUnavailable, match="within"):
            async with db.engine.read() as connection:
                await connection.exec_driver_sql("SELECT pg_sleep(2)")


async def test_memory_is_one_database_for_all_connections_and_private():
    url = "sqlite+aiosqlite:///:memory:"
    async with opened(url) as db, opened(url) as other:
        await db.put([record(1)])
        async with db.store.transaction() as tx:
            await tx.save([(record(1, reason="Forced"), NOW)])
            assert await db.get(holder(1)) == record(1), "uncommitted work is not seen"
        assert (await db.get(holder(1))).reason == "Forced"
        assert await other.get(holder(1)) is None


async def test_a_cancelled_transaction_is_rolled_back_and_frees_its_place(db):
    await db.put([record(1)])

    async def hang() -> None:
        async with db.store.transaction() as tx:
            await tx.save([(record(1, reason="Forced"), NOW)])
            await asyncio.sleep(60)

    task = asyncio.create_task(hang())
    await asyncio.sleep(0.1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with db.store.transaction() as tx:
        assert await tx.lock([holder(1)]) == [record(1)]


async def test_the_database_has_a_clock(db):
    first = await database_time(db.engine)
    assert 1_700_000_000 < first <= await database_time(db.engine) < first + 60
