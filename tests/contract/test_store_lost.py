"""Connections to PostgreSQL that died, and a server that restarts: nobody notices."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator

import pytest
from sqlalchemy import text

from sigmgr.model import errors
from sigmgr.store import postgres
from sigmgr.store.engine import open_engine
from tests.conftest import started
from tests.contract.store_kit import Database, holder, opened, record
from tests.servers import PostgresServer

KILL_OTHERS = (
    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
)
PID = "SELECT pg_backend_pid()"


@pytest.fixture(scope="module")
def own_server() -> Iterator[PostgresServer]:
    """A server to restart and to stop."""
    # Else an immediate stop would lose what was committed.
    server = started(lambda: PostgresServer(durable=True))
    yield server
    server.close()


@pytest.fixture
def own_url(own_server: PostgresServer) -> Iterator[str]:
    own_server.start()
    name = own_server.create_database()
    yield own_server.url(name)


async def pid_of(db: Database) -> int:
    async def ask(connection):
        return (await connection.exec_driver_sql(PID)).scalar_one()

    return await db.engine.reading(ask)


async def kill(other: Database) -> int:
    """End every connection but the killer's; answers how many there were."""
    async with other.engine.write() as connection:
        return (await connection.exec_driver_sql(KILL_OTHERS)).scalar_one()


async def test_connections_that_died_idle_are_replaced_unnoticed(postgres_url):
    async with opened(postgres_url) as db, opened(postgres_url, pool_size=1) as other:
        await db.put([record(i) for i in range(20)])
        await asyncio.gather(*(db.get(holder(i)) for i in range(20)))
        assert await kill(other) > 1
        await asyncio.sleep(0.1)
        # In the form that is not tried again: what is checked out is sound.
        async with db.engine.read() as connection:
            assert (await connection.exec_driver_sql(PID)).scalar_one()
        async with db.store.transaction() as tx:
            assert await tx.lock([holder(1)]) == [record(1)]
        found = await asyncio.gather(*(db.get(holder(i)) for i in range(20)))
        assert found == [record(i) for i in range(20)]


async def test_a_read_whose_connection_dies_is_read_again(postgres_url):
    async with opened(postgres_url) as db, opened(postgres_url, pool_size=1) as other:
        tries = 0

        async def slowly(connection):
            nonlocal tries
            tries += 1
            if tries == 1:
                await connection.exec_driver_sql("SELECT pg_sleep(30)")
            return (await connection.exec_driver_sql("SELECT 7")).scalar_one()

        reading = asyncio.create_task(db.engine.reading(slowly))
        while not tries:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)
        assert await kill(other)
        assert await asyncio.wait_for(reading, 10) == 7
        assert tries == 2

        async def always(connection):
            nonlocal tries
            tries += 1
            await connection.exec_driver_sql(
                "SELECT pg_terminate_backend(pg_backend_pid()), pg_sleep(30)"
            )

        tries = 0
        with pytest.raises(errors.ConnectionLost):
            await db.engine.reading(always)
        assert tries == 2


@pytest.mark.parametrize("in_between", [True, False])
async def test_a_transaction_that_lost_its_connection_reports_that_nothing_was_committed(
    postgres_url, in_between
):
    """Lost while it asks, and lost while it does something else: then the COMMIT is not sent."""
    async with opened(postgres_url) as db, opened(postgres_url, pool_size=1) as other:
        await db.put([record(1)])
        with pytest.raises(errors.ConnectionLost):
            async with db.store.transaction() as tx:
                await tx.save([(record(1, reason="Forced"), record(1).issued_at)])
                assert await kill(other)
                await asyncio.sleep(0.1)
                if in_between:
                    await tx.lock([holder(1)])
        assert await db.get(holder(1)) == record(1)
        async with db.store.transaction() as tx:
            await tx.save([(record(1, reason="Forced"), record(1).issued_at)])


async def test_connections_that_are_lost_all_the_time_are_reported_as_that(postgres_url):
    """Whoever opens one meanwhile finds it no older than the latest loss."""
    async with opened(postgres_url, pool_size=8) as db, opened(postgres_url) as other:
        done = asyncio.Event()
        ends: list[str] = []

        async def read() -> None:
            while not done.is_set():
                try:
                    await db.engine.rows(text("SELECT 1"))
                except errors.SigmgrError as error:
                    ends.append(type(error).__name__)
                else:
                    ends.append("ok")

        async with asyncio.TaskGroup() as group:
            for _ in range(16):
                group.create_task(read())
            for _ in range(40):
                await kill(other)
            done.set()
        assert set(ends) <= {"ok", "ConnectionLost", "StoreUnavailable"}
        assert ends.count("ok") > 40


