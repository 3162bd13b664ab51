"""The migrations: up, down, up; what they make; two that start at once."""

from __future__ import annotations

import asyncio
import shutil
import warnings
from itertools import chain
from pathlib import Path

import msgspec
import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

import sigmgr
from sigmgr.model import errors
from sigmgr.model.sig import Record
from sigmgr.store import migrate
from sigmgr.store.engine import open_engine
from sigmgr.store.outbox import SqlOutbox
from sigmgr.store.stores import SqlStore
from sigmgr.store.tables import FORGET_AT, holders, metadata
from tests.contract.store_kit import KINDS, NOW, event, holder, opened, url_of


@pytest.fixture(params=KINDS)
def url(request, tmp_path):
    return url_of(request, request.param, tmp_path, empty=True)


@pytest.fixture
async def engine(url):
    opened_engine = open_engine(url)
    yield opened_engine
    await opened_engine.close()


def tables(connection):
    return set(sa.inspect(connection).get_table_names()) - {"alembic_version"}


async def run(engine, work):
    async with engine.write() as connection:
        return await connection.run_sync(work)


async def test_up_down_up(engine):
    assert len(migrate.heads()) == 1
    assert await migrate.current(engine) == ""
    done = await migrate.upgrade(engine)
    assert done[-1:] == migrate.heads() == [await migrate.current(engine)]
    assert await run(engine, tables) == set(metadata.tables)
    assert await migrate.upgrade(engine) == []
    assert await migrate.downgrade(engine, "base") == done[::-1]
    assert await run(engine, tables) == set()
    assert await migrate.current(engine) == ""
    assert await migrate.downgrade(engine, "base") == []
    assert await migrate.upgrade(engine) == done


async def test_check_names_what_is_there_and_what_is_wanted(engine):
    with pytest.raises(errors.NotMigrated, match=r"none.*needs 0"):
        await migrate.check(engine)
    await migrate.upgrade(engine)
    await migrate.check(engine)
    async with engine.write() as connection:
        await connection.exec_driver_sql("UPDATE alembic_version SET version_num = 'later'")
    with pytest.raises(errors.NotMigrated, match="later"):
        await migrate.check(engine)


async def test_two_that_start_at_once_do_every_step_once(url, engine):
    other = open_engine(url)
    done = await asyncio.gather(*(migrate.upgrade(e) for e in (engine, other, engine, other)))
    assert sorted(chain(*done)) == sorted(migrate.revisions())
    await migrate.check(other)
    await other.close()


def add_revision(monkeypatch, tmp_path, *statements):
    """A newest revision 9999, and the one before it."""
    folder = tmp_path / "alembic"
    shutil.copytree(migrate._location(), folder, ignore=shutil.ignore_patterns("__pycache__"))
    [newest] = migrate.heads()
    (folder / "versions" / "9999_added.py").write_text(
        f"from alembic import op\nrevision = '9999'\ndown_revision = {newest!r}\n"
        "def upgrade():\n" + "".join(f"    op.execute({text!r})\n" for text in statements)
    )
    monkeypatch.setattr(migrate, "_location", lambda: folder)
    return newest


async def test_a_migration_has_its_own_patience(url, tmp_path, monkeypatch):
    """Longer than that of requests: for a long statement, and for another one at work."""
    some = [open_engine(url, lock_timeout_ms=100, statement_timeout_ms=200) for _ in range(2)]
    await migrate.upgrade(some[0])
    counted = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000000)"
    counted += " SELECT max(i) FROM n"
    slow = counted if "sqlite" in url else "SELECT pg_sleep(1)"
    add_revision(monkeypatch, tmp_path, slow)
    at_once = some if "sqlite" not in url else some[:1]  # its file keeps others out for itself
    done = await asyncio.gather(*map(migrate.upgrade, at_once))
    assert sorted(chain(*done)) == ["9999"]
    for engine in some:
        await engine.close()


async def test_a_failed_migration_leaves_nothing_behind(engine, tmp_path, monkeypatch):
    broken = ("CREATE TABLE half (id INTEGER)", "SELECT nonsense")
    newest = add_revision(monkeypatch, tmp_path, *broken)
    with pytest.raises(errors.NotMigrated):
        await migrate.upgrade(engine)
    assert await run(engine, tables) == set(metadata.tables), "those before it stay"
    assert await migrate.current(engine) == newest


