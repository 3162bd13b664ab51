"""What a tick takes: order, bounds, disjoint workers, warnings; over both databases."""

from __future__ import annotations

import asyncio
import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import event as sql_event
from sqlalchemy.engine import Engine

from sigmgr.model.policy import FULL_LIFE, Policy
from sigmgr.model.timing import in_emergency, rungs_crossed
from sigmgr.model.ttl import MAX_TTL, MIN_TTL
from sigmgr.store import transaction
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

LADDER = Policy().ladder


@pytest.fixture(params=KINDS)
async def db(request, tmp_path):
    async with opened(url_of(request, request.param, tmp_path)) as database:
        yield database


def edf(rows):
    return sorted(rows, key=lambda r: (r.expires_at, r.userid, r.kind, r.scope))


async def claimed(db, limit, now=NOW, app=APP, **more):
    async with db.store.transaction() as tx:
        return await tx.claim_due(app, now, limit, **more)


async def test_only_what_is_due_and_tracked_and_of_the_app(db):
    due = record(1, due_at=NOW)
    await db.put([
        due,
        record(2, due_at=NOW + 1),
        record(3, due_at=None),
        record(holder(4, app=APP + 1), due_at=NOW - 5),
    ])  # fmt: skip
    assert await claimed(db, 10) == [due]
    assert await claimed(db, 10, now=NOW - 1) == []
    assert [row.sdkappid for row in await claimed(db, 10, app=APP + 1)] == [APP + 1]


async def test_a_small_backlog_is_taken_in_exact_order_of_expiry(db):
    dice = random.Random(3)
    rows = [record(n, expires_at=NOW + dice.randrange(50), due_at=NOW - dice.randrange(50))
            for n in range(60)]  # fmt: skip
    await db.put(rows)
    assert await claimed(db, 10) == edf(rows)[:10]


async def test_a_small_backlog_is_probed_once_a_tick(db):
    await db.put([record(n, due_at=NOW - 9) for n in range(60)])
    probes = 0

    def count(_connection, _cursor, statement, *_more):
        nonlocal probes
        probes += statement.startswith("SELECT holders.due_at")

    sql_event.listen(Engine, "before_cursor_execute", count)
    try:
        for _ in range(4):
            await claimed(db, 10)
        assert probes == 1
        await claimed(db, 10, now=NOW + 1)
    finally:
        sql_event.remove(Engine, "before_cursor_execute", count)
    assert probes == 2


async def test_emergencies_are_ahead_of_any_backlog(db):
    """The oldest work is not the most urgent: it must not hide what expires next."""
    late = [record(n, due_at=NOW - 1000 + n, expires_at=NOW + 30 * DAY + n) for n in range(400)]
    urgent = [record(1000 + n, due_at=NOW - 1, expires_at=NOW + DAY + n) for n in range(7)]
    await db.put(late + urgent)
    got = await claimed(db, 10)
    assert got[:7] == urgent
    assert {row.userid for row in got[7:]} <= {row.userid for row in late}
    assert len(got) == 10


async def test_a_mass_that_expires_soon_but_is_not_due_hides_no_work(db):
    fresh = [record(n, expires_at=NOW + n, due_at=NOW + 5 + n) for n in range(300)]
    due = [record(1000 + n, due_at=NOW - n, expires_at=NOW + DAY + n) for n in range(100)]
    await db.put(fresh + due)
    got = await claimed(db, 5)
    assert len(got) == 5
    assert all(row.due_at <= NOW for row in got)


async def test_a_mass_of_one_second_is_taken_in_parts(db):
    rows = [record(n, due_at=NOW - 1, expires_at=NOW + DAY) for n in range(300)]
    await db.put(rows)
    taken = await drained(db, 7)
    assert sorted(taken) == sorted(row.userid for row in rows)


async def drained(db, limit, *, pause=0.0):
    """Renew until nothing is due; the users in the order taken."""
    taken: list[str] = []
    while True:
        async with db.store.transaction() as tx:
            rows = await tx.claim_due(APP, NOW, limit)
            await asyncio.sleep(pause)
            fresh = {"due_at": NOW + DAY, "issued_at": NOW + 1, "expires_at": NOW + 1 + TTL}
            await tx.save([(row._replace(**fresh), row.issued_at) for row in rows])
            await tx.append([event(row.holder) for row in rows])
        taken += [row.userid for row in rows]
        if not rows:
            return taken