async def test_a_write_in_function_form_is_tried_once_more(postgres_url):
    async with opened(postgres_url) as db, opened(postgres_url, pool_size=1) as other:
        tries = 0

        async def work(connection):
            nonlocal tries
            tries += 1
            await connection.exec_driver_sql("INSERT INTO meta VALUES ('tried', 'x')")
            if tries == 1:
                await kill(other)
                await asyncio.sleep(0.1)
            return tries

        assert await db.engine.writing(work) == 2
        assert await db.catalog.get_meta("tried") == b"x"


async def test_a_connection_lost_in_the_commit_may_have_committed(postgres_url, monkeypatch):
    """So no caller gets the error that nothing was committed, and nothing is repeated by itself."""
    async with opened(postgres_url) as db, opened(postgres_url, pool_size=1) as other:
        commit = postgres.psycopg.AsyncConnection.commit

        async def and_then_lost(self):
            await commit(self)
            if isinstance(self, postgres.PgConnection) and self.info.dsn:
                self.pgconn.finish()
                raise postgres.psycopg.OperationalError("server closed the connection")

        tries = 0

        async def work(connection):
            nonlocal tries
            tries += 1
            await connection.exec_driver_sql("INSERT INTO meta VALUES ('once', 'x')")
            monkeypatch.setattr(postgres.psycopg.AsyncConnection, "commit", and_then_lost)

        with pytest.raises(errors.CommitUnknown):
            await db.engine.writing(work)
        monkeypatch.undo()
        assert tries == 1
        assert await other.catalog.get_meta("once") == b"x"


async def test_a_connection_that_received_something_is_not_used(postgres_url):
    """Were it a word that ends the connection, the next statement would find out."""
    async with opened(postgres_url, pool_size=1) as db:
        before = await pid_of(db)
        async with db.engine.read() as connection:
            # Told after the answer: the notice waits when the connection is used next.
            await connection.exec_driver_sql("LISTEN words")
        async with opened(postgres_url, pool_size=1) as other, other.engine.write() as connection:
            await connection.exec_driver_sql("NOTIFY words")
        await asyncio.sleep(0.1)
        assert await pid_of(db) not in {before, 0}


async def test_a_transaction_left_open_is_not_handed_on(postgres_url):
    async with opened(postgres_url, pool_size=1) as db:
        async with db.engine.read() as connection:
            await connection.exec_driver_sql("BEGIN")
            await connection.exec_driver_sql("INSERT INTO meta VALUES ('left', 'open')")
        assert await db.catalog.get_meta("left") is None


@pytest.mark.parametrize("mode", ["fast", "immediate"])
async def test_a_restart_under_reads_and_writes_is_not_noticed(own_server, own_url, mode, caplog):
    """Reads and whole flows; what may have been committed is asked of the rows."""
    async with opened(own_url, pool_size=8) as db:
        await db.put([record(i) for i in range(50)])
        done = asyncio.Event()
        counts = {"reads": 0, "writes": 0, "unknown": 0}

        async def read(number: int) -> None:
            while not done.is_set():
                assert await db.get(holder(number)) is not None
                counts["reads"] += 1
                await asyncio.sleep(0.01)

        async def write(number: int) -> None:
            name, value = f"counter{number}", 0
            while not done.is_set():
                value += 1

                async def raise_it(connection, value=value):
                    text = f"UPDATE meta SET value = '{value}' WHERE name = '{name}'"
                    text += f" AND value = '{value - 1}'"
                    assert (await connection.exec_driver_sql(text)).rowcount == 1

                try:
                    await db.engine.writing(raise_it)
                except errors.CommitUnknown:
                    counts["unknown"] += 1
                    kept = await db.catalog.get_meta(name)
                    assert kept in {str(value).encode(), str(value - 1).encode()}
                    value = int(kept)
                counts["writes"] += 1
                await asyncio.sleep(0.01)
            assert await db.catalog.get_meta(name) == str(value).encode()

        for number in range(50):
            await db.catalog.put_meta(f"counter{number}", b"0")
        async with asyncio.timeout(60), asyncio.TaskGroup() as group:
            for number in range(50):
                group.create_task(read(number))
                group.create_task(write(number))
            await asyncio.sleep(0.5)
            before = dict(counts)
            await asyncio.to_thread(own_server.stop, mode)
            # In this thread: the kernel ends the server with the thread that started it.
            await asyncio.sleep(0.2)
            own_server._spawn(own_server.directory)
            while not own_server._answers():
                await asyncio.sleep(0.1)
            await asyncio.sleep(0.5)
            done.set()
        assert counts["reads"] > before["reads"] + 50
        assert counts["writes"] > before["writes"] + 50
        # A commit takes a moment of the time between two.
        assert counts["unknown"] <= 5
    assert not [one for one in caplog.records if one.levelno >= logging.ERROR]


async def test_a_server_that_never_was_is_reported_at_once():
    engine = open_engine("postgresql+psycopg://127.0.0.1:1/none")
    began = asyncio.get_running_loop().time()
    with pytest.raises(errors.StoreUnavailable):
        await engine.rows(text("SELECT 1"))
    assert asyncio.get_running_loop().time() - began < 1
    await engine.close()
