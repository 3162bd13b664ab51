"""The probe of the database: what real servers refuse is named, and is gone when it is gone."""

from __future__ import annotations

import asyncio
import contextlib
import re
import uuid
from collections.abc import AsyncIterator, Iterator

import psycopg
import pytest

from sigmgr.model import errors
from sigmgr.store.engine import open_engine
from sigmgr.store.probe import probe
from tests.contract.store_kit import KINDS, Database, holder, opened, record, url_of

#: A real refusal by the server, at the moment that is asked for.
REFUSING = """
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN RAISE SQLSTATE '{code}'; END $$;
CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON meta {when} FOR EACH ROW EXECUTE FUNCTION refuse()
"""
WRITABLE = "DROP TRIGGER refuse ON meta; DROP FUNCTION refuse()"


@pytest.fixture(params=KINDS)
async def db(request: pytest.FixtureRequest, tmp_path) -> AsyncIterator[Database]:
    async with opened(url_of(request, request.param, tmp_path), pool_size=2) as database:
        yield database


@pytest.fixture
async def one(tmp_path) -> AsyncIterator[Database]:
    """A SQLite file with one connection, so that what is set on it holds for all."""
    url = f"sqlite+aiosqlite:///{tmp_path}/sigmgr.db"
    async with opened(url, pool_size=1, lock_timeout_ms=300) as database:
        yield database


@contextlib.contextmanager
def beside(url: str) -> Iterator[psycopg.Connection]:
    """A session of somebody else's."""
    plain = re.sub(r"^postgresql\+psycopg:", "postgresql:", url)
    with contextlib.closing(psycopg.connect(plain, autocommit=True)) as session:
        yield session


async def names(db: Database) -> list[str]:
    async with db.engine.read() as connection:
        rows = await connection.exec_driver_sql("SELECT name FROM meta WHERE name LIKE 'probe%%'")
        return [name for (name,) in rows]


async def test_a_database_that_writes_has_nothing_wrong_and_nothing_left(db: Database) -> None:
    assert await asyncio.gather(*(probe(db.engine) for _ in range(5))) == [""] * 5
    assert await names(db) == []


@pytest.mark.parametrize("kind", KINDS)
async def test_a_database_without_a_schema_reports_it(request, tmp_path, kind: str) -> None:
    engine = open_engine(url_of(request, kind, tmp_path, empty=True))
    assert await probe(engine) == errors.NotMigrated().text.rstrip(".")
    await engine.close()


async def test_a_server_that_is_away_does_not_answer() -> None:
    engine = open_engine("postgresql+psycopg://me@127.0.0.1:1/none")
    assert await probe(engine) == "does not answer"
    await engine.close()


@pytest.mark.parametrize("when", ["", "DEFERRABLE INITIALLY DEFERRED"], ids=["write", "commit"])
@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("53100", "full"),
        ("25006", "read-only"),
        ("53200", "refuses writes (53200)"),
        ("58030", "refuses writes (58030)"),
        ("54000", "refuses writes (54000)"),
    ],
)
async def test_what_postgresql_refuses_is_named_and_gone(
    postgres_url: str, code: str, why: str, when: str
) -> None:
    async with opened(postgres_url) as db:
        with beside(postgres_url) as session:
            session.execute(REFUSING.format(code=code, when=when))
            assert await probe(db.engine) == why
            with pytest.raises(errors.StoreRefuses) as refused:
                await db.catalog.put_meta("another", b"value")
            assert refused.value.why == why
            session.execute(WRITABLE)
        assert await probe(db.engine) == ""


async def test_a_postgresql_that_was_set_read_only(postgres_url: str) -> None:
    """As by an operator, or by a fail-over to a replica: for new sessions."""
    name = postgres_url.rpartition("/")[2]
    async with opened(postgres_url) as db:
        await db.put([record(1)])
        with beside(re.sub(r"/\w+$", "/postgres", postgres_url)) as admin:
            for switch, answer in (("on", "read-only"), ("off", "")):
                admin.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = {switch}")
                admin.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s",
                    [name],
                )
                assert await probe(db.engine) == answer
                assert await db.get(holder(1)) == record(1), "reads go on"
        await db.put([record(2)])


async def test_a_user_who_may_only_read(postgres_url: str) -> None:
    reader = f"reader_{uuid.uuid4().hex[:12]}"
    async with opened(postgres_url) as db, contextlib.AsyncExitStack() as stack:
        session = stack.enter_context(beside(postgres_url))
        session.execute(f"CREATE ROLE {reader}")
        stack.callback(session.execute, f"DROP ROLE {reader}")
        session.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {reader}")
        stack.callback(session.execute, f"DROP OWNED BY {reader}")
        engine = open_engine(f"{postgres_url}?options=-crole%3D{reader}")
        stack.push_async_callback(engine.close)
        assert await probe(engine) == "refuses writes (42501)"
        assert await probe(db.engine) == ""


async def test_a_lock_that_is_held_is_no_silence(postgres_url: str) -> None:
    async with opened(postgres_url) as db:
        with beside(postgres_url) as session, session.transaction():
            session.execute("LOCK TABLE meta IN EXCLUSIVE MODE")
            assert await probe(db.engine) == "does not write"
        assert await probe(db.engine) == ""


async def test_ones_own_full_pool_is_reported_as_that(postgres_url: str) -> None:
    async with opened(postgres_url, pool_size=1) as db:
        async with db.store.transaction():
            assert await probe(db.engine) == "all connections of this process are in use"
        assert await probe(db.engine) == ""


async def test_a_sqlite_file_that_is_read_only(one: Database) -> None:
    async with one.engine.read() as connection:
        await connection.exec_driver_sql("PRAGMA query_only=1")
    assert await probe(one.engine) == "read-only"
    with pytest.raises(errors.StoreRefuses, match="the database is read-only"):
        await one.put([record(1)])
    async with one.engine.read() as connection:
        await connection.exec_driver_sql("PRAGMA query_only=0")
    assert await probe(one.engine) == ""


async def test_a_sqlite_file_that_cannot_grow(one: Database) -> None:
    async with one.engine.read() as connection:
        pages = (await connection.exec_driver_sql("PRAGMA page_count")).scalar_one()
        await connection.exec_driver_sql(f"PRAGMA max_page_count={pages}")
    # What room there is in its pages is filled first, by rows of any size.
    for size in (1000, 100, 10, 1, 0):
        with pytest.raises(errors.StoreRefuses, match="the database is full"):
            for number in range(1000):
                await one.catalog.put_meta(f"{size}/{number}", bytes(size))
    assert await probe(one.engine) == "full"
    async with one.engine.read() as connection:
        await connection.exec_driver_sql(f"PRAGMA max_page_count={pages + 100}")
    assert await probe(one.engine) == ""


async def test_a_sqlite_file_whose_writer_takes_long(one: Database, tmp_path) -> None:
    same = f"sqlite+aiosqlite:///{tmp_path}/sigmgr.db"
    async with opened(same) as other, other.store.transaction() as tx:
        await tx.lock([holder(1)])
        assert await probe(one.engine) == "does not write"
    assert await probe(one.engine) == ""
