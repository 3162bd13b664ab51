"""The store's contract for streams and requests: many users at once, and no wait for a lock."""

from __future__ import annotations

import asyncio
import contextlib
import random

import pytest

from sigmgr.model import errors
from sigmgr.model.sig import Record
from sigmgr.ports import Ack, Confirmed
from sigmgr.store.stores import SqlStore
from tests.contract.store_kit import (
    APP,
    KINDS,
    NOW,
    TTL,
    Database,
    holder,
    only_postgres,
    opened,
    record,
    url_of,
)


@pytest.fixture(params=KINDS)
async def db(request, tmp_path):
    async with opened(url_of(request, request.param, tmp_path)) as database:
        yield database


async def test_all_rows_of_many_users_in_the_order_asked(db):
    rows = [
        record(holder(number, kind, scope, app))
        for number in range(30)
        for kind, scope in (("admin", ""), ("room", "id:1"), ("room", "name:x"), ("user", ""))
        for app in (APP, APP + 1)
    ]
    random.Random(3).shuffle(rows)
    await db.put(rows)
    users = [holder(5), holder(99), holder(2, app=APP + 1), holder(5), holder(0)]
    found = await db.store.of_users(users)
    for user, mine in zip(users, found, strict=True):
        assert mine == await db.store.of_user(user.sdkappid, user.userid)
    assert [len(mine) for mine in found] == [4, 0, 4, 4, 4]
    assert await db.store.of_users([]) == []


async def test_a_free_row_is_locked_and_a_missing_one_made(db):
    await db.put([record(1)])
    async with db.store.transaction() as tx:
        asked = [holder(2), holder(1), holder(2)]
        got = await tx.try_lock(asked)
        assert got == [Record(*holder(2)), record(1), Record(*holder(2))]
        assert await tx.try_lock([]) == []
    assert await db.get(holder(2)) == Record(*holder(2))


async def test_several_who_try_at_once_never_write_over_each_other(db):
    await db.put([record(n, issued_at=1000) for n in range(20)])
    dice = random.Random(6)
    done = 0

    async def reissue() -> None:
        nonlocal done
        for _ in range(10):
            async with db.store.transaction() as tx:
                rows = await tx.try_lock([holder(n) for n in dice.sample(range(20), 8)])
                free = [row for row in rows if row is not None]
                await asyncio.sleep(0)
                await tx.save([(r._replace(issued_at=r.issued_at + 1), r.issued_at) for r in free])
            done += len(free)

    await asyncio.gather(*(reissue() for _ in range(6)))
    rows = await db.store.find([holder(n) for n in range(20)])
    assert sum(row.issued_at - 1000 for row in rows) == done > 0


@only_postgres
async def test_rows_that_another_transaction_holds_keep_nobody_waiting(db):
    await db.put([record(n) for n in range(1000)])
    async with db.store.transaction() as other:
        await other.lock([holder(n) for n in range(0, 1000, 2)])
        async with asyncio.timeout(2), db.store.transaction() as tx:
            rows = await tx.try_lock([holder(n) for n in range(1000)])
            assert [row is None for row in rows] == [n % 2 == 0 for n in range(1000)]
            [alone] = await tx.try_lock([holder(4)])
            assert alone is None
            held, new = await tx.try_lock([holder(6), holder(5000)])
            assert held is None
            assert new == Record(*holder(5000))


@only_postgres
async def test_a_row_that_another_is_about_to_make_is_waited_for_for_a_moment(db: Database):
    async with db.store.transaction() as other:
        await other.lock([holder(1)])
        with pytest.raises(errors.StoreUnavailable):
            async with asyncio.timeout(3), db.store.transaction() as tx:
                await tx.try_lock([holder(1)])

    async def make() -> None:
        async with db.store.transaction() as other:
            await other.lock([holder(2)])
            await asyncio.sleep(0.1)
            await other.save([(record(2), 0)])

    making = asyncio.create_task(make())
    await asyncio.sleep(0.05)
    async with db.store.transaction() as tx:
        assert await tx.try_lock([holder(2)]) == [record(2)]
    await making


