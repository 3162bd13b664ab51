"""How the databases find due rows: by the index meant, without reading what is not asked for.

The statements are those that the claims really send, caught on their way to the driver and
explained again. The table is skewed as real ones are: one app has 95 % of the rows, most
are not due, some rest.
"""

from __future__ import annotations

import contextlib
import json
import re

import pytest
from sqlalchemy import event as sa_event

from sigmgr.model.policy import Policy
from tests.contract.store_kit import APP, NOW, TTL, opened

LIMIT = 100
LOOKAHEAD = 8 * LIMIT
LADDER = Policy().ladder

SEED_POSTGRES = """
INSERT INTO holders (sdkappid, userid, kind, scope, format, key_id, issued_at, ttl, renew_at,
                     warn_after, expires_at, reason, due_at, seen_at)
SELECT CASE WHEN mod(i, 20) = 0 THEN {app} + 1 + mod(i, 7) ELSE {app} END,
       'user' || lpad(i::text, 9, '0'), 'user', '', 'v2', 1, born, {ttl}, born + {ttl} * 2 / 3,
       born + {ttl} * 3 / 4, born + {ttl}, 'Missing',
       CASE WHEN mod(i, 11) = 3 THEN NULL ELSE born + {ttl} * 2 / 3 END, born
FROM (SELECT i, {start} + (mod(i::bigint * 7919, {count})) * {span} / {count} AS born
      FROM generate_series(1, {count}) AS i) AS made
"""
SEED_SQLITE = """
WITH RECURSIVE made(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM made WHERE i < {count}),
     born(i, born) AS (SELECT i, {start} + (i * 7919 % {count}) * {span} / {count} FROM made)
INSERT INTO holders (sdkappid, userid, kind, scope, format, key_id, issued_at, ttl, renew_at,
                     warn_after, expires_at, reason, due_at, seen_at)
SELECT CASE WHEN i % 20 = 0 THEN {app} + 1 + i % 7 ELSE {app} END,
       printf('user%09d', i), 'user', '', 'v2', 1, born, {ttl}, born + {ttl} * 2 / 3,
       born + {ttl} * 3 / 4, born + {ttl}, 'Missing',
       CASE WHEN i % 11 = 3 THEN NULL ELSE born + {ttl} * 2 / 3 END, born FROM born
"""

#: Lives begin over the last two thirds, so that nothing is due at NOW, and little after it.
SPAN = TTL * 2 // 3


def after(share: float) -> int:
    """The time at which this share of what is tracked has come due."""
    return NOW + int(SPAN * share)


async def seed(db, count: int, *, analyze: bool = True) -> None:
    text = SEED_POSTGRES if db.is_postgres else SEED_SQLITE
    values = {"app": APP, "ttl": TTL, "start": NOW - SPAN, "span": SPAN, "count": count}
    async with db.engine.write() as connection:
        await connection.exec_driver_sql("SET LOCAL statement_timeout = 0"
                                         if db.is_postgres else "SELECT 1")  # fmt: skip
        await connection.exec_driver_sql(text.format(**values))
        if analyze:
            await connection.exec_driver_sql("ANALYZE")


class Caught:
    """Statements on their way to the driver."""

    def __init__(self, db) -> None:
        self.db = db
        self.statements: list[tuple[str, object]] = []
        sa_event.listen(db.engine._pool.engine.sync_engine, "before_cursor_execute", self.note)

    def note(self, _connection, _cursor, statement, parameters, _context, _many) -> None:
        if "holders" in statement and not statement.startswith(("EXPLAIN", "INSERT")):
            self.statements.append((statement, parameters))

    async def plans(self, work, *, undo: bool = True) -> list[dict]:
        """Run ``work(tx)``, then explain what it sent, in one transaction that is undone."""
        self.statements.clear()
        found = []
        with pytest.raises(Undone) if undo else contextlib.nullcontext():
            async with self.db.store.transaction() as tx:
                await work(tx)
                for statement, parameters in list(self.statements):
                    raw = await tx._connection.exec_driver_sql(
                        "EXPLAIN (ANALYZE, FORMAT JSON) " + statement, parameters
                    )
                    answer = raw.scalar_one()
                    plan = answer if isinstance(answer, list) else json.loads(answer)
                    found.append(plan[0]["Plan"])
                if undo:
                    raise Undone
        return found


class Undone(Exception):
    pass


def nodes(plan: dict):
    yield plan
    for inner in plan.get("Plans", []):
        yield from nodes(inner)


def judged(plans: list[dict], bound: int) -> set[str]:
    """The indexes of holders that were used; no node read more rows than the bound."""
    used = set()
    for node in (node for plan in plans for node in nodes(plan)):
        if node.get("Relation Name") == "holders":
            assert node["Node Type"] != "Seq Scan", node
        read = node["Actual Rows"] + node.get("Rows Removed by Filter", 0)
        assert read <= bound, node
        if "Index Name" in node:
            used.add(node["Index Name"])
    return used


def claims(now: int, **more):
    async def work(tx):
        rows = await tx.claim_due(APP, now, LIMIT, **more)
        assert rows == sorted(rows, key=lambda row: row.expires_at)

    return work