async def test_a_large_backlog_drains_in_order_of_expiry(db):
    """One worker: with one lifetime the order is exact, remembered horizons or not."""
    dice = random.Random(5)
    rows = [record(n, issued_at=NOW - TTL + n, due_at=NOW - dice.randrange(1, 9999))
            for n in range(500)]  # fmt: skip
    dice.shuffle(rows)
    await db.put(rows)
    assert await drained(db, 10) == [row.userid for row in edf(rows)]


async def test_what_another_process_gave_back_is_not_forgotten(db):
    """This process goes on behind it for a few claims; then it comes first again."""
    rows = [record(n, due_at=NOW - 1, expires_at=NOW + n) for n in range(200)]
    await db.put([row._replace(due_at=NOW + 9) for row in rows[:3]] + rows[3:])
    taken = await renewed(db, 5)
    await db.put(rows[:3] + rows[8:])
    for _ in range(transaction.HORIZON_CLAIMS):
        taken += await renewed(db, 5)
    assert {row.userid for row in rows[:3]} <= set(taken)


async def test_a_new_tick_looks_from_the_beginning(db):
    """What fell due between two ticks may be the most urgent of all."""
    rows = [record(n, due_at=NOW - 1, expires_at=NOW + DAY + n) for n in range(200)]
    late = [record(500 + n, due_at=NOW + 1, expires_at=NOW + 60 + n) for n in range(3)]
    await db.put(rows + late)
    assert await renewed(db, 5) == [row.userid for row in rows[:5]]
    assert db.store._memory.horizons[APP].claims_left > 1
    assert (await renewed(db, 5, now=NOW + 1))[:3] == [row.userid for row in late]


async def test_what_was_rolled_back_comes_first_again(db):
    rows = [record(n, due_at=NOW - 1, expires_at=NOW + n) for n in range(200)]
    await db.put(rows)
    with pytest.raises(RuntimeError):
        async with db.store.transaction() as tx:
            await tx.claim_due(APP, NOW, 5)
            raise RuntimeError
    assert await renewed(db, 5) == [row.userid for row in rows[:5]]


async def test_the_last_of_a_backlog_are_found_wherever_they_lie(db):
    """A claim that does not fill looks before its place too, and keeps the order."""
    rows = [record(n, due_at=NOW - 1, expires_at=NOW + n) for n in range(50)]
    await db.put([row._replace(due_at=NOW + 9) for row in rows[:3]] + rows[3:])
    assert len(await renewed(db, 5)) == 5
    await db.put(rows[:3] + rows[8:])
    db.store._memory.horizons[APP] = db.store._memory.horizons[APP]._replace(claims_left=99)
    everybody = await renewed(db, 100)
    assert everybody == [row.userid for row in [*rows[:3], *rows[8:]]]


async def test_no_row_is_claimed_twice_where_many_lie_in_one_place(db):
    """The last claim of a backlog looks before and behind the place it goes on from."""
    rows = [record(n, due_at=NOW - 1, expires_at=NOW + DAY) for n in range(100)]
    await db.put(rows)
    first = await renewed(db, 10)
    assert len(first) == 10
    assert db.store._memory.horizons[APP].start == (NOW + DAY, NOW - 1)
    assert sorted(first + await renewed(db, 100)) == [row.userid for row in rows]


async def renewed(db, limit, *, now=NOW):
    """The users of one claim, each renewed."""
    async with db.store.transaction() as tx:
        rows = await tx.claim_due(APP, now, limit)
        fresh = {"due_at": NOW + DAY, "issued_at": NOW + 1, "expires_at": NOW + 1 + TTL}
        await tx.save([(row._replace(**fresh), row.issued_at) for row in rows])
    return [row.userid for row in rows]


async def test_workers_take_every_row_once(db):
    rows = [record(n, issued_at=NOW - TTL + n % 50, due_at=NOW - 1 - n % 70) for n in range(400)]
    await db.put(rows)
    parts = await asyncio.gather(*(drained(db, 15, pause=0.005) for _ in range(3)))
    everybody = [userid for part in parts for userid in part]
    assert sorted(everybody) == sorted(row.userid for row in rows)
    assert (await db.outbox.depth(NOW))[0] == 400
    assert sum(bool(part) for part in parts) > 1, "more than one worker had work"


@only_postgres  # SQLite's writers take turns
async def test_a_held_row_is_skipped_not_waited_for(db):
    await db.put([record(n, due_at=NOW - 1, expires_at=NOW + n) for n in range(6)])
    async with db.store.transaction() as first, db.store.transaction() as second:
        one = await first.claim_due(APP, NOW, 3)
        two = await asyncio.wait_for(second.claim_due(APP, NOW, 3), 5)
    assert [row.expires_at - NOW for row in one + two] == [0, 1, 2, 3, 4, 5]


