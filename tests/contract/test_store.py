"""The store's contract over SQLite and PostgreSQL: rows, locks, fences."""

from __future__ import annotations

import asyncio
import random
import string

import pytest
from sqlalchemy.exc import StatementError

from sigmgr import ports
from sigmgr.model import errors
from sigmgr.model.holder import Holder
from sigmgr.model.sig import Record
from tests.contract.store_kit import (
    APP,
    KINDS,
    NOW,
    TTL,
    Database,
    event,
    holder,
    opened,
    record,
    url_of,
)


@pytest.fixture(params=KINDS)
async def db(request, tmp_path):
    async with opened(url_of(request, request.param, tmp_path)) as database:
        yield database


def test_the_parts_fulfil_the_ports(tmp_path):
    """Checked by mypy: an assignment of each to its port."""

    def fits(database: Database) -> tuple[ports.Store, ports.Outbox, ports.Janitor]:
        return database.store, database.outbox, database.janitor

    assert fits.__annotations__


# Rows


async def test_a_missing_row_is_made_by_lock_and_kept(db):
    async with db.store.transaction() as tx:
        assert await tx.lock([holder(1)]) == [Record(*holder(1))]
    assert await db.get(holder(1)) == Record(*holder(1))
    assert await db.get(holder(2)) is None


async def test_every_column_comes_back_as_saved(db):
    full = Record(
        APP, "a b", "room", "name:x", "v1", 7, NOW, TTL, NOW + 1, NOW + 2, NOW + TTL, 255,
        "Forced", NOW + 3, 4, "signing-failed", NOW - 5, NOW - 6, NOW - 7, NOW - 8, 3, "[[1,2,3]]",
    )  # fmt: skip
    assert len(set(map(str, full))) == len(full), "distinct, so that a swap would show"
    await db.put([full])
    assert await db.get(full.holder) == full
    async with db.store.transaction() as tx:
        assert await tx.claim_due(APP, NOW + 10, 5) == [full]
        await tx.save([(full._replace(due_at=None), NOW)])
    assert (await db.get(full.holder)).due_at is None


async def test_no_text_is_special(db):
    """Braces, quotes, commas and backslashes belong to array literals and JSON too."""
    dice = random.Random(4)
    ids = {"".join(dice.choices(string.printable[:95], k=dice.randint(1, 32))) for _ in range(300)}
    ids |= {
        "NULL",
        "null",
        "None",
        "{}",
        '"',
        "\\",
        '\\"',
        ",",
        "'",
        " ",
        "%s",
        ":n",
        "%(a)s",
        "$[0]",
    }
    rows = [record(userid, last_error="é\n\\N{" + userid) for userid in sorted(ids)]
    await db.put(rows)
    assert await db.store.find([row.holder for row in rows]) == rows


async def test_a_text_with_nul_cannot_shift_the_texts_behind_it(postgres_url):
    async with opened(postgres_url) as db:
        await db.put([record(1), record(2)])
        with pytest.raises(StatementError, match="holds a NUL"):
            async with db.store.transaction() as tx:
                bad = record(1, issued_at=NOW + 1, last_error='x\0y","z')
                await tx.save([(bad, NOW), (record(2, issued_at=NOW + 1), NOW)])
        assert await db.get(holder(2)) == record(2)


async def test_answers_are_in_the_order_asked(db):
    await db.put(record(n) for n in (3, 1, 2))
    asked = [holder(2), holder(9), holder(1), holder(2), holder(3)]
    assert [row and row.userid for row in await db.store.find(asked)] == [
        "user000002", None, "user000001", "user000002", "user000003",
    ]  # fmt: skip
    async with db.store.transaction() as tx:
        assert [row.holder for row in await tx.lock(asked)] == asked
        assert await tx.lock([]) == []
    assert await db.store.find([]) == []


async def test_batches_of_thousands(db):
    rows = [record(n) for n in range(2500)]
    random.Random(1).shuffle(rows)
    await db.put(rows)
    assert await db.store.find([row.holder for row in rows]) == rows
    async with db.store.transaction() as tx:
        assert [row.userid for row in await tx.lock([row.holder for row in rows])] == [
            row.userid for row in rows
        ]


async def test_pages_walk_every_row_once_in_holder_order(db):
    names = ["a", "B", "_", "Z", "ä"[:1] if not db.is_postgres else "é", "a ", "a-", "10", "9"]
    holders = [holder(name, kind, scope, app) for app in (2, 1) for name in names
               for kind, scope in (("user", ""), ("room", "id:7"))]  # fmt: skip
    await db.put(map(record, holders))
    walked: list[Holder] = []
    after = None
    while page := await db.store.page(after, 4):
        walked += [row.holder for row in page]
        after = walked[-1]
    assert walked == sorted(holders), "by byte, as Python sorts"


async def test_of_user_has_every_kind(db):
    mine = [holder(1), holder(1, "admin"), holder(1, "room", "id:5"), holder(1, "room", "name:5")]
    await db.put(map(record, [*mine, holder(2), holder(1, app=APP + 1)]))
    assert [row.holder for row in await db.store.of_user(APP, "user000001")] == sorted(mine)


async def test_mark_raises_seen_at_and_nothing_else(db):
    first = [record(1, seen_at=50), record(holder(1, "room", "id:5")), record(2, seen_at=200)]
    await db.put(first)
    await db.store.mark_seen(
        [(holder(1), 90), (holder(2), 100), (holder(1), 100), (holder(3), 100)]
    )
    found = await db.store.find([row.holder for row in first])
    assert found == [row._replace(seen_at=max(row.seen_at, 100)) for row in first]
    assert await db.get(holder(3)) is None
    await db.store.mark_seen([])