# What waits in the outbox


def before_0002(number):
    """A row of an outbox that has a row for each event, and the event."""
    answer = event(holder(number, "room", f'name:"{number}" \\'), at=NOW + number, note="é")
    return {"type": answer.type, **answer.holder._asdict(), "issued_at": answer.issued_at,
            "expires_at": answer.expires_at, "reason": answer.reason, "at": answer.at,
            "note": answer.note}, answer  # fmt: skip


async def fill(engine, rows):
    async with engine.write() as connection:
        table = sa.table("outbox", *map(sa.column, rows[0]))
        await connection.execute(table.insert(), rows)


async def ids(engine):
    async with engine.read() as connection:
        return list(await connection.scalars(sa.text("SELECT id FROM outbox ORDER BY id")))


async def test_events_that_wait_go_up_with_their_ids(engine):
    await migrate.upgrade(engine, "0001")
    rows, reported = zip(*map(before_0002, range(1, 21)), strict=True)
    await fill(engine, rows)
    async with engine.write() as connection:
        await connection.exec_driver_sql("DELETE FROM outbox WHERE id < 4 OR id > 18")
    await migrate.upgrade(engine)
    assert await ids(engine) == list(range(4, 19))
    outbox = SqlOutbox(engine)
    assert await outbox.depth(NOW) == (15, 0)
    async with outbox.take(100, NOW + 100) as events:
        assert tuple(events) == reported[3:18]
    async with SqlStore(engine).transaction() as tx:
        assert await tx.append([event(holder(1))]) == [21], "an id is never used again"


async def test_events_that_wait_go_down_one_a_row_in_order(engine):
    await migrate.upgrade(engine)
    rows, reported = zip(*map(before_0002, range(1, 41)), strict=True)
    reported = [one._replace(at=NOW) for one in reported]
    async with SqlStore(engine).transaction() as tx:
        given = await tx.append(reported)
    async with engine.write() as connection:
        await connection.exec_driver_sql(
            f"UPDATE outbox SET events = '[[1]]' WHERE id = {given[1]}"
        )
    await migrate.downgrade(engine, "0001")
    columns = list(rows[0])
    async with engine.read() as connection:
        wanted = sa.select(*map(sa.column, columns)).select_from(sa.text("outbox"))
        found = (await connection.execute(wanted.order_by(sa.column("id")))).mappings().all()
    assert [dict(row) for row in found] == [
        {**row, "at": NOW} for n, row in enumerate(rows) if not 16 <= n < 32
    ], "without the row that cannot be read"
    assert min(await ids(engine)) > max(given)
    await migrate.upgrade(engine)
    async with SqlOutbox(engine).take(100, NOW) as events:
        assert events == [*reported[:16], *reported[32:]]


async def test_many_rows_go_down_and_those_of_a_later_version_too(engine):
    await migrate.upgrade(engine)
    reported = [event(holder(n), at=NOW + n) for n in range(1100)]
    async with SqlStore(engine).transaction() as tx:
        given = await tx.append(reported)
    assert len(given) == 1100
    later = msgspec.json.encode([[*reported[7], "new", 5]]).decode()
    async with engine.write() as connection:
        await connection.execute(
            sa.text("UPDATE outbox SET events = :later WHERE id = :id"),
            {"later": later, "id": given[7]},
        )
    await migrate.downgrade(engine, "0001")
    await migrate.upgrade(engine)
    async with SqlOutbox(engine).take(5000, NOW + 5000) as events:
        assert events == reported


@pytest.mark.parametrize("turns", [1, 2])
async def test_an_outbox_that_was_never_used_goes_up_and_down(engine, turns):
    for _ in range(turns):
        await migrate.upgrade(engine)
        await migrate.downgrade(engine, "0001")
    await fill(engine, [before_0002(1)[0]])
    await migrate.upgrade(engine)
    async with SqlOutbox(engine).take(100, NOW + 1) as events:
        assert events == [before_0002(1)[1]]