async def test_a_paused_app_has_its_emergencies_only(db):
    ttl = 1000
    rows = [record(n, ttl=ttl, expires_at=NOW + n, due_at=NOW - 1) for n in range(-5, 200)]
    rows.append(record(900, ttl=TTL, expires_at=NOW + 4 * DAY, due_at=NOW - 1))
    rows.append(record(901, ttl=TTL, expires_at=NOW + 5 * DAY, due_at=NOW - 1))
    await db.put(rows)
    got = await claimed(db, 500, emergency=0.05)
    assert got == [row for row in rows if (row.expires_at - NOW) * 20 < row.ttl]
    assert len(got) == 5 + 50 + 1
    assert await claimed(db, 3, emergency=0.05) == got[:3]
    assert len(await claimed(db, 500, emergency=0.06)) == 5 + 60 + 2


LIVES = st.integers(MIN_TTL, 1000) | st.sampled_from([10, 11, 3600, DAY, TTL, MAX_TTL])


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lives=st.sets(LIVES, min_size=1, max_size=30), share=st.floats(1e-9, 0.2))
async def test_sql_finds_the_emergencies_of_the_rule(db, lives, share):
    """For each life the last second before its emergency, and the first seconds of it."""
    policy = Policy(emergency=share, renew_to=0.79, first_to=0.79)
    begins = {ttl: NOW + policy.durations(ttl).emergency for ttl in lives}
    records = [
        record(10 * n + later, ttl=ttl, due_at=NOW, expires_at=begins[ttl] + 1 - later)
        for n, ttl in enumerate(lives)
        for later in range(4)
    ]
    await db.put(records)
    got = await claimed(db, 1000, emergency=share)
    urgent = [
        row for row in records if in_emergency(policy.durations(row.ttl), row.expires_at, NOW)
    ]
    assert sorted(got) == sorted(urgent)
    assert len(urgent) == 2 * len(lives)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(
        st.tuples(st.integers(-9, 9), st.none() | st.integers(-9, 3)), max_size=45, min_size=1
    ),
    limit=st.integers(1, 6),
)
async def test_any_claim_is_full_due_and_most_urgent_first(db, rows, limit):
    records = [
        record(n, expires_at=NOW + expiry, due_at=None if due is None else NOW + due)
        for n, (expiry, due) in enumerate(rows)
    ]
    await db.put(records)
    # Hints of the example before would be right too, and order equal expiries otherwise.
    db.store._memory.horizons.clear()
    got = await claimed(db, limit)
    due = [row for row in records if row.due_at is not None and row.due_at <= NOW]
    assert len(set(got)) == len(got) == min(limit, len(due))
    assert set(got) <= set(due)
    if len(due) <= transaction.LOOKAHEAD * limit:
        assert got == edf(due)[:limit]
    tracked = sorted(
        (row for row in records if row.due_at is not None),
        key=lambda row: (row.expires_at, row.due_at),
    )
    near = [row for row in tracked[: transaction.LOOKAHEAD * limit] if row in due]
    expected = [row.expires_at for row in near[:limit]]
    assert [row.expires_at for row in got][: len(expected)] == expected


# Apps


async def test_apps_with_due_nearest_to_expiry_first(db):
    assert await db.store.apps_with_due(NOW) == []
    await db.put([
        record(holder(1, app=5), due_at=NOW - 1, expires_at=NOW + 500),
        record(holder(2, app=5), due_at=NOW + 1, expires_at=NOW + 1),
        record(holder(1, app=7), due_at=NOW, expires_at=NOW + 100),
        record(holder(1, app=6), due_at=NOW + 1, expires_at=NOW + 2),
        record(holder(1, app=8), due_at=None, expires_at=NOW + 3),
        record(holder(1, app=4), due_at=NOW - 9, expires_at=NOW + 900),
        *(record(holder(n, app=4), due_at=NOW - 8, expires_at=NOW + 901) for n in range(2, 40)),
        record(holder(99, app=4), due_at=NOW, expires_at=NOW + 50),
    ])  # fmt: skip
    assert await db.store.apps_with_due(NOW) == [4, 7, 5]
    assert await db.store.apps_with_due(NOW + 1) == [5, 6, 4, 7]


# Warnings


def crossed(row, now, ladder=LADDER):
    durations = Policy(ladder=tuple(ladder)).durations(row.ttl)
    return rungs_crossed(durations.ladder, row.expires_at, now)