async def test_mark_wakes_the_dormant_and_nobody_else(db):
    """Only a living sig is renewed again, from its renewal time on."""
    rows = [
        record(1, due_at=None),
        record(2, due_at=None, revoked_at=NOW),
        record(3, due_at=None, expires_at=NOW + 5),
        record(4, due_at=NOW + 7),
        record(5, due_at=None, seen_at=NOW + 100),
        Record(*holder(6)),
    ]
    await db.put(rows)
    await db.store.mark_seen([(row.holder, NOW + 10) for row in rows])
    found = await db.store.find([row.holder for row in rows])
    assert [row.due_at for row in found] == [rows[0].renew_at, None, None, NOW + 7, None, None]


# Transactions


async def test_an_exception_rolls_everything_back(db):
    await db.put([record(1)])
    with pytest.raises(RuntimeError, match="stop"):
        async with db.store.transaction() as tx:
            await tx.lock([holder(2)])
            await tx.save([(record(1, issued_at=NOW + 1), NOW)])
            await tx.append([event(holder(1))])
            raise RuntimeError("stop")
    assert await db.get(holder(1)) == record(1)
    assert await db.get(holder(2)) is None
    assert await db.outbox.depth(NOW) == (0, 0)


@pytest.mark.parametrize("new_sigs", [False, True])
async def test_a_stale_guard_fences_the_whole_batch(db, new_sigs):
    await db.put([record(1), record(2, issued_at=NOW + 5)])
    with pytest.raises(errors.StoreUnavailable, match="fenced: 1 of 2"):
        async with db.store.transaction() as tx:
            await tx.append([event(holder(1))])
            changes = [(record(n, issued_at=NOW + 9), NOW) for n in (1, 2)]
            await tx.save(changes, new_sigs=new_sigs)
    assert await db.get(holder(1)) == record(1)
    assert await db.outbox.depth(NOW) == (0, 0)
    with pytest.raises(errors.StoreUnavailable, match="fenced"):
        async with db.store.transaction() as tx:
            await tx.save([(record(7), 0)], new_sigs=new_sigs)  # no such row


async def test_one_flight_per_holder(db):
    """Of many who find nothing, one issues; the others wait and see its result."""
    issued: list[int] = []

    async def issue() -> int:
        async with db.store.transaction() as tx:
            (row,) = await tx.lock([holder(1)])
            if row.issued_at == 0:
                await asyncio.sleep(0.02)
                issued.append(1)
                await tx.save([(record(1), 0)])
                return NOW
            return row.issued_at

    assert set(await asyncio.gather(*(issue() for _ in range(8)))) == {NOW}
    assert len(issued) == 1


async def test_no_update_is_lost(db):
    await db.put([record(1, issued_at=1000)])

    async def reissue() -> None:
        for _ in range(15):
            async with db.store.transaction() as tx:
                (row,) = await tx.lock([holder(1)])
                await tx.save([(row._replace(issued_at=row.issued_at + 1), row.issued_at)])

    await asyncio.gather(*(reissue() for _ in range(6)))
    assert (await db.get(holder(1))).issued_at == 1090


async def test_no_update_is_lost_between_processes(request, tmp_path):
    """Two engines stand for two processes: what one queues on in itself does not help."""
    for kind in KINDS:
        url = url_of(request, kind, tmp_path)
        async with opened(url) as one, opened(url) as two:
            await one.put([record(1, issued_at=1000)])

            async def reissue(db: Database) -> None:
                for _ in range(10):
                    async with db.store.transaction() as tx:
                        (row,) = await tx.lock([holder(1)])
                        await tx.save([(row._replace(issued_at=row.issued_at + 1), row.issued_at)])

            await asyncio.gather(*(reissue(db) for db in (one, two, one, two)))
            assert (await two.get(holder(1))).issued_at == 1040


async def test_batches_with_common_holders_do_not_deadlock(db):
    """Each locks in holder order, whatever the order asked; marks do too."""
    dice = random.Random(2)
    everybody = [holder(n) for n in range(60)]

    async def issue(seed: int) -> None:
        for turn in range(5):
            batch = dice.sample(everybody, 40)
            async with db.store.transaction() as tx:
                rows = await tx.lock(batch)
                await tx.save([(row._replace(issued_at=row.issued_at + 1), row.issued_at)
                               for row in rows])  # fmt: skip
            await db.store.mark_seen(
                [(who, seed * 10 + turn) for who in dice.sample(everybody, 40)]
            )

    await asyncio.gather(*(issue(n) for n in range(6)))
    rows = await db.store.find(everybody)
    assert sum(row.issued_at for row in rows) == 6 * 5 * 40


async def test_a_mark_waits_for_the_renewal_and_is_not_undone_by_it(db):
    await db.put([record(1)])
    async with db.store.transaction() as tx:
        (row,) = await tx.lock([holder(1)])
        mark = asyncio.create_task(db.store.mark_seen([(holder(1), NOW + 60)]))
        await asyncio.sleep(0.05)
        assert not mark.done()
        await tx.save([(row._replace(issued_at=NOW + 50), NOW)])
    await mark
    assert await db.get(holder(1)) == record(1)._replace(issued_at=NOW + 50, seen_at=NOW + 60)


async def test_reads_do_not_wait_for_a_writer(db):
    await db.put([record(1)])
    async with db.store.transaction() as tx:
        await tx.save([(record(1, reason="Forced"), NOW)])
        assert await db.get(holder(1)) == record(1)
        assert await db.store.apps_with_due(NOW + TTL) == [APP]
