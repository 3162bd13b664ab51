"""The edges of a delivery's rules: the second in which each begins and ends to hold."""

from __future__ import annotations

import pytest

from sigmgr.model import errors
from sigmgr.model.delivery import (
    MISSING_LOOKS,
    NEVER,
    ROOM_GRACE,
    Ask,
    Delivery,
    Lapsed,
    MarkSeen,
    Moment,
    Phase,
    Renew,
    Wake,
    Write,
)
from sigmgr.model.event import EventType
from tests.model.delivery_kit import DAY, NOW, POLICY, ROOM, STEADY, USER, World, event, sig


def moment(now: int = NOW, steady: int = STEADY, draw: float = 0.5) -> Moment:
    return Moment(now, steady, draw, POLICY)


def live(*currents: object, claim: int = 0) -> Delivery:
    delivery = Delivery(USER, claim)
    delivery.opened(list(currents) or [sig()])  # type: ignore[arg-type]
    delivery.live(moment())
    return delivery


@pytest.mark.parametrize(("late", "kept"), [(ROOM_GRACE - 1, True), (ROOM_GRACE, False)])
def test_an_expired_room_key_is_kept_until_its_grace_is_over(late: int, kept: bool) -> None:
    delivery = live(sig(), sig(ROOM, ttl=50))
    effects = delivery.wake(moment(NOW + 50 + late))
    assert Lapsed(ROOM) in effects
    assert bool(delivery.rooms) is kept


@pytest.mark.parametrize(("late", "lapsed"), [(-1, []), (0, [Lapsed(USER)])])
def test_a_sig_lapses_in_the_second_of_its_expiry(late: int, lapsed: list[Lapsed]) -> None:
    delivery = live(sig(ttl=100))
    effects = delivery.wake(moment(NOW + 100 + late))
    assert [one for one in effects if isinstance(one, Lapsed)] == lapsed


def test_a_new_sig_may_lapse_again() -> None:
    delivery = live(sig(ttl=100))
    assert Lapsed(USER) in delivery.wake(moment(NOW + 100))
    assert Lapsed(USER) not in delivery.wake(moment(NOW + 101))
    delivery.written(Write(delivery.own, sig(issued_at=NOW + 110, ttl=100)))
    assert Lapsed(USER) not in delivery.wake(moment(NOW + 209))
    assert Lapsed(USER) in delivery.wake(moment(NOW + 210))


@pytest.mark.parametrize(("dead", "refused"), [(NOW - 1, False), (NOW, True)])
def test_who_was_revoked_in_the_second_of_its_sig_does_not_open(dead: int, refused: bool) -> None:
    delivery = Delivery(USER)
    delivery.revoked(event(EventType.REVOKED, USER, dead))
    if refused:
        with pytest.raises(errors.TicketRevoked):
            delivery.opened([sig()])
    else:
        assert [write.current for write in delivery.opened([sig()])] == [sig()]


@pytest.mark.parametrize(("issued_at", "written"), [(NOW - 10, False), (NOW - 9, True)])
def test_a_room_key_of_the_second_of_a_revocation_is_dead(issued_at: int, written: bool) -> None:
    delivery = Delivery(USER)
    delivery.revoked(event(EventType.REVOKED, USER, NOW - 10))
    key = sig(ROOM, issued_at)
    assert (key in [write.current for write in delivery.opened([sig(), key])]) is written
    delivery.live(moment())
    other = live()
    other.revoked(event(EventType.REVOKED, USER, NOW - 10))
    assert (other.answered(ROOM, key, moment()) is not None) is written


@pytest.mark.parametrize(("until", "closes"), [(NOW - 1, False), (NOW, True)])
def test_a_wide_revocation_closes_who_holds_a_sig_of_its_second(until: int, closes: bool) -> None:
    delivery = live()
    wake = delivery.revoked_widely(until, 4, moment(draw=0.5))
    assert (wake is not None) is closes
    assert delivery.close_at == (STEADY + 3 if closes else NEVER)


def test_of_two_wide_revocations_the_sooner_closes() -> None:
    delivery = live()
    delivery.revoked_widely(NOW, 8, moment(draw=0.0))
    delivery.revoked_widely(NOW, 8, moment(draw=0.99))
    assert delivery.close_at == STEADY + 1