async def warned(db, now, limit=100, ladder=LADDER):
    async with db.store.transaction() as tx:
        rows = await tx.claim_warnings(APP, now, limit, ladder)
        await tx.save([(row._replace(warned=crossed(row, now, ladder)), row.issued_at)
                       for row in rows])  # fmt: skip
    return rows


async def test_each_rung_fires_once_for_lives_of_any_length(db):
    """Looks at odd times, with gaps, over lives of 30 seconds to ten years."""
    lives = [10, 30, 3600, 6 * 3600, DAY, TTL - 1, TTL, TTL + 1, 400 * DAY, 3650 * DAY]
    end = NOW + 8 * DAY
    rows = [record(n, issued_at=end - ttl, ttl=ttl, due_at=end - 1) for n, ttl in enumerate(lives)]
    await db.put(rows)
    dice = random.Random(6)
    looks = sorted({end - int(left) for left in (10 ** dice.uniform(0, 5.84) for _ in range(60))})
    counts = dict.fromkeys((row.userid for row in rows), 0)
    for now in [*looks, end, end + 1, end + DAY]:
        for row in await warned(db, now):
            before, after = row.warned, crossed(row, now)
            assert after > before
            counts[row.userid] += after - before
        assert await warned(db, now) == [], "nothing twice"
    durations = [len(Policy().durations(ttl).ladder) + 1 for ttl in lives]
    assert list(counts.values()) == durations
    assert min(durations) == 1, "for ten seconds no rung is left but expiry"


async def test_dead_dormant_and_foreign_rows_are_not_warned_of(db):
    soon = {"expires_at": NOW + 60}
    await db.put([
        record(1, **soon, revoked_at=NOW),
        record(2, **soon, due_at=None),
        record(holder(3, app=APP + 1), **soon),
        record(4, **soon, warned=5),
        record(5, expires_at=NOW + 30 * DAY),
        record(6, **soon, warned=4),
    ])  # fmt: skip
    assert [row.userid for row in await warned(db, NOW)] == ["user000006"]


async def test_warnings_come_in_parts_nearest_expiry_first(db):
    rows = [record(n, expires_at=NOW + 3600 - n) for n in range(25)]
    await db.put(rows)
    got = [await warned(db, NOW, limit=10) for _ in range(3)]
    assert [len(part) for part in got] == [10, 10, 5]
    assert [row.userid for part in got for row in part] == [row.userid for row in reversed(rows)]


async def test_a_mass_already_warned_of_hides_nobody(db, monkeypatch):
    monkeypatch.setattr(transaction, "WARNING_WINDOW", 20)
    monkeypatch.setattr(transaction, "WARNING_WINDOWS", 2)
    stuck = [record(n, expires_at=NOW - 900 + n, warned=6) for n in range(300)]
    fresh = [record(500 + n, expires_at=NOW + 60 + n) for n in range(3)]
    await db.put(stuck + fresh)
    looks = [len(await warned(db, NOW)) for _ in range(10)]
    assert sum(looks) == 3
    await db.put(stuck + fresh)
    assert sum([len(await warned(db, NOW)) for _ in range(20)]) == 3, "it starts over at the end"


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(
        st.tuples(
            st.sampled_from([10, 11, 30, 90, 3600, 21_600, DAY, TTL - 1, TTL, TTL + 1, 10 * TTL]),
            st.floats(-0.02, 0.2),
            st.integers(0, 6),
        ),
        min_size=1,
        max_size=30,
    ),
    ladder=st.sets(st.integers(1, FULL_LIFE), max_size=6),
)
async def test_sql_counts_rungs_as_the_rule_does(db, rows, ladder):
    rungs = tuple(sorted(ladder, reverse=True))
    records = []
    for n, (ttl, left, count) in enumerate(rows):
        expires_at = NOW + int(min(ttl, TTL) * left)
        records.append(record(n, ttl=ttl, expires_at=expires_at, warned=count))
    # And just at each scaled rung, and one second beside it.
    for n, rung in enumerate(rungs):
        records += [
            record(1000 + 10 * n + i, ttl=3600, expires_at=NOW + rung * 3600 // FULL_LIFE + i)
            for i in (0, 1)
        ]
    await db.put(records)
    async with db.store.transaction() as tx:
        got = await tx.claim_warnings(APP, NOW, 1000, rungs)
    expected = [row for row in records if crossed(row, NOW, rungs) > row.warned]
    assert sorted(got) == sorted(expected)
