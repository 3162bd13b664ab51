"""A PostgreSQL that hangs, connections open and nothing answered: nobody waits beyond his limit.

Limits are of half a second or one, and the driver by itself would wait for ten and more; what
a busy machine adds is in between.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Iterator

import psycopg
import pytest
from sqlalchemy import text

from sigmgr.model import errors
from sigmgr.store import pool
from sigmgr.store.engine import Engine, Patience, open_engine
from sigmgr.store.stores import SqlStore
from tests.conftest import started
from tests.contract.store_kit import KINDS, Database, holder, opened, record, url_of
from tests.servers import PostgresServer

#: Later than any limit here, sooner than the driver.
SOON = 4.0
ONE, SLEEP = text("SELECT 1"), text("SELECT pg_sleep(30)")


@pytest.fixture(scope="module")
def own_server() -> Iterator[PostgresServer]:
    server = started(PostgresServer)
    yield server
    server.close()


@pytest.fixture
async def db(own_server: PostgresServer) -> AsyncIterator[Database]:
    """Over a server of its own, with two connections that are open already."""
    async with opened(own_server.url(own_server.create_database()), pool_size=4) as database:
        await database.put([record(i) for i in range(10)])
        await asyncio.gather(*(database.get(holder(i)) for i in range(10)))
        yield database
        own_server.resume()


@contextlib.contextmanager
def hung(server: PostgresServer) -> Iterator[None]:
    server.pause()
    try:
        yield
    finally:
        server.resume()


def answers(engine: Engine) -> bool:
    """Whether the looks say that its database answers."""
    return not engine._silence


async def ended_soon(*calls: Awaitable[object]) -> list[BaseException | object]:
    began = time.monotonic()
    ends = await asyncio.gather(*calls, return_exceptions=True)
    assert time.monotonic() - began < SOON
    return ends


async def look(connection):
    return (await connection.exec_driver_sql("SELECT 1")).scalar_one()


async def test_reads_end_with_their_limit(db, own_server, caplog):
    with hung(own_server):
        ends = await ended_soon(*(db.engine.rows(ONE, limit=0.5) for _ in range(30)))
        assert {type(end) for end in ends} <= {errors.StoreUnavailable, errors.PoolFull}
        # And the next ones, whose connections are gone, while others are still being ended.
        ends = await ended_soon(*(db.engine.rows(ONE, limit=0.5) for _ in range(30)))
        assert {type(end) for end in ends} <= {errors.StoreUnavailable, errors.PoolFull}
    assert await db.get(holder(1)) == record(1)
    assert not [one for one in caplog.records if one.levelno >= logging.WARNING]


async def test_transactions_end_with_their_limit_wherever_they_are(db, own_server, caplog):
    patient = SqlStore(db.engine.with_patience(Patience(0.5, 0.5, 0.3)))
    reached = asyncio.Semaphore(0)
    go = asyncio.Event()

    async def asks():
        async with patient.transaction() as tx:
            reached.release()
            await go.wait()
            await tx.lock([holder(1)])

    async def fails():
        async with patient.transaction():
            reached.release()
            await go.wait()
            raise errors.AlreadyReplaced

    async def commits():
        async with patient.transaction() as tx:
            await tx.save([(record(3, reason="Forced"), record(3).issued_at)])
            reached.release()
            await go.wait()

    tasks = [asyncio.create_task(one()) for one in (asks, fails, commits)]
    for _ in tasks:
        await reached.acquire()
    with hung(own_server):
        go.set()
        asked, failed, committed = await ended_soon(*tasks)
        begun = await ended_soon(*(asks() for _ in range(10)))
    assert {type(end) for end in begun} <= {errors.StoreUnavailable, errors.PoolFull}
    assert isinstance(asked, errors.StoreUnavailable)
    # Its own error is raised, although the rollback failed.
    assert isinstance(failed, errors.AlreadyReplaced)
    assert isinstance(committed, errors.StoreUnavailable)
    assert "may have been done" in committed.text
    assert not [one for one in caplog.records if one.levelno >= logging.WARNING]
    async with db.store.transaction() as tx:
        assert await tx.lock([holder(1)]) == [record(1)]


async def test_work_beside_the_database_is_limited_too(db):
    """A signer that does not come back must not hold rows for ever."""
    patient = SqlStore(db.engine.with_patience(Patience(0.1, 0.1, 0.1)))
    with pytest.raises(errors.StoreUnavailable, match=r"within 0.4 s"):
        async with patient.transaction() as tx:
            await tx.lock([holder(1)])
            await asyncio.sleep(60)
    async with db.store.transaction() as tx:
        assert await tx.lock([holder(1)]) == [record(1)]


async def test_who_is_cancelled_goes_at_once(db, own_server):
    async def in_transaction():
        async with db.store.transaction() as tx:
            reached.set()
            await tx.lock([holder(1)])
            await asyncio.sleep(60)

    async def reading():
        await db.engine.rows(ONE)

    reached = asyncio.Event()
    idle = asyncio.create_task(in_transaction())
    await reached.wait()
    await asyncio.sleep(0.2)
    with hung(own_server):
        tasks = [idle, asyncio.create_task(in_transaction()), asyncio.create_task(reading())]
        await asyncio.sleep(0.2)
        for task in tasks:
            task.cancel()
        ends = await ended_soon(*tasks)
        assert [type(end) for end in ends] == [asyncio.CancelledError] * 3


async def test_closing_does_not_wait_for_it(own_server):
    with contextlib.ExitStack() as stack:
        async with opened(own_server.url(own_server.create_database())) as db:
            await db.put([record(1)])
            stack.enter_context(hung(own_server))
            await ended_soon(*(db.engine.rows(ONE, limit=0.3) for _ in range(5)))
            began = time.monotonic()
        assert time.monotonic() - began < SOON


async def test_a_statement_that_nobody_waits_for_is_ended(postgres_url):
    """Else slow statements of callers who have gone would pile up behind the pool."""
    running = text("SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%'")
    async with opened(postgres_url) as db:
        with pytest.raises(errors.StoreUnavailable, match="within"):
            await db.engine.rows(SLEEP, limit=0.3)
        task = asyncio.create_task(db.engine.rows(SLEEP))
        await asyncio.sleep(0.3)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

        async with asyncio.timeout(SOON):
            while (await db.engine.rows(running))[0][0]:
                await asyncio.sleep(0.02)


async def test_looks_show_whether_it_answers(db, own_server):
    assert answers(db.engine)
    assert await db.engine.looking(look) == 1
    with hung(own_server):
        [end] = await ended_soon(db.engine.looking(look, limit=0.5))
        assert isinstance(end, errors.StoreUnavailable)
        assert not answers(db.engine)
        began = time.monotonic()
        for _ in range(100):
            with pytest.raises(errors.StoreUnavailable, match="a moment ago"):
                await db.get(holder(1))
            with pytest.raises(errors.StoreUnavailable, match="a moment ago"):
                async with db.store.transaction():
                    pass
        assert time.monotonic() - began < 1
        [end] = await ended_soon(db.engine.looking(look, limit=0.5))
        assert isinstance(end, errors.StoreUnavailable)
        assert not answers(db.engine)
    # It is known to be back without another look.
    async with asyncio.timeout(SOON):
        while not answers(db.engine):
            await asyncio.sleep(0.01)
    assert await db.get(holder(1)) == record(1)
    assert await db.engine.looking(look, limit=SOON) == 1


async def test_a_look_at_a_server_that_is_gone(db, own_server):
    assert await db.engine.looking(look) == 1
    own_server.stop("kill")
    try:
        [end] = await ended_soon(db.engine.looking(look, limit=0.5))
        assert isinstance(end, errors.StoreUnavailable)
        assert not answers(db.engine)
    finally:
        own_server.start()
    async with asyncio.timeout(SOON):
        while not answers(db.engine):
            await asyncio.sleep(0.01)
    assert await db.engine.looking(look, limit=SOON) == 1


async def test_refusals_do_not_outlive_the_looks(db, own_server, monkeypatch):
    monkeypatch.setattr(pool, "_BELIEVED", 0.3)
    with hung(own_server):
        await ended_soon(db.engine.looking(look, limit=0.3))
        assert not answers(db.engine)
        await asyncio.sleep(0.4)
        assert answers(db.engine)
        [end] = await ended_soon(db.engine.rows(ONE, limit=0.3))
        assert "a moment ago" not in end.text
    assert await db.get(holder(1)) == record(1)


async def test_a_full_pool_is_no_silent_database(db):
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(4):
            await stack.enter_async_context(db.engine.read())
        with pytest.raises(errors.PoolFull, match="the 4 connections of this process"):
            await db.engine.rows(ONE, limit=0.2)
        assert await db.engine.looking(look) == 1
        assert answers(db.engine)


async def test_a_look_that_gets_no_connection_of_its_own_goes_through_the_pool(own_server):
    """As where the server has no more to give; what is connected goes on."""
    with psycopg.connect(own_server.url(driver="postgresql"), autocommit=True) as admin:
        admin.execute("CREATE ROLE visitor LOGIN CONNECTION LIMIT 2")
        url = own_server.url().replace("postgres@", "visitor@")
        engine = open_engine(url, pool_size=1)
        pooled, looking = await engine.reading(_pid), await engine.looking(_pid)
        assert pooled != looking
        admin.execute("SELECT pg_terminate_backend(%s)", [looking])
        await asyncio.sleep(0.2)
        with psycopg.connect(url.replace("+psycopg", "")):
            assert await engine.looking(_pid) == pooled
            assert answers(engine)
        await asyncio.sleep(0.2)
        assert await engine.looking(_pid) != pooled
        await engine.close()
        await asyncio.sleep(0.2)
        admin.execute("DROP ROLE visitor")


async def _pid(connection):
    return (await connection.exec_driver_sql("SELECT pg_backend_pid()")).scalar_one()


async def test_a_process_that_stood_still_looks_again(db):
    """A loop that was held up finds its limits run out; the database is not to blame."""
    looks = 0

    async def held_up(connection):
        nonlocal looks
        looks += 1
        if looks == 1:
            time.sleep(1.0)
        return await look(connection)

    assert await db.engine.looking(held_up, limit=0.5) == 1
    assert answers(db.engine)
    assert looks == 2


async def test_a_wrong_answer_is_an_answer(request, tmp_path):
    for kind in KINDS:
        async with opened(url_of(request, kind, tmp_path)) as db:
            assert await db.engine.looking(look) == 1

            async def ask(connection):
                await connection.exec_driver_sql("SELECT * FROM not_there")

            with pytest.raises(errors.NotMigrated):
                await db.engine.looking(ask)
            assert answers(db.engine)


async def test_writers_who_wait_leave_connections_to_readers(postgres_url):
    async with opened(postgres_url, pool_size=4) as db:
        await db.put([record(1)])
        patient = SqlStore(db.engine.with_patience(Patience(1.0, 1.0, 0.7)))

        async def lock():
            async with patient.transaction() as tx:
                await tx.lock([holder(1)])

        async with db.store.transaction() as tx:
            await tx.lock([holder(1)])
            waiting = [asyncio.create_task(lock()) for _ in range(20)]
            await asyncio.sleep(0.2)
            assert await patient.find([holder(1)]) == [record(1)]
            ends = await ended_soon(*waiting)
        assert {type(end) for end in ends} <= {errors.StoreUnavailable, errors.PoolFull}
        assert any(isinstance(end, errors.PoolFull) for end in ends)
        assert any("LockNotAvailable" in getattr(end, "text", "") for end in ends)
