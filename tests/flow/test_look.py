"""The look: what it reads, how long a process goes on without it, who gets its results."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text

from sigmgr.flow.look import PART, REVOKE_LIMIT, Look
from sigmgr.flow.revocations import Revocations
from sigmgr.health import Health
from sigmgr.model import errors
from sigmgr.model.holder import Holder, Room
from sigmgr.model.reference import ClockReading, Reference, Rules
from sigmgr.model.revocation import WIDE_MARGIN, Judgement, Revocation
from sigmgr.model.sig import Current, KeyState, Reason
from sigmgr.testing import Faulty
from tests.flow.world import ALICE, APP, NOW, World, open_world

GRACE = 60


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as opened:
        yield opened


class Here:
    """What one process knows, by a monotonic clock that is moved by hand."""

    def __init__(self, world: World) -> None:
        self.seconds = 500.0
        self.reported: list[Revocation] = []
        self.learned: list[float] = []
        self.changes = 0
        self.health = Health(lambda: self.seconds)
        self.health.expect(PART, silent_after=10, vital=True)
        self.revocations = Revocations(lambda: self.seconds, grace=GRACE)
        self.revocations.add(self)
        looks: Any = Faulty(world.looks, world.plan, "looks")
        self.look = Look(
            looks=looks,
            revocations=self.revocations,
            signer=world.ring,
            monotonic=lambda: self.seconds,
            learned=self.learned.append,
            keys_changed=self.changed,
            health=self.health,
        )

    def revoked(self, revocation: Revocation) -> None:
        self.reported.append(revocation)

    def changed(self) -> None:
        self.changes += 1


@pytest.fixture
def here(world: World) -> Here:
    return Here(world)


def sig(issued_at: int, holder: Holder = ALICE) -> Current:
    return Current(holder, "v2", 1, issued_at, issued_at + 999, issued_at + 600, "x")


def fails(name: str) -> Callable[[str, str], None]:
    def plan(call: str, moment: str) -> None:
        if call == name and moment == "before":
            raise errors.StoreUnavailable

    return plan


async def test_nothing_cached_is_served_before_the_first_load(world: World, here: Here) -> None:
    for issued_at in (NOW - 1000, NOW - 1):
        assert not here.revocations.serves(sig(issued_at), NOW)
    await here.look.load(NOW)
    assert here.revocations.serves(sig(NOW - 1000), NOW)


async def test_all_that_matters_is_loaded_over_pages(world: World, here: Here, monkeypatch) -> None:
    monkeypatch.setattr("sigmgr.flow.look.PAGE", 3)
    rows = [Revocation(APP, f"u{i:02}", NOW + i, NOW + 99) for i in range(10)]
    async with world.store.transaction() as tx:
        await tx.revoke([*rows, Revocation(APP, "past", NOW, NOW - 1)])
    assert await here.look.load(NOW) == 10
    assert here.revocations.until(APP, "u07") == NOW + 7
    assert here.revocations.until(APP, "past") == 0


async def test_a_load_that_fails_half_way_is_no_load(world: World, here: Here) -> None:
    world.plan.fail = fails("looks.revocations")
    with pytest.raises(errors.StoreUnavailable):
        await here.look.once(NOW)
    assert not here.revocations.serves(sig(NOW - 1000), NOW)
    world.plan.heal()
    await here.look.once(NOW)
    assert here.revocations.serves(sig(NOW - 1000), NOW)


async def test_what_another_process_revokes_is_reported_once(world: World, here: Here) -> None:
    await here.look.load(NOW)
    done = await world.flows.revoke.user(APP, "alice", NOW)
    assert here.reported == []
    for _ in range(3):
        await here.look.once(NOW)
    assert [(one.userid, one.until) for one in here.reported] == [("alice", done.revoked_at)]
    assert here.revocations.judge(ALICE, done.revoked_at) is Judgement.DEAD
    assert here.revocations.judge(ALICE, done.revoked_at + 1) is Judgement.FREE


async def test_an_own_revocation_is_known_before_its_answer(world: World) -> None:
    await world.flows.issue.current(ALICE, NOW)
    seen = []

    class Ear:
        def revoked(self, revocation: Revocation) -> None:
            seen.append(("learned", revocation.userid))

    world.revocations.add(Ear())
    world.plan.fail = lambda name, moment: seen.append((name, moment))
    await world.flows.revoke.user(APP, "alice", NOW)
    assert ("learned", "alice") in seen
    assert seen.index(("learned", "alice")) < seen.index(("cache.announce", "before"))


async def test_without_a_look_cached_sigs_are_served_for_the_grace(
    world: World, here: Here
) -> None:
    await here.look.load(NOW)
    world.plan.fail = fails("looks.look")
    for waited, text_ in [(3, "ok"), (30, "degraded"), (GRACE, "degraded"), (GRACE + 1, "failed")]:
        here.seconds = 500.0 + waited
        with pytest.raises(errors.StoreUnavailable):
            await here.look.once(NOW + waited)
        assert here.health.checks()[PART].startswith(text_)
        assert here.revocations.serves(sig(NOW - 1000), NOW + waited) is (waited <= GRACE)
    # Whoever issued this one saw SQL a moment ago.
    assert here.revocations.serves(sig(NOW + GRACE - 10), NOW + GRACE + 1)
    assert not here.revocations.serves(sig(NOW + GRACE + 50), NOW + GRACE + 1)
    world.plan.heal()
    await here.look.once(NOW + GRACE + 2)
    assert here.health.checks()[PART] == "ok"
    assert here.revocations.serves(sig(NOW - 1000), NOW + GRACE + 2)


async def test_a_get_goes_past_the_cache_once_the_grace_is_over(world: World) -> None:
    first = await world.flows.issue.current(ALICE, NOW)
    await world.flows.publisher.flush()
    world.revocations.grace = -1.0
    world.plan.fail = fails("store.find")
    with pytest.raises(errors.StoreUnavailable):
        await world.flows.issue.current(ALICE, NOW + 3600)
    [answer] = await world.flows.deliver.latest([ALICE], NOW + 3600)
    assert isinstance(answer, errors.StoreUnavailable)
    world.revocations.grace = 3600.0
    assert (await world.flows.issue.current(ALICE, NOW + 3600)).usersig == first.usersig


async def test_a_revocation_that_took_long_is_written_again(world: World, here: Here) -> None:
    """Its second would lie before what others look back to."""
    await here.look.load(NOW)
    slow = [True]

    async def late(name: str) -> None:
        async with world.store._engine.write() as connection:
            await connection.execute(text(f"UPDATE revocations SET at = at - {REVOKE_LIMIT + 25}"))

    real = world.looks.since_written

    async def since_written(revocation: Revocation) -> float:
        if slow:
            slow.clear()
            await late("x")
        return await real(revocation)

    world.looks.since_written = since_written  # type: ignore[method-assign]
    await world.flows.revoke.user(APP, "alice", NOW)
    assert not slow
    await here.look.once(NOW)
    assert [one.userid for one in here.reported] == ["alice"]


async def test_a_revocation_that_stays_slow_is_no_answer(world: World) -> None:
    async def since_written(revocation: Revocation) -> float:
        return REVOKE_LIMIT + 1.0

    world.looks.since_written = since_written  # type: ignore[method-assign]
    with pytest.raises(errors.StoreUnavailable, match="slowly"):
        await world.flows.revoke.user(APP, "alice", NOW)


async def test_a_changed_key_state_is_loaded_and_reported(world: World, here: Here) -> None:
    await here.look.load(NOW)
    await here.look.once(NOW)
    assert here.changes == 0
    [key] = await world.catalog.list_keys(APP)
    await world.add_key(APP)
    await world.catalog.set_key_state(APP, key.key_id, KeyState.TAINTED, NOW)
    await here.look.once(NOW)
    await here.look.once(NOW)
    assert here.changes == 1
    assert await world.ring.key_state(APP, key.key_id) is KeyState.TAINTED


async def test_a_key_that_does_not_load_is_tried_again(world: World, here: Here) -> None:
    await here.look.load(NOW)
    await world.add_key(APP)

    class Ring:
        calls = 0

        async def refresh(self) -> None:
            self.calls += 1
            if self.calls == 1:
                raise errors.StoreUnavailable

    here.look.signer = ring = Ring()  # type: ignore[assignment]
    with pytest.raises(errors.StoreUnavailable):
        await here.look.once(NOW)
    await here.look.once(NOW)
    assert (ring.calls, here.changes) == (2, 1)


async def test_keys_that_do_not_come_hold_up_no_look(
    world: World, here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sigmgr.flow.look.KEYS_LIMIT", 0.02, raising=False)
    await here.look.load(NOW)
    old = await world.ring.active_key(APP)
    await world.add_key(APP)
    come = asyncio.Event()

    class Ring:
        calls = 0

        async def refresh(self) -> None:
            self.calls += 1
            await come.wait()

    here.look.signer = ring = Ring()  # type: ignore[assignment]
    here.seconds += GRACE + 1
    for userid in ("bob", "carol"):
        await world.flows.revoke.user(APP, userid, NOW)
        async with asyncio.timeout(1):
            with pytest.raises(errors.StoreUnavailable):
                await here.look.once(NOW)
    assert [one.userid for one in here.reported] == ["bob", "carol"], "what the look found is known"
    assert here.revocations.age > GRACE, "a key that is tainted by now may be believed no longer"
    assert here.changes == 0
    # Meanwhile a key changes once more: what is on its way may be older.
    await world.catalog.set_key_state(APP, old.key_id, KeyState.TAINTED, NOW)
    come.set()
    await here.look.once(NOW)
    assert (ring.calls, here.changes) == (2, 2)
    assert here.revocations.age == 0


async def test_a_listener_that_fails_stops_no_other(world: World, here: Here) -> None:
    class Broken:
        def revoked(self, revocation: Revocation) -> None:
            raise ZeroDivisionError

    revocations = Revocations(lambda: 0.0, grace=GRACE)
    revocations.add(Broken())
    revocations.add(here)
    revocations.learn([Revocation(APP, "bob", 5, NOW)])
    assert [one.userid for one in here.reported] == ["bob"]


async def test_the_databases_second_is_reported(world: World, here: Here) -> None:
    await here.look.load(NOW)
    await here.look.once(NOW)
    assert len(here.learned) == 2
    assert here.learned[0] <= here.learned[1]


async def test_everybody_is_dead_and_comes_back_after_the_pause(world: World) -> None:
    bob = Holder(APP, "bob")
    first = await world.flows.issue.many([ALICE, bob], NOW)
    await world.flows.publisher.flush()
    until = await world.flows.revoke.everybody(APP, NOW)
    assert until >= max(one.issued_at for one in first if isinstance(one, Current))
    with pytest.raises(errors.TicketRevoked):
        await world.flows.deliver.opened(ALICE, NOW, NOW + 1)
    assert await world.flows.deliver.latest([ALICE, bob], NOW + 1) == [None, None]
    room = partial(world.flows.room_keys.current, APP, "bob", Room(id=5), privileges=255, ttl=None)
    for now in (NOW + 1, until, until + 1):
        for ask in (
            partial(world.flows.issue.current, ALICE),
            partial(world.flows.issue.reissue, bob, reason=Reason.FORCED),
            lambda now: room(now=now),
        ):
            with pytest.raises(errors.RevokePause) as pause:
                await ask(now)
            assert pause.value.retry_after == until + 2 - now
    again = await world.flows.issue.many([ALICE, bob], until + 2)
    assert [isinstance(one, Current) and one.issued_at for one in again] == [until + 2] * 2


@given(st.integers(-5, 5), st.integers(-5, 5), st.integers(0, 3))
def test_a_revocation_of_all_reaches_what_any_process_may_have_signed(mine, theirs, before):
    """Each within the tolerance of the database, one ahead and one behind it."""
    signed_by = Reference.start(Rules(), ClockReading(NOW + theirs, 0.0)).observe(
        NOW, ClockReading(NOW + theirs, 0.0)
    )
    revoked_by = Reference.start(Rules(), ClockReading(NOW + mine, 0.0)).observe(
        NOW, ClockReading(NOW + mine, 0.0)
    )
    assert signed_by.ordinary
    assert revoked_by.ordinary
    issued_at = int(signed_by.line) - before
    assert issued_at <= int(revoked_by.line) + WIDE_MARGIN


async def test_a_tick_lets_the_revoked_rest(world: World) -> None:
    await world.flows.issue.current(ALICE, NOW)
    await world.flows.revoke.everybody(0, NOW)
    late = NOW + 80 * 86400
    tally = await world.flows.renew.tick(late)
    assert (tally.renewed, tally.rested) == (0, 1)
    assert await world.store.apps_with_due(late) == []


async def test_verify_reports_revoked(world: World) -> None:
    made = await world.flows.issue.current(ALICE, NOW)
    assert (await world.flows.verify.sig(APP, made.usersig, now=NOW)).decoded.userid == "alice"
    await world.flows.revoke.user(APP, "alice", NOW)
    with pytest.raises(errors.BadSig) as refused:
        await world.flows.verify.sig(APP, made.usersig, now=NOW)
    assert refused.value.reason is errors.SigReason.REVOKED
    assert refused.value.advice.startswith("Nothing makes this one valid again.")


async def test_verify_asks_sql_where_it_cannot_know(world: World) -> None:
    made = await world.flows.issue.current(ALICE, NOW)
    other = world.process()
    first = await world.process().revoke.user(APP, "alice", NOW)
    assert first.known
    # The other has looked before; while that is fresh it does not ask.
    assert await other.verify.sig(APP, made.usersig, now=NOW)
    world.revocations.grace = -1.0
    stale = world.process()
    world.revocations.grace = -1.0
    with pytest.raises(errors.BadSig):
        await stale.verify.sig(APP, made.usersig, now=NOW)
    world.plan.fail = fails("looks.revoked_until")
    with pytest.raises(errors.StoreUnavailable):
        await stale.verify.sig(APP, made.usersig, now=NOW)


async def test_revoking_one_that_never_was_holds_all_the_same(world: World) -> None:
    done = await world.flows.revoke.user(APP, "nobody", NOW)
    assert (done.revoked_at, done.known) == (NOW, False)
    with pytest.raises(errors.RevokePause):
        await world.flows.issue.current(Holder(APP, "nobody"), NOW)
