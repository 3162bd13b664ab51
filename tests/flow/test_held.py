"""While the clocks disagree: what is valid is served, what is urgent is signed, the rest waits
and is none the worse for it."""

from __future__ import annotations

import pytest

from sigmgr.model import errors
from sigmgr.model.holder import Holder, Room
from sigmgr.model.sig import Current, KeyState, Reason
from tests.flow.world import ALICE, APP, DAY, World

BOB = Holder(APP, "bob")


async def issued(world: World, *users: Holder) -> list[Current]:
    answers = await world.flows.issue.many(users, world.clock())
    await world.flows.publisher.flush()
    assert all(isinstance(answer, Current) for answer in answers)
    return [answer for answer in answers if isinstance(answer, Current)]


async def seen(world: World, *users: Holder) -> None:
    await world.store.mark_seen([(user, world.clock()) for user in users])


async def test_a_due_sig_is_served_and_its_renewal_waits_without_a_failure(world: World) -> None:
    [old] = await issued(world, ALICE)
    world.clock.advance(70 * DAY)
    await seen(world, ALICE)
    before = await world.row()
    world.ordinary = False
    [got] = await world.flows.issue.many([ALICE], world.clock())
    for answer in (got, await world.fresh(ALICE)):
        assert isinstance(answer, Current)
        assert answer.issued_at == old.issued_at
    tally = await world.flows.renew.tick(world.clock())
    assert (tally.total, tally.problems) == (0, [])
    assert await world.row() == before
    world.ordinary = True
    assert (await world.flows.renew.tick(world.clock())).renewed == 1
    assert (await world.row()).reason == Reason.NEARING_EXPIRY


async def test_what_is_held_while_it_is_claimed_is_no_failure(world: World) -> None:
    """The clocks part between the claim and the signing."""
    await issued(world, ALICE)
    world.clock.advance(70 * DAY)
    await seen(world, ALICE)
    before = await world.row()

    def part(name: str, moment: str) -> None:
        if (name, moment) == ("store.transaction.claim_due", "after"):
            world.ordinary = False

    world.plan.fail = part
    tally = await world.flows.renew.tick(world.clock())
    assert not world.ordinary
    assert (tally.held, tally.failed, tally.renewed) == (1, 0, 0)
    assert await world.row() == before
    assert await world.outbox.depth(world.clock()) == (0, 0)


async def test_the_emergency_lane_is_stopped_by_nothing(world: World) -> None:
    await issued(world, ALICE, BOB)
    world.ordinary = False
    world.clock.advance(86 * DAY)
    await seen(world, ALICE, BOB)
    answer = await world.fresh(BOB)
    assert isinstance(answer, Current)
    assert (answer.reason, answer.issued_at) == (Reason.EMERGENCY, world.clock())
    assert (await world.flows.renew.tick(world.clock())).renewed == 1
    assert (await world.row()).reason == Reason.EMERGENCY


async def test_who_has_expired_gets_the_next(world: World) -> None:
    await issued(world, ALICE)
    world.ordinary = False
    world.clock.advance(91 * DAY)
    [answer] = await world.flows.issue.many([ALICE], world.clock())
    assert isinstance(answer, Current)
    assert answer.reason == Reason.EXPIRED


async def test_what_is_urgent_is_decided_by_the_facts(world: World) -> None:
    """A dead key is the louder reason, and would hold a sig back that is about to end."""
    await issued(world, ALICE)
    key = (await world.row()).key_id
    await world.add_key(APP)
    await world.catalog.set_key_state(APP, key, KeyState.TAINTED, world.clock())
    await world.ring.refresh()
    world.ordinary = False
    answer = await world.fresh(ALICE)
    assert isinstance(answer, errors.ClockApart)
    world.clock.advance(86 * DAY)
    answer = await world.fresh(ALICE)
    assert isinstance(answer, Current)
    assert answer.reason == Reason.KEY_TAINTED


async def test_what_is_new_or_forced_waits_and_reports_it(world: World) -> None:
    [old] = await issued(world, ALICE)
    world.clock.advance(DAY)
    world.ordinary = False
    [answer] = await world.flows.issue.many([BOB], world.clock())
    assert isinstance(answer, errors.ClockApart)
    assert answer.retry_after
    with pytest.raises(errors.ClockApart):
        await world.flows.issue.reissue(ALICE, world.clock(), reason=Reason.FORCED)
    with pytest.raises(errors.ClockApart):
        await world.flows.room_keys.current(
            APP, "alice", Room(7), privileges=255, ttl=None, now=world.clock()
        )
    assert (await world.row()).issued_at == old.issued_at
    world.ordinary = True
    [answer] = await world.flows.issue.many([BOB], world.clock())
    assert isinstance(answer, Current)


async def test_a_revocation_goes_on(world: World) -> None:
    await issued(world, ALICE)
    world.clock.advance(DAY)
    world.ordinary = False
    await world.flows.revoke.user(APP, "alice", world.clock())
    assert not (await world.row()).alive(world.clock())
    world.clock.advance(10)
    [answer] = await world.flows.issue.many([ALICE], world.clock())
    assert isinstance(answer, errors.ClockApart)
    world.clock.advance(90 * DAY)
    [answer] = await world.flows.issue.many([ALICE], world.clock())
    assert isinstance(answer, errors.ClockApart), "what was taken back is in no emergency"
