"""The queue of events and the janitor, over both databases."""

from __future__ import annotations

import asyncio

import pytest
import sqlalchemy as sa
import structlog
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sigmgr.model.event import Event
from sigmgr.model.holder import Holder
from sigmgr.model.sig import Record
from sigmgr.store.outbox import ROW_EVENTS
from sigmgr.store.tables import outbox
from tests.contract.store_kit import (
    APP,
    DAY,
    KINDS,
    NOW,
    TTL,
    event,
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


async def add(db, *events):
    async with db.store.transaction() as tx:
        return await tx.append(events)


async def taken(db, limit=100, before=NOW + DAY):
    async with db.outbox.take(limit, before) as events:
        return list(events)


async def rows(db):
    async with db.engine.read() as connection:
        return (await connection.execute(sa.select(*outbox.c).order_by(outbox.c.id))).all()


async def test_events_come_back_whole_and_in_order(db):
    reported = [
        event(holder(n % 3, "room", f"id:{n}"), at=NOW + n, note=f'a "note", {n} é\\ {{}}')
        for n in range(20)
    ]
    ids = await add(db, *reported)
    assert ids == sorted(set(ids))
    assert await taken(db, limit=5) == reported[:5]
    assert await taken(db) == reported[5:]
    assert await taken(db) == []
    assert await add(db) == []


async def test_a_row_holds_events_of_one_app_and_second(db):
    mine = [event(holder(n)) for n in range(ROW_EVENTS + 3)]
    theirs = [event(holder(n, app=APP + 1)) for n in range(2)]
    later = [event(holder(1), at=NOW + 1)]
    ids = await add(db, *mine[:5], *theirs, *later, *mine[5:])
    kept = await rows(db)
    assert [row.id for row in kept] == ids
    assert [(row.at, row.sdkappid, row.size) for row in kept] == [
        (NOW, APP, ROW_EVENTS), (NOW, APP, 3), (NOW, APP + 1, 2), (NOW + 1, APP, 1),
    ]  # fmt: skip
    assert await taken(db) == [*mine, *theirs, *later]


@only_postgres
async def test_a_usual_row_is_kept_as_it_is(db):
    """Neither compressed nor moved out: as many bytes as characters, and a length of four."""
    usual = event(holder("user-of-17-letters"), reason="NearingExpiry", type="sig.renewed")
    await add(db, *[usual] * ROW_EVENTS)
    async with db.engine.read() as connection:
        question = "SELECT pg_column_size(events) - octet_length(events) FROM outbox"
        assert await connection.scalar(sa.text(question)) in {1, 4}


async def test_ids_rise_for_large_batches(db):
    reported = [event(holder(n), at=NOW + n // 100) for n in range(1500)]
    ids = await add(db, *reported)
    assert ids == sorted(ids) == [row.id for row in await rows(db)]
    assert await taken(db, limit=len(ids)) == reported


async def test_a_failed_relay_gives_back_what_it_took(db):
    reported = [event(holder(1)), event(holder(2))]
    await add(db, *reported)
    with pytest.raises(RuntimeError):
        async with db.outbox.take(10, NOW):
            raise RuntimeError
    assert await taken(db) == reported


async def test_young_events_are_left_to_their_own_process(db):
    reported = [event(holder(1), at=NOW), event(holder(2), at=NOW + 1)]
    await add(db, *reported)
    assert await taken(db, before=NOW) == reported[:1]
    assert await db.outbox.depth(NOW + 9) == (1, 8)


async def test_what_was_announced_is_deleted_and_asks_for_nothing_else(db):
    reported = [event(holder(n), at=NOW + n) for n in range(5)]
    ids = await add(db, *reported)
    await db.outbox.mark_announced([ids[1], ids[3], 10_000_000])
    await db.outbox.mark_announced([])
    assert await taken(db) == [reported[0], reported[2], reported[4]]
    assert await add(db, event(holder(9))) > ids, "an id is never used again"


@only_postgres
async def test_only_what_may_be_announced_twice_does_not_wait_for_the_disk(db):
    texts = []
    engine = db.engine._pool.engine.sync_engine
    sa.event.listen(engine, "before_cursor_execute", lambda *said: texts.append(said[2]))
    ids = await add(db, event(holder(1)))
    assert "synchronous_commit" not in "".join(texts)
    await db.outbox.mark_announced(ids)
    assert "synchronous_commit=off" in texts[-2], texts[-2:]


async def test_relays_share_the_work(db):
    everything = [event(holder(n), at=NOW - n) for n in range(60)]
    await add(db, *everything)
    reported = []

    async def relay() -> None:
        while True:
            async with db.outbox.take(7, NOW) as events:
                reported.extend(events)
                await asyncio.sleep(0.005)
                if not events:
                    return

    await asyncio.gather(*(relay() for _ in range(3)))
    assert sorted(reported) == sorted(everything)


@only_postgres  # SQLite's relays take turns
async def test_a_relay_does_not_wait_for_another(db):
    reported = [event(holder(n), at=NOW - n) for n in range(4)]
    await add(db, *reported)
    async with db.outbox.take(2, NOW) as first:
        assert first == reported[:2]
        assert await asyncio.wait_for(taken(db), 3) == reported[2:]


@only_postgres  # SQLite commits in the order of ids
async def test_an_event_that_commits_late_is_not_lost(db):
    """Its row's id is smaller than one that was announced before it became visible."""
    async with db.store.transaction() as late:
        (first,) = await late.append([event(holder(1))])
        (second,) = await add(db, event(holder(2)))
        assert first < second
        assert await taken(db) == [event(holder(2))]
    assert await taken(db) == [event(holder(1))]


async def test_a_mark_does_not_wait_for_a_sweep(db):
    reported = [event(holder(1), at=NOW - 1), event(holder(2))]
    ids = await add(db, *reported)
    async with db.outbox.take(1, NOW) as events:
        assert events == reported[:1]
        await asyncio.wait_for(db.outbox.mark_announced(ids), 3)
    assert await taken(db) == []


async def test_a_relay_that_stands_still_stops_no_request(db):
    await add(db, event(holder(1)))
    async with db.outbox.take(10, NOW):
        await asyncio.wait_for(db.put([record(1)]), 3)
    assert await db.get(holder(1)) == record(1)


NEWER = '[["sig.renewed",[1,"a","user",""],1,2,"r",3,"n",4,{"more":5}]]'
DAMAGED = ["", "[", "{}", '[["sig.issued"]]', "[3]", NEWER.replace(',"n"', ",0")]


@pytest.mark.parametrize("text", DAMAGED)
async def test_a_row_that_cannot_be_read_holds_up_no_other(db, text):
    """Said once, and gone with the others."""
    reported = [event(holder(n), at=NOW - n) for n in range(3)]
    ids = await add(db, *reported)
    async with db.engine.write() as connection:
        middle = outbox.update().where(outbox.c.id == ids[1])
        await connection.execute(middle.values(events=text, size=7))
    with structlog.testing.capture_logs() as logs:
        with pytest.raises(RuntimeError):
            async with db.outbox.take(10, NOW):
                raise RuntimeError
        assert logs == [], "it is still there"
        assert await taken(db) == [reported[0], reported[2]]
    [line] = logs
    assert (line["log_level"], line["action"]) == ("error", "outbox-unread")
    assert (line["row"], line["app"], line["count"]) == (ids[1], APP, 7)
    assert set(line) == {"event", "log_level", "action", "row", "app", "count"}
    assert await rows(db) == []


async def test_a_row_of_a_newer_version_is_read_without_what_is_new(db):
    await add(db, event(holder(1), at=NOW))
    async with db.engine.write() as connection:
        await connection.execute(outbox.update().values(events=NEWER))
    assert await taken(db) == [Event("sig.renewed", Holder(1, "a"), 1, 2, "r", 3, "n")]


async def test_depth(db):
    assert await db.outbox.depth(NOW) == (0, 0)
    await add(db, event(holder(1), at=NOW - 30), *[event(holder(2), at=NOW - 90)] * 20)
    assert await db.outbox.depth(NOW) == (21, 90)
    assert await db.outbox.depth(NOW - 200) == (21, 0)
    assert all(type(number) is int for number in await db.outbox.depth(NOW))


# Janitor

ROOM_TTL = 6 * 3600


def resting(who, **more):
    return record(who, due_at=None, **more)


async def survivors(db, now=NOW, limit=100):
    count = await db.janitor.forget_past(now, limit)
    rows = await db.store.page(None, 1000)
    return count, {row.userid for row in rows}


async def test_users_are_kept_half_a_year_and_rooms_a_day(db):
    room = holder("room", "room", "id:1")
    await db.put([
        resting("keep", expires_at=NOW - 180 * DAY + 1),
        resting("past", expires_at=NOW - 180 * DAY),
        resting("long", ttl=3650 * DAY, expires_at=NOW - 179 * DAY),
        resting("short", ttl=30, expires_at=NOW - 59),
        resting("shorter", ttl=30, expires_at=NOW - 60),
        resting(room, ttl=ROOM_TTL, expires_at=NOW - DAY),
        resting(holder("room2", "room", "id:1"), ttl=ROOM_TTL, expires_at=NOW - DAY + 1),
        resting(holder("room3", "room", "id:1"), ttl=30, expires_at=NOW - 119),
        resting(holder("room4", "room", "id:1"), ttl=30, expires_at=NOW - 120),
        resting(holder("admin", "admin"), expires_at=NOW - 100 * DAY),
    ])  # fmt: skip
    count, left = await survivors(db)
    assert left == {"keep", "long", "short", "room2", "room3", "admin"}
    assert count == 4


async def test_what_is_tracked_alive_or_just_revoked_stays(db):
    bare = Record(*holder("revoked"), revoked_at=NOW - DAY + 1)
    await db.put([
        record("tracked", expires_at=NOW - 900 * DAY, due_at=1),
        resting("dormant", expires_at=NOW + 1),
        resting("late", expires_at=NOW - 300 * DAY, revoked_at=NOW - 5),
        bare,
        bare._replace(userid="old", revoked_at=NOW - DAY),
        Record(*holder("never")),
    ])  # fmt: skip
    count, left = await survivors(db)
    assert left == {"tracked", "dormant", "late", "revoked"}
    assert count == 2


async def test_it_forgets_in_small_batches(db):
    await db.put(resting(n, expires_at=NOW - 200 * DAY - n) for n in range(25))
    counts = [(await survivors(db, limit=10))[0] for _ in range(4)]
    assert counts == [10, 10, 5, 0]


@only_postgres  # SQLite's writers take turns
async def test_it_does_not_wait_for_a_locked_row(db):
    await db.put(resting(n, expires_at=NOW - 200 * DAY) for n in range(2))
    async with db.store.transaction() as tx:
        await tx.lock([holder(0)])
        assert await asyncio.wait_for(db.janitor.forget_past(NOW, 10), 3) == 1
    assert await db.get(holder(0)) is not None


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(
        st.tuples(
            st.sampled_from(["user", "admin", "room"]),
            st.sampled_from([10, 30, 3600, ROOM_TTL, TTL, 3 * TTL]),
            st.integers(-400, 5),
            st.booleans(),
            st.integers(-3, 0),
            st.booleans(),
        ),
        max_size=30,
    )
)
async def test_it_never_deletes_what_is_current(db, rows):
    records = []
    for n, (kind, ttl, days, tracked, revoked, issued) in enumerate(rows):
        expires_at = NOW + days * DAY
        row = record(holder(n, kind), ttl=ttl, issued_at=expires_at - ttl, expires_at=expires_at)
        row = row._replace(due_at=NOW if tracked else None, revoked_at=NOW + revoked * DAY)
        records.append(row if issued else row._replace(issued_at=0, expires_at=0, ttl=0))
    await db.put(records)
    _, left = await survivors(db)
    for row in records:
        if row.due_at is not None or row.alive(NOW) or row.revoked_at > NOW - DAY:
            assert row.userid in left
        if row.due_at is None and row.issued_at and row.expires_at < NOW - 181 * DAY:
            assert (row.userid in left) == (row.revoked_at > NOW - DAY)