async def test_an_event_that_is_added_meanwhile_is_not_lost(url, engine):
    """PostgreSQL: the migration waits for it. SQLite's writers take turns."""
    await migrate.upgrade(engine, "0001")
    other = open_engine(url)
    row, reported = before_0002(1)
    async with other.write() as connection:
        table = sa.table("outbox", *map(sa.column, row))
        await connection.execute(table.insert(), [row])
        going_up = asyncio.create_task(migrate.upgrade(engine))
        await asyncio.sleep(0.3)
        assert not going_up.done()
    await going_up
    await other.close()
    async with SqlOutbox(engine).take(100, NOW + 1) as events:
        assert events == [reported]


# What the migrations make


async def test_the_tables_are_what_the_migrations_make(url):
    """Autogenerate has nothing to add. It cannot compare expressions; the next tests do."""

    def differences(connection):
        options = {"compare_type": True, "compare_server_default": True}
        return compare_metadata(MigrationContext.configure(connection, opts=options), metadata)

    async with opened(url) as db:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*expression.*index")
            found = await run(db.engine, differences)
    assert [change for change in found if "ix_holders_past" not in str(change)] == []


async def test_indexes_options_and_defaults_are_equal_too(request, tmp_path):
    """What the database itself reports of both."""
    for kind in KINDS:
        engine = open_engine(url_of(request, kind, tmp_path, empty=True))
        await migrate.upgrade(engine)
        migrated = await run(engine, described)
        await migrate.downgrade(engine, "base")
        await run(engine, metadata.create_all)
        assert await run(engine, described) == migrated
        assert any("CASE" in str(line) for line in migrated)
        await engine.close()


def described(connection):
    if connection.dialect.name == "sqlite":
        # The text of a table keeps the writer's order of words; indexes are compared by text.
        indexes = "SELECT name, sql FROM sqlite_master WHERE type = 'index' ORDER BY name"
        columns = (
            'SELECT m.name, c.name, c.type, c."notnull", c.dflt_value, c.pk, m.sql LIKE'
            " '%AUTOINCREMENT%' FROM sqlite_master m, pragma_table_info(m.name) c"
            " WHERE m.type = 'table' AND m.name <> 'alembic_version' ORDER BY m.name, c.cid"
        )
    else:
        indexes = (
            "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'"
            " AND tablename <> 'alembic_version' ORDER BY indexname"
        )
        columns = (
            "SELECT c.relname, c.reloptions, a.attname, format_type(a.atttypid, a.atttypmod),"
            " a.attcollation, a.attnotnull, pg_get_expr(d.adbin, d.adrelid)"
            " FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0"
            " LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum"
            " WHERE c.relkind = 'r' AND c.relnamespace = 'public'::regnamespace"
            " AND c.relname <> 'alembic_version' ORDER BY c.relname, a.attnum"
        )
    return [tuple(map(str, row)) for text in (indexes, columns)
            for row in connection.exec_driver_sql(text)]  # fmt: skip


def test_columns_follow_the_record():
    assert tuple(holders.columns.keys()) == Record._fields


def test_history_repeats_the_expression_of_the_index():
    """Were the expression of today changed without a migration, queries would miss the index."""
    text = "".join(path.read_text() for path in (migrate._location() / "versions").glob("*.py"))
    assert FORGET_AT.split("WHEN")[1].strip() in text


def test_installed_migrations_lie_inside_the_package(tmp_path, monkeypatch):
    source = Path(sigmgr.__file__).parent
    assert migrate._location() == source.parent / "alembic"
    (tmp_path / "_alembic").mkdir()
    monkeypatch.setattr(sigmgr, "__file__", str(tmp_path / "__init__.py"))
    assert migrate._location() == tmp_path / "_alembic"


def test_env_reports_what_to_run():
    text = (migrate._location() / "env.py").read_text()
    assert "sigmgr db upgrade" in text


async def test_a_new_file_that_several_open_at_once_opens_for_all(tmp_path):
    """SQLite refuses one of two that turn a file into a WAL at the same time."""
    for n in range(30):
        engines = [open_engine(f"sqlite+aiosqlite:///{tmp_path}/{n}.db") for _ in range(4)]
        assert await asyncio.gather(*map(migrate.current, engines)) == [""] * 4
        for one in engines:
            await one.close()