@only_postgres
async def test_those_who_make_rows_and_those_who_hold_them_do_not_deadlock(db):
    dice = random.Random(9)

    async def work(patient: bool) -> None:
        for turn in range(10):
            asked = [holder(n) for n in dice.sample(range(10 * turn, 10 * turn + 30), 20)]
            async with db.store.transaction() as tx:
                rows = await (tx.lock(asked) if patient else tx.try_lock(asked))
                await tx.save(
                    [(r._replace(issued_at=NOW + r.issued_at + 1), r.issued_at)
                     for r in rows if r is not None]
                )  # fmt: skip

    await asyncio.gather(*(work(n % 2 == 0) for n in range(6)))


# Acks


async def confirmed(db: Database, *acks: Ack) -> list[Confirmed]:
    async with db.store.transaction() as tx:
        return await tx.confirm(acks, NOW + 9)


async def test_acks_of_current_sigs_are_written_and_no_others(db):
    await db.put(
        [
            record(1),
            record(2, acked=NOW - 5),
            record(3, acked=NOW, acked_at=NOW + 1),
            record(4, revoked_at=NOW - 50),
            record(5, revoked_at=NOW + 50),
            record(6),
            record(holder(7, "room", "id:1")),
        ]
    )
    asked = [Ack(holder(n), NOW, NOW) for n in (7, 5, 3, 1, 2, 4)] + [
        Ack(holder(6), NOW, NOW - 1),
        Ack(holder(8), NOW, NOW),
    ]
    done = await confirmed(db, *asked)
    assert sorted(done) == [Confirmed(holder(n), NOW, NOW + TTL, "Missing") for n in (1, 2, 4)]
    for n in (1, 2, 4):
        row = await db.get(holder(n))
        assert (row.acked, row.acked_at) == (NOW, NOW + 9)
    assert (await db.get(holder(3))).acked_at == NOW + 1
    assert await db.get(holder(6)) == record(6)
    assert await confirmed(db, *asked) == []
    assert await confirmed(db) == []


async def test_acks_obey_a_revocation_that_is_in_no_row(db):
    await db.put([record(1), record(2)])
    store = SqlStore(db.engine, lambda sdkappid, userid: NOW if userid == holder(1).userid else 0)
    async with store.transaction() as tx:
        done = await tx.confirm([Ack(holder(n), NOW, NOW) for n in (1, 2)], NOW)
    assert [one.user for one in done] == [holder(2)]


@only_postgres
async def test_acks_wait_but_a_moment_for_a_row_that_another_holds(db):
    await db.put([record(n) for n in range(10)])
    async with db.store.transaction() as other:
        await other.lock([holder(4)])
        with pytest.raises(errors.StoreUnavailable):
            async with asyncio.timeout(3):
                await confirmed(db, *(Ack(holder(n), NOW, NOW) for n in range(10)))
    assert await db.get(holder(1)) == record(1), "nothing is half done"
    assert len(await confirmed(db, *(Ack(holder(n), NOW, NOW) for n in range(10)))) == 10


async def test_acks_of_many_at_once_are_written_once_each(db):
    """In batches with common users, as two processes or two batches of one have them."""
    await db.put([record(n) for n in range(60)])
    dice = random.Random(8)

    async def work() -> list[Confirmed]:
        found: list[Confirmed] = []
        for _ in range(8):
            batch = [Ack(holder(n), NOW, NOW) for n in dice.sample(range(60), 30)]
            with contextlib.suppress(errors.StoreUnavailable):
                found += await confirmed(db, *batch)
        return found

    found = [one for part in await asyncio.gather(*(work() for _ in range(4))) for one in part]
    assert len(found) == len({one.user for one in found})
    rows = await db.store.find([holder(n) for n in range(60)])
    assert sum(row.acked == NOW for row in rows) == len(found)
