"""Revocations as rows, and the look, over SQLite and PostgreSQL."""

from __future__ import annotations

import time

import pytest
from sqlalchemy import text

from sigmgr.model.revocation import Revocation
from sigmgr.model.sig import KeyState
from sigmgr.store.revocations import SqlLooks
from sigmgr.store.stores import SqlStore
from sigmgr.store.tables import keys, tokens
from tests.contract.store_kit import APP, KINDS, NOW, holder, opened, record, url_of

FOR_EVER = 2**62


@pytest.fixture(params=KINDS)
async def db(request, tmp_path):
    async with opened(url_of(request, request.param, tmp_path)) as database:
        yield database


@pytest.fixture
def looks(db) -> SqlLooks:
    return SqlLooks(db.engine)


async def revoke(db, *rows: Revocation) -> None:
    async with db.store.transaction() as tx:
        await tx.revoke(rows)


async def test_the_look_reports_the_databases_second(db, looks) -> None:
    look = await looks.look(0)
    assert abs(look.second - time.time()) < 60
    assert look.revocations == []


async def test_what_is_written_is_read_on(db, looks) -> None:
    before = int((await looks.look(FOR_EVER)).second)
    rows = [Revocation(APP, "bob", 10, NOW), Revocation(APP, "", 20, NOW)]
    await revoke(db, *rows)
    assert sorted((await looks.look(before)).revocations) == sorted(rows)
    assert (await looks.look(before + 3600)).revocations == []


async def test_a_later_one_raises_and_none_lowers(db, looks) -> None:
    await revoke(db, Revocation(APP, "bob", 10, 500))
    await revoke(db, Revocation(APP, "bob", 30, 400))
    await revoke(db, Revocation(APP, "bob", 20, 450))
    assert (await looks.look(0)).revocations == [Revocation(APP, "bob", 30, 500)]


async def test_a_row_that_was_raised_is_new_again(db, looks) -> None:
    await revoke(db, Revocation(APP, "bob", 10, 500))
    async with db.engine.write() as connection:
        await connection.execute(text("UPDATE revocations SET at = 1"))
    assert (await looks.look(2)).revocations == []
    await revoke(db, Revocation(APP, "bob", 11, 500))
    assert (await looks.look(2)).revocations == [Revocation(APP, "bob", 11, 500)]


async def test_pages_reach_all_that_matter(db, looks) -> None:
    rows = sorted(Revocation(APP + i % 2, f"u{i}", 10 + i, NOW + i) for i in range(25))
    await revoke(db, *rows)
    found, after = [], None
    while page := await looks.revocations(after, 4, NOW + 3):
        assert len(page) <= 4
        found += page
        after = page[-1]
    assert found == [row for row in rows if row.forget_at > NOW + 3]


async def test_forgetting_takes_the_past_a_few_at_a_time(db, looks) -> None:
    await revoke(db, *(Revocation(APP, f"u{i}", 10, NOW + i) for i in range(10)))
    assert await looks.forget_revocations(NOW + 5, 4) == 4
    assert await looks.forget_revocations(NOW + 5, 4) == 2
    left = await looks.revocations(None, 100, 0)
    assert {one.userid for one in left} == {"u6", "u7", "u8", "u9"}


@pytest.mark.parametrize(
    ("row", "until"),
    [
        (Revocation(APP, "bob", 10, NOW), 10),
        (Revocation(APP, "", 11, NOW), 11),
        (Revocation(0, "", 12, NOW), 12),
        (Revocation(APP, "eve", 13, NOW), 0),
        (Revocation(APP + 1, "bob", 14, NOW), 0),
        (Revocation(APP + 1, "", 15, NOW), 0),
    ],
)
async def test_a_user_is_dead_by_any_that_names_it(db, looks, row, until) -> None:
    await revoke(db, row)
    assert await looks.revoked_until(APP, "bob") == until


async def test_how_long_ago_it_was_written(db, looks) -> None:
    row = Revocation(APP, "bob", 10, NOW)
    await revoke(db, row)
    assert -1 <= await looks.since_written(row) < 60
    async with db.engine.write() as connection:
        await connection.execute(text("UPDATE revocations SET at = at - 100"))
    assert 99 <= await looks.since_written(row) < 160