def test_a_room_key_revoked_in_its_second_is_forgotten() -> None:
    delivery = live(sig(), sig(ROOM))
    delivery.revoked(event(EventType.REVOKED, ROOM, NOW - 1))
    assert [room.holder for room in delivery.rooms] == [ROOM]
    delivery.revoked(event(EventType.REVOKED, ROOM, NOW))
    assert delivery.rooms == ()
    assert delivery.phase is Phase.OPEN


def test_an_ack_counts_once_and_for_what_was_written_only() -> None:
    delivery = live()
    assert not delivery.acked(NOW + 1)
    assert not delivery.acked(NOW - 1), "the client holds one from before"
    assert delivery.own.acked == NOW - 1
    assert not delivery.acked(NOW - 1)
    assert delivery.resend_at != NEVER
    assert delivery.acked(NOW)
    assert delivery.resend_at == NEVER
    assert not delivery.acked(NOW)


def test_a_claim_of_the_same_second_is_confirmed_and_needs_no_ack() -> None:
    delivery = Delivery(USER, NOW)
    assert [write.current for write in delivery.opened([sig()])] == [sig()]
    delivery.live(moment())
    assert delivery.resend_at == NEVER
    later = Delivery(USER, NOW + 1)
    assert later.opened([sig()]) == []


def test_a_valid_sig_that_is_not_found_closes_with_the_last_of_its_looks() -> None:
    world = World().open()
    for _ in range(MISSING_LOOKS - 1):
        assert world.delivery.answered(USER, None, world.moment) is None
    assert world.delivery.answered(USER, None, world.moment) is not None
    assert world.delivery.phase is Phase.CLOSED


def test_after_its_end_a_delivery_wants_nothing() -> None:
    delivery = live()
    delivery.close()
    later = moment(NOW + 90 * DAY, STEADY + 90 * DAY)
    assert delivery.wake(later) == []
    assert delivery.answered(USER, sig(issued_at=NOW + 5), later) is None
    assert delivery.denied() is None
    assert delivery.missed(5, later) == []
    assert delivery.will_expire(event(EventType.WILL_EXPIRE, USER, NOW)) is None
    assert delivery.revoked(event(EventType.REVOKED, USER, NOW)) is None
    assert delivery.revoked_widely(NOW, 5, later) is None


def test_of_what_has_expired_only_the_users_own_sig_is_renewed_for_a_look_that_finds_none() -> None:
    delivery = live(sig(ttl=100), sig(ROOM, ttl=100))
    late = moment(NOW + 100)
    assert delivery.answered(ROOM, None, late) is None
    assert delivery.answered(USER, None, late) == Renew(USER, NOW)
    assert [room.holder for room in delivery.rooms] == [ROOM]
    assert delivery.phase is Phase.OPEN


def test_a_valid_sig_that_is_not_found_is_looked_for_again_soon() -> None:
    delivery = live()
    waits = []
    for _ in range(MISSING_LOOKS - 1):
        assert delivery.answered(USER, None, moment()) is None
        waits.append(delivery.own.look_at - STEADY)
    assert waits == sorted(waits)
    assert waits[-1] <= 30


def test_the_next_deadline_is_the_earliest_of_all_its_sigs() -> None:
    delivery = live(sig(), sig(ROOM))
    for number, part in enumerate((delivery.own, *delivery.rooms)):
        part.look_at = STEADY + 5 - number
        assert delivery.due() == STEADY + 5 - number
    for number, name in enumerate(("resend_at", "seen_at", "close_at")):
        setattr(delivery, name, STEADY + 3 - number)
        assert delivery.due() == STEADY + 3 - number


@pytest.mark.parametrize(
    ("seconds", "draw", "effect"),
    [(0, 0.9, Ask(USER, urgent=False)), (1, 0.9, Ask(USER, urgent=False)),
     (2, 0.0, Wake(STEADY + 1)), (2, 0.9, Wake(STEADY + 2)), (60, 0.5, Wake(STEADY + 31))],
)  # fmt: skip
def test_what_may_have_been_missed_is_looked_for_within_the_seconds(seconds, draw, effect) -> None:
    assert live().missed(seconds, moment(draw=draw)) == [effect]


