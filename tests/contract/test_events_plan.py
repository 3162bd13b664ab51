"""How the databases find what waits for numbers, what a reader asks for, and what is past: by the
index meant, without walking over what is not asked for.

The statements are those that are really sent, caught and explained again. The outbox holds a
pile of rows that wait for nothing but Redis; two apps have long feeds.
"""

from __future__ import annotations

import json
import re

import pytest
from sqlalchemy import event as sa_event

from sigmgr.model.cursor import Cursor
from sigmgr.store.feeds import KEPT_FOR
from tests.contract.store_kit import APP, NOW, event, holder, opened

LIMIT = 100
PILE, KEPT = 4_000, 20_000
#: Statements by a few words of theirs.
READER = r"events\.events.*number >"
NAMES = {
    "unnumbered": r"FROM feeds\s+WHERE EXISTS",
    "waiting": r"outbox\.id, outbox\.size\s+FROM outbox",
    "keep": r"INSERT INTO events",
    "leave": r"DELETE FROM outbox|UPDATE outbox",
    "reader": READER,
    "oldest": r"events\.number - events\.size AS.*ORDER BY events\.number\s+LIMIT",
    "forget": r"DELETE FROM events",
}

SEED_POSTGRES = """
INSERT INTO events (sdkappid, number, size, at, events)
SELECT {app} + mod(i, 2), 2 * (i / 2) + 2, 2, {now} + i, '[]' FROM generate_series(0, {kept}) AS i;
INSERT INTO outbox (at, sdkappid, size, events)
SELECT {now}, {app} + mod(i, 3), 1, '[]' FROM generate_series(1, {pile}) AS i;
UPDATE feeds SET number = {kept} + 2
"""
SEED_SQLITE = """
WITH RECURSIVE made(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM made WHERE i < {kept})
INSERT INTO events (sdkappid, number, size, at, events)
SELECT {app} + i % 2, 2 * (i / 2) + 2, 2, {now} + i, '[]' FROM made;
WITH RECURSIVE made(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM made WHERE i < {pile})
INSERT INTO outbox (at, sdkappid, size, events) SELECT {now}, {app} + i % 3, 1, '[]' FROM made;
UPDATE feeds SET number = {kept} + 2
"""


async def seed(db, *, analyze: bool) -> str:
    for app in (APP, APP + 1):
        await db.catalog.add_app(app, now=NOW)
        await db.catalog.set_feed(app, on=True)
    text = (SEED_POSTGRES if db.is_postgres else SEED_SQLITE).format(
        app=APP, now=NOW, kept=KEPT, pile=PILE
    )
    async with db.engine.write() as connection:
        for statement in text.split(";"):
            await connection.exec_driver_sql(statement)
        if analyze:
            await connection.exec_driver_sql("ANALYZE")
    async with db.store.transaction() as tx:
        await tx.append([event(holder(n), at=NOW + n) for n in range(LIMIT)])
    return (await db.catalog.get_app(APP)).feed


async def caught(db, feed: str) -> dict[str, list[tuple[str, object]]]:
    """What a relay, a reader and the removal send."""
    sent: list[tuple[str, object]] = []

    def note(_connection, _cursor, statement, parameters, _context, _many) -> None:
        sent.append((statement, parameters))

    engine = db.engine._pool.engine.sync_engine
    sa_event.listen(engine, "before_cursor_execute", note)
    await db.outbox.unnumbered()
    async with db.engine.write() as connection:
        await db.outbox._number(APP, NOW, LIMIT, connection)
        await connection.rollback()
    await db.events.read(APP, Cursor(feed, 10_000), LIMIT)
    await db.events.read(APP, None, LIMIT)
    await db.janitor.forget_events(NOW + KEPT_FOR - 1, LIMIT)
    sa_event.remove(engine, "before_cursor_execute", note)
    return {
        name: [one for one in sent if re.search(pattern, one[0], re.DOTALL)]
        for name, pattern in NAMES.items()
    }


def nodes(plan: dict):
    yield plan
    for inner in plan.get("Plans", []):
        yield from nodes(inner)


@pytest.mark.parametrize("analyze", [True, False])
async def test_postgres_finds_events_by_the_index_meant(postgres_url, analyze):
    async with opened(postgres_url) as db:
        for name, statements in (await caught(db, await seed(db, analyze=analyze))).items():
            assert statements, name
            for statement, parameters in statements:
                async with db.engine.write() as connection:
                    raw = await connection.exec_driver_sql(
                        "EXPLAIN (ANALYZE, FORMAT JSON) " + statement, parameters
                    )
                    answer = raw.scalar_one()
                    await connection.rollback()
                plan = answer if isinstance(answer, list) else json.loads(answer)
                for node in nodes(plan[0]["Plan"]):
                    if node.get("Relation Name") in {"outbox", "events"}:
                        assert node["Node Type"] != "Seq Scan", (name, node)
                    read = node["Actual Rows"] + node.get("Rows Removed by Filter", 0)
                    assert read * node["Actual Loops"] <= 300 + LIMIT, (name, node)


@pytest.mark.parametrize("analyze", [True, False])
async def test_sqlite_finds_events_by_the_index_meant(tmp_path, analyze):
    async with opened(f"sqlite+aiosqlite:///{tmp_path}/plan.db") as db:
        for name, statements in (await caught(db, await seed(db, analyze=analyze))).items():
            assert statements, name
            for statement, parameters in statements:
                async with db.engine.read() as connection:
                    raw = await connection.exec_driver_sql(
                        "EXPLAIN QUERY PLAN " + statement, parameters
                    )
                    steps = [row[3] for row in raw]
                assert not [one for one in steps if re.match(r"SCAN (outbox|events)\b", one)], steps
                wanted = "ix_outbox_waits" if name in {"unnumbered", "waiting"} else ""
                assert any(wanted in one for one in steps), (name, steps)