async def check_postgres(db, count: int) -> None:
    caught = Caught(db)
    bound = LOOKAHEAD + LIMIT
    few = after(LOOKAHEAD / 2 / count)
    assert judged(await caught.plans(claims(few)), bound) == {"ix_holders_due"}
    for share in (0.3, 0.9):
        plans = await caught.plans(claims(after(share)), undo=False)
        assert judged(plans, bound) == {"ix_holders_due", "ix_holders_expiry"}
        assert not any(node["Node Type"] == "Sort" for plan in plans for node in nodes(plan))
        remembered = await caught.plans(claims(after(share)))
        assert len(remembered) == 1, "the horizon is remembered: one statement"
        assert not db.store._memory.horizons, "what was undone is free, and ahead of the place"
    paused = await caught.plans(claims(after(0.5), emergency=0.05))
    assert judged(paused, 64 * LIMIT + LIMIT) == {"ix_holders_expiry"}
    await check_the_rest(db, caught, bound)


async def check_the_rest(db, caught, bound: int) -> None:
    async def warn(tx):
        await tx.claim_warnings(APP, NOW + TTL // 3 - 86_400, LIMIT, LADDER)

    assert judged(await caught.plans(warn), 8_000 + LIMIT) == {"ix_holders_expiry"}

    async def lock(tx):
        rows = await db.store.page(None, LIMIT)
        assert await tx.lock([row.holder for row in rows]) == rows
        await tx.save([(row, row.issued_at) for row in rows])
        await tx.save([(row, row.issued_at) for row in rows], new_sigs=True)

    assert judged(await caught.plans(lock), bound) == {"pk_holders"}

    caught.statements.clear()
    assert (await db.store.apps_with_due(after(0.5)))[0] in range(APP, APP + 8)
    (apps,) = caught.statements
    caught.statements.clear()
    await db.janitor.forget_past(NOW + TTL + 181 * 86_400, LIMIT)
    (janitor,) = caught.statements
    for (statement, parameters), indexes in (
        (apps, {"ix_holders_due", "ix_holders_expiry"}),
        (janitor, {"ix_holders_past"}),
    ):
        async with db.engine.write() as connection:
            raw = await connection.exec_driver_sql(
                "EXPLAIN (ANALYZE, FORMAT JSON) " + statement, parameters
            )
            assert judged([raw.scalar_one()[0]["Plan"]], bound) <= indexes


async def test_postgres_finds_due_rows_by_the_index_meant(postgres_url):
    async with opened(postgres_url) as db:
        await seed(db, 10_000)
        await check_postgres(db, 10_000)


async def test_old_figures_do_not_mislead_postgres(postgres_url):
    """Analyzed while nothing was tracked; then the table fills within one vacuum's pause."""
    async with opened(postgres_url) as db:
        async with db.engine.write() as connection:
            await connection.exec_driver_sql("ALTER TABLE holders SET (autovacuum_enabled = false)")
        await seed(db, 100)
        async with db.engine.write() as connection:
            await connection.exec_driver_sql("TRUNCATE holders")
        await seed(db, 10_000, analyze=False)
        caught = Caught(db)
        for share in (LOOKAHEAD / 20_000, 0.9):
            used = judged(await caught.plans(claims(after(share))), LOOKAHEAD + LIMIT)
            assert used <= {"ix_holders_due", "ix_holders_expiry"}
            db.store._memory.horizons.clear()


@pytest.mark.slow
async def test_postgres_does_so_with_a_million_rows(postgres_url):
    async with opened(postgres_url, statement_timeout_ms=120_000) as db:
        await seed(db, 1_000_000)
        await check_postgres(db, 1_000_000)


@pytest.mark.parametrize("analyze", [True, False])
async def test_sqlite_finds_due_rows_by_the_index_meant(tmp_path, analyze):
    async with opened(f"sqlite+aiosqlite:///{tmp_path}/plan.db") as db:
        await seed(db, 10_000, analyze=analyze)
        caught = Caught(db)

        async def used_by(work) -> set[str]:
            caught.statements.clear()
            async with db.store.transaction() as tx:
                await work(tx)
                texts = []
                for statement, parameters in list(caught.statements):
                    raw = await tx._connection.exec_driver_sql(
                        "EXPLAIN QUERY PLAN " + statement, parameters
                    )
                    texts += [row[3] for row in raw]
            assert not [text for text in texts if re.match(r"SCAN holders\b(?!.*USING)", text)]
            return set(re.findall(r"\b(?:ix_\w+|sqlite_autoindex_holders_1)", " ".join(texts)))

        async def warn(tx):
            await tx.claim_warnings(APP, NOW + TTL // 3 - 86_400, LIMIT, LADDER)

        async def lock(tx):
            rows = await tx.lock([row.holder for row in await db.store.page(None, LIMIT)])
            await tx.save([(row, row.issued_at) for row in rows])
            await tx.save([(row, row.issued_at) for row in rows], new_sigs=True)

        assert await used_by(claims(after(0.01))) == {"ix_holders_due"}
        assert await used_by(claims(after(0.9))) == {"ix_holders_due", "ix_holders_expiry"}
        assert await used_by(claims(after(0.9), emergency=0.05)) == {"ix_holders_expiry"}
        assert await used_by(warn) == {"ix_holders_expiry"}
        assert "sqlite_autoindex_holders_1" in await used_by(lock)
        caught.statements.clear()
        await db.janitor.forget_past(NOW + TTL + 181 * 86_400, LIMIT)
        ((statement, parameters),) = caught.statements
        async with db.engine.read() as connection:
            raw = await connection.exec_driver_sql("EXPLAIN QUERY PLAN " + statement, parameters)
            assert any("ix_holders_past" in row[3] for row in raw)
