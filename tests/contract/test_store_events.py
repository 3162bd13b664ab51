"""Numbered events for durable readers: the switch, the numbers, the reader, removal. Over both
databases."""

from __future__ import annotations

import asyncio
import random

import pytest
import sqlalchemy as sa
import structlog

from sigmgr.model import errors
from sigmgr.model.cursor import Cursor
from sigmgr.ports import EventReader, Numbered, Outbox
from sigmgr.store.feeds import KEPT_FOR, switch_within
from sigmgr.store.outbox import ROW_EVENTS, SqlOutbox
from sigmgr.store.tables import events as events_table
from sigmgr.store.tables import feeds, outbox
from tests.contract.store_kit import (
    APP,
    KINDS,
    NOW,
    event,
    holder,
    only_postgres,
    opened,
    url_of,
)

OTHER = APP + 1


@pytest.fixture(params=KINDS)
async def db(request, tmp_path):
    async with opened(url_of(request, request.param, tmp_path)) as database:
        for app in (APP, OTHER):
            await database.catalog.add_app(app, now=NOW)
        yield database


async def on(db, app=APP):
    return (await db.catalog.set_feed(app, on=True)).feed


async def add(db, *events):
    async with db.store.transaction() as tx:
        return await tx.append(events)


def some(count, first=0, app=APP):
    return [event(holder(first + n, app=app), at=NOW + n // 20) for n in range(count)]


async def number(db, app=APP, now=NOW, limit=500):
    return await db.outbox.number(app, now, limit)


async def all_read(db, app=APP, after=None, limit=7):
    """All events after a cursor, by pages, and the last cursor."""
    found = []
    while True:
        page = await db.events.read(app, after, limit)
        assert len(page.events) <= limit
        found += page.events
        after = page.cursor
        if after.number == page.last:
            return found, after


def counted(events, first=1):
    return [Numbered(n, one) for n, one in enumerate(events, first)]


async def rows(db, table=outbox):
    async with db.engine.read() as connection:
        first, *_ = table.primary_key.columns
        return (await connection.execute(sa.select(*table.c).order_by(first))).all()


async def change(db, statement):
    async with db.engine.write() as connection:
        await connection.execute(statement)


async def swept(db):
    async with db.outbox.take(1000, NOW + 10**6) as events:
        return list(events)


# Numbers


async def test_events_get_numbers_without_gaps_and_pages_show_each_once(db):
    ports: tuple[Outbox, EventReader] = (db.outbox, db.events)
    assert all(ports)
    feed = await on(db)
    reported = some(2 * ROW_EVENTS + 5)
    for n in range(0, len(reported), 9):
        await add(db, *reported[n : n + 9])
    assert await db.events.read(APP, None, 5) == ([], Cursor(feed, 0), 0)
    assert await number(db, limit=2) + await number(db) == len(reported)
    assert await number(db) == 0
    for limit in (1, 7, 1000):
        found, last = await all_read(db, limit=limit)
        assert found == counted(reported)
        assert last == Cursor(feed, len(reported))
    assert await db.events.read(APP, Cursor(feed, 20), 3) == (
        counted(reported)[20:23], Cursor(feed, 23), len(reported)
    )  # fmt: skip
    more = some(3, 500)
    await add(db, *more)
    await number(db)
    assert (await all_read(db, after=last))[0] == counted(more, len(reported) + 1)


async def test_each_app_counts_by_itself(db):
    mixed = [one for pair in zip(some(20), some(20, app=OTHER), strict=True) for one in pair]
    await on(db)
    await add(db, *mixed)
    await on(db, OTHER)
    await add(db, *mixed)
    assert await db.outbox.unnumbered() == [APP, OTHER]
    assert [await number(db, app) for app in (APP, OTHER)] == [40, 20]
    assert await db.outbox.unnumbered() == []
    assert (await all_read(db))[0] == counted(some(20) + some(20))
    assert (await all_read(db, OTHER))[0] == counted(some(20, app=OTHER))


async def test_apps_without_readers_keep_nothing(db):
    ids = await add(db, *some(20))
    assert await db.outbox.unnumbered() == []
    assert await number(db) == 0
    assert not any(row.waits for row in await rows(db))
    await db.outbox.mark_announced(ids)
    assert await rows(db) == await rows(db, events_table) == []
    with pytest.raises(errors.FeedOff):
        await db.events.read(APP, None, 10)
    with pytest.raises(errors.FeedOff):
        await db.events.read(APP + 9, None, 10)


async def test_a_row_goes_when_it_is_both_announced_and_numbered(db):
    await on(db)
    first, second, third = [(await add(db, *some(2, n)))[0] for n in (10, 20, 30)]
    await db.outbox.mark_announced([first])
    assert [(row.waits, row.announced) for row in await rows(db)] == [
        (True, True), (True, False), (True, False),
    ]  # fmt: skip
    assert await swept(db) == [], "what waits for numbers is left for that"
    await number(db, limit=2)
    assert [(row.id, row.waits) for row in await rows(db)] == [(second, False), (third, True)]
    await db.outbox.mark_announced([second, third])
    assert [row.id for row in await rows(db)] == [third]
    await number(db)
    assert await rows(db) == []
    assert (await all_read(db))[0] == counted(some(2, 10) + some(2, 20) + some(2, 30))


async def test_what_nobody_announced_is_swept_after_it_was_numbered(db):
    await on(db)
    await add(db, *some(3))
    await number(db)
    assert await swept(db) == some(3)
    assert await rows(db) == []


async def test_a_numbering_that_dies_changes_nothing(db):
    await on(db)
    await add(db, *some(3))
    before = [await rows(db, table) for table in (outbox, feeds, events_table)]
    for statement in ("INSERT INTO events", "UPDATE feeds", "DELETE FROM outbox", "UPDATE outbox"):

        def die(_connection, _cursor, text, *_, statement=statement):
            if text.startswith(statement):
                raise RuntimeError

        engine = db.engine._pool.engine.sync_engine
        sa.event.listen(engine, "before_cursor_execute", die)
        with pytest.raises(RuntimeError):
            await number(db)
        sa.event.remove(engine, "before_cursor_execute", die)
        assert [await rows(db, table) for table in (outbox, feeds, events_table)] == before
    assert await number(db) == 3
    assert (await all_read(db))[0] == counted(some(3))


@only_postgres  # SQLite commits in the order of ids
async def test_an_event_that_commits_late_has_a_later_number(db):
    feed = await on(db)
    async with db.store.transaction() as late:
        (first,) = await late.append(some(1, 1))
        (second,) = await add(db, *some(1, 2))
        assert first < second
        assert await number(db) == 1
        page = await db.events.read(APP, None, 10)
    assert await number(db) == 1
    assert (await db.events.read(APP, page.cursor, 10)).events == counted(some(1, 1), 2)
    assert page.cursor == Cursor(feed, 1)


@only_postgres
async def test_a_relay_waits_for_no_other_and_not_for_a_sweep(db):
    await add(db, *some(1, 7))
    await on(db)
    await add(db, *some(2))
    async with db.engine.write() as connection:
        await connection.execute(sa.text("SELECT * FROM feeds FOR UPDATE"))
        assert await asyncio.wait_for(number(db), 3) == 0
    async with db.outbox.take(10, NOW) as held:
        assert held == some(1, 7)
        assert await asyncio.wait_for(number(db), 3) == 2
    await db.outbox.mark_announced([row.id for row in await rows(db)])
    assert await rows(db) == []


@only_postgres
async def test_a_mark_waits_for_a_numbering_and_the_other_way_round(db):
    """Neither passes over what the other has under way: such a row would be announced twice, or
    its events would come after those behind them."""
    await on(db)
    ids = await add(db, *some(2))
    async with db.engine.write() as connection:
        await db.outbox._number(APP, NOW, 10, connection)
        mark = asyncio.create_task(db.outbox.mark_announced(ids))
        await asyncio.sleep(0.2)
        assert not mark.done()
    await mark
    assert await rows(db) == []
    ids = await add(db, *some(2, 5))
    async with db.engine.write() as connection:
        await db.outbox._mark_announced(ids, connection)
        numbering = asyncio.create_task(number(db))
        await asyncio.sleep(0.2)
        assert not numbering.done()
    assert await numbering == 2
    assert await rows(db) == []


@pytest.mark.parametrize("seed", range(3))
async def test_committers_marks_and_relays_at_once(db, seed):
    """Each event has one number, numbers have no gap, a holder's events keep their order, and a
    reader that goes along by small pages has missed none."""
    rng = random.Random(seed)
    feed = await on(db)
    committed = []
    working = True

    async def committer(n):
        for turn in range(8):
            users = sorted(rng.sample(range(6), 3))
            async with db.store.transaction() as tx:
                await tx.lock([holder(user) for user in users])
                await asyncio.sleep(rng.random() * 0.01)
                batch = [event(holder(user), note=f"{n}-{turn}") for user in users]
                ids = await tx.append(batch)
                committed.extend(batch)
                await asyncio.sleep(rng.random() * 0.01)
            if rng.random() < 0.7:
                await db.outbox.mark_announced(ids)

    async def relay(box):
        while working or await box.unnumbered():
            await box.number(APP, NOW, rng.randint(1, 4))
            await asyncio.sleep(0.002)

    async def reader():
        found, after = [], None
        while True:
            done = not working and not await db.outbox.unnumbered()
            page = await db.events.read(APP, after, rng.randint(1, 9))
            found += page.events
            after = page.cursor
            if done and after.number == page.last:
                return found
            await asyncio.sleep(0.002)

    reading = asyncio.create_task(reader())
    relays = [asyncio.create_task(relay(SqlOutbox(db.engine))) for _ in range(2)]
    await asyncio.gather(*(committer(n) for n in range(4)))
    working = False
    await asyncio.gather(*relays)
    found = await reading
    assert [one.number for one in found] == list(range(1, len(committed) + 1))
    for user in range(6):
        mine = [one for one in committed if one.holder == holder(user)]
        assert [one.event for one in found if one.event.holder == holder(user)] == mine
    assert (await db.events.read(APP, None, 1000)).events == found
    await swept(db)
    assert await rows(db) == []
    assert (await db.catalog.get_app(APP)).feed == feed


# The switch


async def test_the_switch_is_thrown_once(db):
    assert (await db.catalog.get_app(APP)).feed == ""
    feed = await on(db)
    assert len(feed) == 32
    assert await on(db) == feed, "again changes nothing"
    assert [app.feed for app in await db.catalog.list_apps()] == [feed, ""]
    for _ in range(2):
        assert (await db.catalog.set_feed(APP, on=False)).feed == ""
    assert (await db.catalog.set_feed(OTHER, on=False)).feed == ""
    with pytest.raises(errors.AppUnknown):
        await db.catalog.set_feed(5, on=True)


async def test_a_new_feed_goes_on_with_other_numbers_and_shows_none_of_before(db):
    first = await on(db)
    await add(db, *some(5))
    await number(db)
    await swept(db)
    _, before = await all_read(db)
    ids = await add(db, *some(2, 50)) + await add(db, *some(2, 60))
    await db.outbox.mark_announced(ids[:1])
    await db.catalog.set_feed(APP, on=False)
    await add(db, *some(1, 70))
    assert await number(db) == 0
    assert await swept(db) == some(2, 60) + some(1, 70), "as without a feed"
    second = await on(db)
    assert second != first
    assert await db.events.read(APP, None, 5) == ([], Cursor(second, 5), 5)
    await add(db, *some(3, 80))
    await number(db)
    found, _ = await all_read(db)
    assert found == counted(some(3, 80), 6)
    for stale in (before, before._replace(number=2), Cursor(second, 99), Cursor(second, -1)):
        with pytest.raises(errors.CursorUnknown) as caught:
            await db.events.read(APP, stale, 5)
        assert caught.value.begin == Cursor(second, 5)
    with pytest.raises(errors.CursorExpired) as expired:
        await db.events.read(APP, Cursor(second, 3), 5)
    assert expired.value.begin == Cursor(second, 5)
    assert (await all_read(db, after=expired.value.begin))[0] == found
    await db.janitor.forget_events(NOW, 100)
    assert [row.number for row in await rows(db, events_table)] == [8], "what is of before goes"


@only_postgres  # SQLite's writers take turns
async def test_one_that_began_before_the_switch_and_appends_afterwards_sees_it(db):
    async with db.store.transaction() as slow:
        await slow.lock([holder(2)])
        await on(db)
        await slow.append(some(1, 2))
    assert await number(db) == 1
    assert (await all_read(db))[0] == counted(some(1, 2))


@only_postgres
async def test_the_switch_ends_when_the_last_that_appended_before_has_ended(db):
    async with db.store.transaction() as early:
        await early.append(some(1, 1))
        switching = asyncio.create_task(on(db))
        await asyncio.sleep(0.1)
        await asyncio.wait_for(add(db, *some(1, 3)), 5)  # others wait for a moment only
        await asyncio.sleep(0.5)
        assert not switching.done()
    await asyncio.wait_for(switching, 5)
    await add(db, *some(1, 2))
    await number(db)
    assert (await all_read(db))[0] == counted(some(1, 2)), "what committed before is in no feed"


@only_postgres
async def test_an_insert_that_waits_for_the_switch_sees_it(db):
    """A statement looks at the data after it has its locks."""
    for turn in range(8):  # by then the driver has prepared the statement
        async with db.engine.write() as connection:
            await switch_within(connection, db.engine.dialect, APP, on=turn % 2 == 0)
            adding = asyncio.create_task(add(db, *some(1, turn)))
            await asyncio.sleep(0.1)
            assert not adding.done()
        [row_id] = await adding
        waits = {row.id: row.waits for row in await rows(db)}
        assert waits[row_id] == (turn % 2 == 0)


async def test_an_app_goes_with_its_feed(db):
    await on(db)
    ids = await add(db, *some(3))
    await number(db)
    await db.outbox.mark_announced(ids)
    await add(db, *some(1))
    await db.catalog.remove_app(APP)
    assert [await rows(db, table) for table in (outbox, events_table, feeds)] == [[], [], []]


# A restored database


async def test_numbers_that_this_process_knows_and_the_database_does_not(db):
    """It was restored under our feet."""
    feed = await on(db)
    await add(db, *some(5))
    await number(db)
    _, after = await all_read(db)
    await change(db, events_table.delete())
    await change(db, feeds.update().values(number=0))
    with pytest.raises(errors.CursorUnknown):
        await db.events.read(APP, after, 5)
    await add(db, *some(9, 50))
    with structlog.testing.capture_logs() as logs:
        assert await number(db) == 9
    assert [line["action"] for line in logs] == ["feed-restored"]
    new = (await db.catalog.get_app(APP)).feed
    assert new != feed
    with pytest.raises(errors.CursorUnknown) as caught:
        await db.events.read(APP, after, 5)
    assert caught.value.begin == Cursor(new, 0)
    assert (await all_read(db))[0] == counted(some(9, 50))
    await add(db, *some(1))
    await number(db)
    assert (await db.catalog.get_app(APP)).feed == new, "once"


@only_postgres
async def test_another_history_of_the_database_is_another_feed(db):
    """What was kept stays readable; numbers go on."""
    feed = await on(db)
    await add(db, *some(2))
    await number(db)
    [row] = await rows(db, feeds)
    cluster, timeline, table = row.history.split(" ")
    assert int(cluster) > 0 and int(timeline, 16) == 1 and int(table) > 0
    for other in (f"1 {timeline} {table}", f"{cluster} 00000002 {table}", f"{cluster} 1 9"):
        await change(db, feeds.update().values(history=other))
        await add(db, *some(1))
        await SqlOutbox(db.engine).number(APP, NOW, 10)
        new = (await db.catalog.get_app(APP)).feed
        assert new != feed
        feed = new
    found, last = await all_read(db)
    assert (len(found), last) == (5, Cursor(feed, 5))


@only_postgres
async def test_a_plain_user_of_the_database_may_ask_for_its_history(db):
    async with db.engine.write() as connection:
        await connection.exec_driver_sql("CREATE ROLE plain")
        await connection.exec_driver_sql("GRANT SELECT ON feeds TO plain")
        await connection.exec_driver_sql(f"INSERT INTO feeds (sdkappid) VALUES ({APP})")
        await connection.exec_driver_sql("SET LOCAL ROLE plain")
        asked = sa.text(f"SELECT {db.engine.dialect.history} FROM feeds")
        assert await connection.scalar(asked)
        await connection.exec_driver_sql("RESET ROLE")
        await connection.exec_driver_sql("REVOKE ALL ON feeds FROM plain; DROP ROLE plain")


# Removal


async def test_events_are_kept_for_a_week_and_go_in_small_batches(db):
    feed = await on(db)
    for n in range(10):
        await add(db, *some(2, 10 * n))
        await number(db, now=NOW + n)
    assert await db.janitor.forget_events(NOW + KEPT_FOR - 1, 3) == 0
    assert await db.janitor.forget_events(NOW + 5 + KEPT_FOR, 4) == 4
    assert await db.janitor.forget_events(NOW + 5 + KEPT_FOR, 4) == 2
    assert await db.janitor.forget_events(NOW + 5 + KEPT_FOR, 4) == 0
    assert [row.number for row in await rows(db, events_table)] == [14, 16, 18, 20]
    with pytest.raises(errors.CursorExpired) as caught:
        await db.events.read(APP, Cursor(feed, 11), 5)
    assert caught.value.begin == Cursor(feed, 12)
    found, last = await all_read(db, after=caught.value.begin)
    assert [one.number for one in found] == list(range(13, 21))
    assert await db.janitor.forget_events(NOW + 10**7, 100) == 4
    assert await db.events.read(APP, last, 5) == ([], last, 20), "who has read all misses nothing"
    with pytest.raises(errors.CursorExpired) as caught:
        await db.events.read(APP, Cursor(feed, 19), 5)
    assert caught.value.begin == last
    await add(db, *some(1))
    await number(db)
    assert (await all_read(db, after=last))[0] == counted(some(1), 21)


async def test_a_clock_that_was_ahead_leaves_no_hole(db):
    """A row behind it is past, so it is older than that."""
    feed = await on(db)
    for n, at in enumerate((NOW, NOW + 10**8, NOW + 1, NOW + 10**6)):
        await add(db, *some(1, n))
        await number(db, now=at)
    await db.janitor.forget_events(NOW + 1 + KEPT_FOR, 100)
    assert [row.number for row in await rows(db, events_table)] == [4]
    assert (await db.events.read(APP, Cursor(feed, 3), 9)).events == counted(some(1, 3), 4)


@only_postgres  # SQLite's writers take turns
async def test_two_that_remove_do_not_wait_for_each_other(db):
    await on(db)
    for n in range(4):
        await add(db, *some(1, n))
    await number(db)
    async with db.engine.write() as connection:
        await connection.execute(sa.text("SELECT * FROM events WHERE number < 3 FOR UPDATE"))
        assert await asyncio.wait_for(db.janitor.forget_events(NOW + 10**7, 100), 3) == 2


@pytest.mark.parametrize("text", ["[", "{}", '[["sig.issued"]]', "[]"])
async def test_a_damaged_row_is_passed_over_and_reported(db, text):
    await on(db)
    ids = [*await add(db, *some(2)), *await add(db, *some(3, 10)), *await add(db, *some(2, 20))]
    await change(db, outbox.update().where(outbox.c.id == ids[1]).values(events=text))
    await number(db)
    with structlog.testing.capture_logs() as logs:
        found, last = await all_read(db, limit=3)
    assert found == counted(some(2)) + counted(some(2, 20), 6)
    assert last.number == 7
    assert {line["action"] for line in logs} == {"events-unread"}
    assert text not in str(logs) or text == "["
