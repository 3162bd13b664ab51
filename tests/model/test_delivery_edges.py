"""The edges of a delivery's rules: the second in which each begins and ends to hold."""

from __future__ import annotations

import pytest

from sigmgr.model import errors
from sigmgr.model.delivery import (
    MISSING_LOOKS,
    NEVER,
    ROOM_GRACE,
    Delivery,
    Lapsed,
    Moment,
    Phase,
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
