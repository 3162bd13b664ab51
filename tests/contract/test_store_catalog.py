"""Apps, keys, tokens and named values, over both databases."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace

import pytest
from sqlalchemy import Engine as SyncEngine
from sqlalchemy.event import listens_for, remove

from sigmgr.model import errors
from sigmgr.model.app import App
from sigmgr.model.policy import DAY, Policy
from sigmgr.model.sig import KeyState
from sigmgr.store import policies
from tests.contract.store_kit import (
    APP,
    KINDS,
    NOW,
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


@pytest.fixture
async def catalog(db):
    await db.catalog.add_app(APP, "first", now=NOW)
    return db.catalog


async def add_key(catalog, mark, app=APP, **more):
    facts = {"format": "v2", "curve": "", "fingerprint": f"{mark:016x}", "now": NOW}
    seal = lambda key_id: f"sealed {key_id} {mark}".encode()  # noqa: E731
    return await catalog.add_key(app, **(facts | {"seal": seal} | more))


# Apps


async def test_apps(db, catalog):
    policy = Policy(ttl=30 * DAY, ladder=(DAY, 3600), renew_to=0.7)
    second = await catalog.add_app(APP + 1, "second", policy=policy, now=NOW + 1)
    assert second == App(APP + 1, "second", policy, paused=False, created_at=NOW + 1)
    assert await catalog.list_apps() == [App(APP, "first", Policy(), False, NOW), second]
    assert await catalog.get_app(APP + 1) == second
    changed = await catalog.set_app(APP + 1, paused=True)
    assert changed == second._replace(paused=True) == await catalog.get_app(APP + 1)
    changed = await catalog.set_app(APP + 1, name="", policy=lambda _: Policy(), paused=False)
    assert changed == App(APP + 1, "", Policy(), False, NOW + 1)
    assert await catalog.set_app(APP + 1) == changed


async def test_two_changes_of_a_policy_at_once_are_both_kept(catalog):
    def change(**one):
        return catalog.set_app(APP, policy=lambda held: replace(held, **one))

    await asyncio.gather(change(ttl=30 * DAY), change(room_ttl=300), change(max_holders=7))
    kept = (await catalog.get_app(APP)).policy
    assert (kept.ttl, kept.room_ttl, kept.max_holders) == (30 * DAY, 300, 7)


async def test_apps_that_are_known_or_unknown(catalog):
    with pytest.raises(errors.AppExists):
        await catalog.add_app(APP, now=NOW)
    for call in (catalog.get_app(5), catalog.set_app(5, name="x"), catalog.remove_app(5),
                 add_key(catalog, 1, app=5)):  # fmt: skip
        with pytest.raises(errors.AppUnknown):
            await call


async def test_an_app_with_holders_is_removed_by_force_only(db, catalog):
    await add_key(catalog, 1)
    await catalog.add_token("t", role="ops", sdkappid=APP, digest=b"1", now=NOW)
    await db.put([record(1), record(holder(1, app=APP + 1))])
    async with db.store.transaction() as tx:
        await tx.append([event(holder(1)), event(holder(1, app=APP + 1))])
    with pytest.raises(errors.ConflictError, match="holders"):
        await catalog.remove_app(APP)
    assert await db.get(holder(1)) == record(1)
    await catalog.remove_app(APP, force=True)
    assert await catalog.list_apps() == []
    assert await catalog.list_keys(APP) == await catalog.list_tokens() == []
    assert [row.sdkappid for row in await db.store.page(None, 10)] == [APP + 1]
    assert (await db.outbox.depth(NOW))[0] == 1
    await catalog.add_app(APP, now=NOW)
    await catalog.remove_app(APP)


@pytest.fixture
async def crowd(db, catalog, monkeypatch):
    """An app with more holders than a batch, and what each statement deletes of them."""
    monkeypatch.setattr("sigmgr.store.catalog._BATCH", 10, raising=False)
    await db.put([record(n) for n in range(35)] + [record(holder(1, app=APP + 1))])
    counts = []

    @listens_for(SyncEngine, "after_cursor_execute")
    def count(connection, cursor, statement, *_):
        if statement.startswith("DELETE FROM holders"):
            counts.append(cursor.rowcount)

    yield counts
    remove(SyncEngine, "after_cursor_execute", count)


async def test_holders_are_forgotten_in_small_batches(db, catalog, crowd):
    await catalog.remove_app(APP, force=True)
    assert max(crowd) <= 10
    assert sum(crowd) == 35
    assert [row.sdkappid for row in await db.store.page(None, 10)] == [APP + 1]


async def test_a_removal_that_was_interrupted_goes_on(db, catalog, crowd, monkeypatch):
    async def away(*_, **__):
        raise errors.StoreUnavailable

    with monkeypatch.context() as broken:
        broken.setattr("sigmgr.store.feeds.switch", away)
        with pytest.raises(errors.StoreUnavailable):
            await catalog.remove_app(APP, force=True)
    assert await catalog.get_app(APP)
    assert sum(crowd) == 35
    await catalog.remove_app(APP, force=True)
    assert await catalog.list_apps() == []


@only_postgres
async def test_a_removal_that_waits_keeps_no_other_app_waiting(db, catalog):
    """With a feed, and while another transaction holds one of the holders."""
    await catalog.add_app(APP + 1, now=NOW)
    await catalog.set_feed(APP, on=True)
    await db.put([record(1), record(2)])
    async with db.store.transaction() as tx:
        await tx.lock([holder(1)])
        removing = asyncio.create_task(catalog.remove_app(APP, force=True))
        await asyncio.sleep(0.5)
        assert not removing.done()
        async with asyncio.timeout(1), db.store.transaction() as other:
            await other.append([event(holder(1, app=APP + 1))])
    await removing
    assert [app.sdkappid for app in await catalog.list_apps()] == [APP + 1]


def test_a_policy_keeps_what_was_chosen_only():
    assert policies.dump(Policy()) == "{}"
    chosen = Policy(ttl=60, backoff=(1, 2))
    assert policies.dump(chosen) == '{"backoff":[1,2],"ttl":60}'
    assert policies.load(policies.dump(chosen)) == chosen


@pytest.mark.parametrize(
    "overrides",
    [
        {"tll": 60},
        {"ttl": "60"},
        {"ttl": 1},
        {"ttl": True},
        {"renew_from": 0.9},
        {"ladder": 5},
        {"backoff": ["x"]},
        {"idle_after": None},
    ],
)
def test_a_bad_policy_is_a_bad_setting(overrides):
    with pytest.raises(errors.BadSettings):
        policies.load(json.dumps(overrides))


async def test_a_policy_that_this_version_cannot_read_is_named(db, catalog):
    for text in ('{"later": 1}', "[]", "no json"):
        async with db.engine.write() as connection:
            await connection.exec_driver_sql(f"UPDATE apps SET policy = '{text}'")
        with pytest.raises(errors.BadSettings):
            await catalog.get_app(APP)


# Keys


async def test_a_key_is_sealed_under_its_own_id(catalog):
    first = await add_key(catalog, 1, format="v1", curve="P-256")
    second = await add_key(catalog, 2, state=KeyState.ACTIVE)
    assert first.key_id != second.key_id
    assert (first.format, first.curve, first.state) == ("v1", "P-256", KeyState.PREPARED)
    assert (first.created_at, first.changed_at, first.sdkappid) == (NOW, NOW, APP)
    assert await catalog.list_keys(APP) == [first, second]
    sealed = await catalog.sealed_keys()
    assert [key.info for key in sealed] == [first, second]
    assert [key.sealed for key in sealed] == [
        f"sealed {key.key_id} {n}".encode() for n, key in enumerate((first, second), start=1)
    ]
    assert await catalog.sealed_keys(APP + 1) == []


async def test_a_failed_sealing_leaves_no_key(catalog):
    def broken(_: int) -> bytes:
        raise errors.WrongMasterKey

    with pytest.raises(errors.WrongMasterKey):
        await add_key(catalog, 1, seal=broken)
    assert await catalog.list_keys(APP) == []


async def test_the_same_key_twice(catalog):
    await add_key(catalog, 1)
    with pytest.raises(errors.KeyExists):
        await add_key(catalog, 1)
    await catalog.add_app(APP + 1, now=NOW)
    await add_key(catalog, 1, app=APP + 1)


async def test_activation_makes_the_former_key_old(catalog):
    first = await add_key(catalog, 1, state=KeyState.ACTIVE)
    second = await add_key(catalog, 2)
    now_active = await catalog.set_key_state(APP, second.key_id, KeyState.ACTIVE, NOW + 5)
    assert (now_active.state, now_active.changed_at) == (KeyState.ACTIVE, NOW + 5)
    third = await add_key(catalog, 3, state=KeyState.ACTIVE, now=NOW + 6)
    states = {key.key_id: (key.state, key.changed_at) for key in await catalog.list_keys(APP)}
    assert states == {
        first.key_id: (KeyState.OLD, NOW + 5),
        second.key_id: (KeyState.OLD, NOW + 6),
        third.key_id: (KeyState.ACTIVE, NOW + 6),
    }


async def test_every_step_of_a_key(catalog):
    """The whole table: from each state to each."""
    ways = {
        KeyState.PREPARED: [],
        KeyState.ACTIVE: [KeyState.ACTIVE],
        KeyState.OLD: [KeyState.ACTIVE, "by another"],
        KeyState.TAINTED: [KeyState.TAINTED],
        KeyState.REVOKED: [KeyState.TAINTED, KeyState.REVOKED],
    }
    allowed = {
        ("prepared", "active"), ("prepared", "tainted"), ("active", "tainted"),
        ("old", "active"), ("old", "tainted"), ("tainted", "revoked"),
    }  # fmt: skip
    mark = 0
    for start, way in ways.items():
        for goal in KeyState:
            mark += 1
            key = await add_key(catalog, mark)
            for step in way:
                if step == "by another":
                    await add_key(catalog, 1000 + mark, state=KeyState.ACTIVE)
                else:
                    await catalog.set_key_state(APP, key.key_id, step, NOW)
            if start is goal or (start.value, goal.value) in allowed:
                done = await catalog.set_key_state(APP, key.key_id, goal, NOW + 1)
                assert done.state is goal
            else:
                with pytest.raises(errors.KeyStateConflict):
                    await catalog.set_key_state(APP, key.key_id, goal, NOW + 1)


async def test_keys_that_are_not_there(catalog):
    await catalog.add_app(APP + 1, now=NOW)
    key = await add_key(catalog, 1)
    for app, key_id in ((APP, key.key_id + 99), (APP + 1, key.key_id)):
        with pytest.raises(errors.KeyUnknown):
            await catalog.set_key_state(app, key_id, KeyState.TAINTED, NOW)
    with pytest.raises(errors.KeyStateConflict):
        await add_key(catalog, 2, state=KeyState.OLD)


async def test_one_key_is_active_whatever_two_operators_do(db, catalog):
    keys = [await add_key(catalog, n) for n in range(6)]
    await asyncio.gather(
        *(catalog.set_key_state(APP, key.key_id, KeyState.ACTIVE, NOW) for key in keys)
    )
    states = [key.state for key in await catalog.list_keys(APP)]
    assert sorted(states) == sorted([KeyState.ACTIVE] + [KeyState.OLD] * 5)
    with pytest.raises(errors.ConflictError):
        async with db.engine.write() as connection:
            await connection.exec_driver_sql("UPDATE keys SET state = 'active'")


async def test_tainting_waits_for_who_signs_and_then_nobody_signs(db, catalog):
    key = await add_key(catalog, 1, state=KeyState.ACTIVE)
    order: list[str] = []

    async def taint() -> None:
        await catalog.set_key_state(APP, key.key_id, KeyState.TAINTED, NOW)
        order.append("tainted")

    async with db.store.transaction() as tx:
        states = await tx.signing_states([key.key_id, key.key_id, 999])
        assert states == {key.key_id: KeyState.ACTIVE}
        task = asyncio.create_task(taint())
        await asyncio.sleep(0.1)
        await tx.append([event(holder(1))])
        order.append("signed")
    await task
    assert order == ["signed", "tainted"]
    async with db.store.transaction() as tx:
        assert await tx.signing_states([key.key_id]) == {key.key_id: KeyState.TAINTED}
        assert await tx.signing_states([]) == {}


@only_postgres  # SQLite's writers take turns
async def test_two_signers_do_not_wait_for_each_other(db, catalog):
    key = await add_key(catalog, 1, state=KeyState.ACTIVE)
    async with db.store.transaction() as one, db.store.transaction() as two:
        await one.signing_states([key.key_id])
        await asyncio.wait_for(two.signing_states([key.key_id]), 3)


async def test_an_activation_can_be_taken_back(catalog):
    first = await add_key(catalog, 1, state=KeyState.ACTIVE)
    second = await add_key(catalog, 2, state=KeyState.ACTIVE, now=NOW + 1)
    again = await catalog.set_key_state(APP, first.key_id, KeyState.ACTIVE, NOW + 2)
    assert again == first._replace(changed_at=NOW + 2)
    assert await catalog.list_keys(APP) == [
        again,
        second._replace(state=KeyState.OLD, changed_at=NOW + 2),
    ]


async def test_how_far_the_sigs_of_a_key_reach(db, catalog):
    latest = record(3, key_id=4)._replace(expires_at=NOW + 80 * DAY)
    await db.put([record(1, key_id=4), latest, record(2, key_id=5, revoked_at=NOW + 1)])
    first = record(1).expires_at
    assert await catalog.key_reach(APP, 4, NOW) == (2, max(first, NOW + 80 * DAY))
    assert await catalog.key_reach(APP, 4, min(first, NOW + 80 * DAY)) == (
        1,
        max(first, NOW + 80 * DAY),
    )
    assert await catalog.key_reach(APP, 4, NOW + 90 * DAY) == (0, 0)
    assert await catalog.key_reach(APP, 5, NOW) == (0, 0)
    assert await catalog.key_reach(APP + 1, 4, NOW) == (0, 0)


# Tokens and named values


async def test_tokens(catalog):
    first = await catalog.add_token("ci", role="backend", sdkappid=APP, digest=b"\0\xff", now=NOW)
    second = await catalog.add_token("me", role="admin", digest=b"2", now=NOW + 1)
    assert (second.sdkappid, second.revoked_at) == (0, 0)
    assert await catalog.list_tokens() == [first, second]
    assert await catalog.token_by_digest(b"\0\xff") == first
    assert await catalog.token_by_digest(b"\0") is None
    revoked = await catalog.revoke_token(first.token_id, NOW + 9)
    assert revoked == first._replace(revoked_at=NOW + 9)
    assert await catalog.revoke_token(first.token_id, NOW + 99) == revoked
    assert await catalog.token_by_digest(b"\0\xff") == revoked
    with pytest.raises(errors.TokenNotFound):
        await catalog.revoke_token(12345, NOW)
    with pytest.raises(errors.ConflictError) as caught:
        await catalog.add_token("x", role="ops", digest=b"2", now=NOW)
    assert caught.value.__cause__ is not None


async def test_named_values_are_kept_once(catalog):
    assert await catalog.get_meta("check") is None
    kept = await asyncio.gather(*(catalog.put_meta("check", bytes([n])) for n in range(5)))
    assert len(set(kept)) == 1, "all who start at once go on with the same"
    assert await catalog.get_meta("check") == kept[0]