async def test_a_rolled_back_one_is_not_there(db, looks) -> None:
    with pytest.raises(ZeroDivisionError):
        async with db.store.transaction() as tx:
            await tx.revoke([Revocation(APP, "bob", 10, NOW)])
            raise ZeroDivisionError
    assert (await looks.look(0)).revocations == []


async def test_the_mark_changes_with_any_keys_state(db, looks) -> None:
    await db.catalog.add_app(APP, now=NOW)

    async def added(name: str) -> int:
        info = await db.catalog.add_key(
            APP, format="v2", curve="", fingerprint=name, seal=lambda key_id: b"x", now=NOW
        )
        return info.key_id

    marks = [(await looks.look(0)).keys]
    first, second = await added("one"), await added("two")
    for key_id, state in [
        (first, KeyState.ACTIVE),
        (second, KeyState.ACTIVE),
        (first, KeyState.TAINTED),
        (second, KeyState.TAINTED),
        (first, KeyState.REVOKED),
    ]:
        await db.catalog.set_key_state(APP, key_id, state, NOW)
        marks.append((await looks.look(0)).keys)
    assert len(set(marks)) == len(marks)


async def test_changes_between_two_looks_do_not_make_up_for_each_other(db, looks) -> None:
    key = {"format": "v2", "curve": "", "sealed": b"", "created_at": 0, "changed_at": 0}
    token = {"name": "t", "role": "ops", "sdkappid": 0, "created_at": 0, "revoked_at": 0}
    states = {1: "old", 9: "prepared"}
    for app in states:
        await db.catalog.add_app(app, now=NOW)
    async with db.engine.write() as connection:
        for n, state in states.items():
            row = key | {"id": n, "sdkappid": n, "state": state, "fingerprint": f"{n}"}
            await connection.execute(keys.insert(), row)
        for n in (3, 5):
            await connection.execute(tokens.insert(), token | {"id": n, "digest": b"%d" % n})
    before = await looks.look(0)
    async with db.engine.write() as connection:
        await connection.execute(keys.update().values(state="active"))
        await connection.execute(tokens.delete().where(tokens.c.id == 5))
        await connection.execute(tokens.update().values(revoked_at=NOW))
    after = await looks.look(0)
    assert after.keys != before.keys
    assert after.tokens != before.tokens
    assert (after.keys, after.tokens) == (await looks.look(0))[1:3]


async def test_rows_are_read_as_they_count(db) -> None:
    """A revocation of all users is in no row of theirs; who reads one sees it there."""
    alice, bob = record("alice", issued_at=NOW), record("bob", issued_at=NOW + 100)
    await db.put([alice, bob])
    store = SqlStore(db.engine, lambda sdkappid, userid: NOW + 50 if sdkappid == APP else 0)
    found = await store.find([alice.holder, bob.holder])
    assert [row.alive(NOW + 200) for row in found if row] == [False, True]
    assert [row.revoked_at for row in await store.of_user(APP, "alice")] == [NOW + 50]
    assert {row.revoked_at for row in await store.page(None, 10)} == {NOW + 50}
    async with store.transaction() as tx:
        locked = await tx.lock([alice.holder, holder("new")])
        claimed = await tx.claim_due(APP, NOW + 10**9, 10)
    assert {row.revoked_at for row in (*locked, *claimed)} == {NOW + 50}


async def test_the_mark_of_tokens_changes_with_any_token(db, looks) -> None:
    marks = [(await looks.look(0)).tokens]
    for i in range(3):
        token = await db.catalog.add_token(f"t{i}", role="backend", digest=b"%d" % i, now=NOW)
        marks.append((await looks.look(0)).tokens)
    for token_id in (token.token_id, token.token_id - 2):
        await db.catalog.revoke_token(token_id, NOW)
        marks.append((await looks.look(0)).tokens)
    assert len(set(marks)) == len(marks)
    assert (await looks.look(0)).tokens == marks[-1]