def test_a_look_that_is_due_before_is_not_put_off() -> None:
    delivery = live()
    delivery.own.look_at = STEADY + 3
    assert delivery.missed(60, moment(draw=0.5)) == [Wake(STEADY + 3)]


def test_what_may_have_been_missed_is_looked_for_before_the_emergency() -> None:
    """The emergency of 1000 seconds is their last 50."""
    delivery = live(sig(ttl=1000))
    delivery.own.look_at = NEVER
    assert delivery.missed(600, moment(NOW + 900, draw=0.99)) == [Wake(STEADY + 1 + 49)]
    assert delivery.missed(600, moment(NOW + 950)) == [Ask(USER, urgent=False)]
    assert delivery.missed(600, moment(NOW + 951)) == [Ask(USER, urgent=True)]


@pytest.mark.parametrize(("now", "late"), [(950, False), (951, True), (999, True), (1000, True)])
def test_the_emergency_begins_in_its_second(now: int, late: bool) -> None:
    assert live(sig(ttl=1000)).own.late(moment(NOW + now)) is late


def test_a_look_that_finds_nothing_new_in_the_emergency_has_the_sig_renewed_once() -> None:
    delivery = live(sig(ttl=1000))
    assert delivery.answered(USER, sig(ttl=1000), moment(NOW + 950)) is None
    assert delivery.answered(USER, sig(ttl=1000), moment(NOW + 951)) == Renew(USER, NOW)
    assert delivery.answered(USER, sig(ttl=1000), moment(NOW + 951), renewed=True) is None


def test_looks_are_counted_while_a_newer_sig_is_known_of_and_no_longer() -> None:
    delivery = live()
    assert delivery.news(USER, NOW + 5, moment()) == Ask(USER, urgent=False)
    for tries in (1, 2):
        delivery.answered(USER, sig(), moment())
        assert delivery.own.tries == tries
    made = sig(issued_at=NOW + 5)
    assert delivery.answered(USER, made, moment()) == Write(delivery.own, made)
    delivery.written(Write(delivery.own, made))
    delivery.answered(USER, made, moment())
    assert delivery.own.tries == 0


def test_a_new_delivery_has_no_deadline_and_holds_nothing() -> None:
    delivery = Delivery(USER)
    assert delivery.due() == NEVER
    assert delivery.phase is Phase.OPENING
    assert delivery.own.floor == 0
    assert delivery.wake(moment()) == []


def test_a_look_that_fails_for_a_room_key_that_was_forgotten_meanwhile_is_nothing() -> None:
    delivery = live(sig(), sig(ROOM))
    delivery.revoked(event(EventType.REVOKED, ROOM, NOW))
    delivery.unanswered(ROOM, moment())
    assert delivery.answered(ROOM, None, moment()) is None
    assert delivery.rooms == ()
    delivery.close()
    delivery.own.look_at = NEVER
    delivery.unanswered(USER, moment())
    assert delivery.own.look_at == NEVER


def test_a_resend_in_the_ladder_comes_after_its_rungs_and_then_twice_as_late_each_time() -> None:
    delivery = live()
    resend, waits = POLICY.durations(90 * DAY).resend, []
    steady = STEADY
    for _ in range(6):
        delivery.own.look_at = NEVER
        waits.append(delivery.resend_at - steady)
        assert Ask(USER, urgent=False) not in delivery.wake(moment(steady=delivery.resend_at - 1))
        steady = delivery.resend_at
        assert Ask(USER, urgent=False) in delivery.wake(moment(steady=steady))
        assert delivery.owes
    assert waits == [*resend, resend[-1] * 2, resend[-1] * 4, resend[-1] * 8]
    for _ in range(100):
        delivery.wake(moment(steady=delivery.resend_at))
    assert delivery.resend_at < NEVER


def test_a_user_is_marked_as_seen_again_after_its_time() -> None:
    delivery = live()
    every = POLICY.durations(90 * DAY).mark_seen_every
    assert delivery.seen_at == STEADY + every
    assert MarkSeen(USER) not in delivery.wake(moment(steady=STEADY + every - 1))
    assert MarkSeen(USER) in delivery.wake(moment(steady=STEADY + every))
    assert delivery.seen_at == STEADY + 2 * every
