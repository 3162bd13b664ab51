"""The store's contract for limits: how many rows an app has, how many rooms of a user live."""

from __future__ import annotations

import asyncio

import pytest

from tests.contract.store_kit import APP, KINDS, NOW, holder, only_postgres, opened, record, url_of


@pytest.fixture(params=KINDS)
async def db(request, tmp_path):
    async with opened(url_of(request, request.param, tmp_path)) as database:
        yield database


async def test_rows_of_an_app_are_counted_up_to_the_limit(db):
    assert await db.store.count(APP, 10) == 0
    await db.put([record(n) for n in range(7)] + [record(holder(1, "room", "id:1"))]
                 + [record(holder(n, app=APP + 1)) for n in range(3)])  # fmt: skip
    assert await db.store.count(APP, 10) == 8
    assert await db.store.count(APP, 8) == 8
    assert await db.store.count(APP, 5) == 5
    assert await db.store.count(APP + 1, 5) == 3


async def test_live_rooms_are_those_that_can_be_entered(db):
    def room(number, **more):
        return record(holder(1, "room", f"id:{number}"), **more)

    rows = [
        record(1),
        record(holder(1, "admin")),
        room(1, expires_at=NOW + 50),
        room(2, expires_at=NOW + 70),
        room(3, expires_at=NOW),
        room(4, revoked_at=NOW),
        room(5, issued_at=NOW - 100),
        room(6, issued_at=0, ttl=0, expires_at=0),
        record(holder(2, "room", "id:1")),
        record(holder(1, "room", "id:1", APP + 1)),
    ]
    await db.put(rows)
    async with db.store.transaction() as tx:
        [owner] = await tx.lock([holder(1)])
        assert await tx.live_rooms(owner, NOW) == (3, NOW + 50)
        revoked = owner._replace(revoked_at=NOW - 100)
        assert await tx.live_rooms(revoked, NOW) == (2, NOW + 50)
        assert await tx.live_rooms(owner._replace(revoked_at=NOW), NOW) == (0, 0)
        [other] = await tx.lock([holder(9)])
        assert await tx.live_rooms(other, NOW) == (0, 0)


@only_postgres
async def test_who_waits_for_the_owners_row_counts_what_the_other_made(db):
    async def made(number):
        async with db.store.transaction() as tx:
            owner, _ = await tx.lock([holder(1), holder(1, "room", f"id:{number}")])
            rooms, _ = await tx.live_rooms(owner, NOW)
            await asyncio.sleep(0.02)
            if rooms < 3:
                await tx.save([(record(holder(1, "room", f"id:{number}")), 0)])
            return rooms

    assert sorted(await asyncio.gather(*map(made, range(6)))) == [0, 1, 2, 3, 3, 3]
