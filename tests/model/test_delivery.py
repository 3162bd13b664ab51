"""The rules of one stream, one by one: what exactly follows from what, and when."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sigmgr.model import errors
from sigmgr.model.delivery import (
    AUDIT,
    MISSING_LOOKS,
    NEVER,
    OPEN,
    RETRY,
    ROOM_GRACE,
    Ask,
    Bye,
    ClientSig,
    Delivery,
    Moment,
    Phase,
    Renew,
    Revoked,
    Wake,
    Write,
)
from sigmgr.model.event import EventType
from sigmgr.model.policy import Policy
from tests.model.delivery_kit import DAY, NOW, POLICY, ROOM, STEADY, USER, World, event, sig


def held(ttl: int = 90 * DAY, want: int = 0, tries: int = 0) -> ClientSig:
    one = ClientSig(USER)
    one.take(sig(ttl=ttl))
    one.want, one.tries = want, tries
    return one


# -- opening -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("claim", "first"), [(0, True), (NOW - 1, True), (NOW, True), (NOW + 1, False)]
)
def test_the_first_message_is_the_users_sig_unless_the_client_claims_a_newer_one(claim, first):
    one = Delivery(USER, claim)
    assert one.opened([sig(), sig(ROOM)])[0].sig.holder == (USER if first else ROOM)
    assert (one.own.sent, one.own.acked) == (NOW, claim)


def test_a_revocation_while_its_state_is_asked_for_refuses_and_drops_dead_room_keys():
    one = Delivery(USER)
    one.revoked(event(EventType.REVOKED, USER, NOW))
    with pytest.raises(errors.TicketRevoked):
        one.opened([sig()])
    writes = one.opened([sig(issued_at=NOW + 1), sig(ROOM, NOW)])
    assert [write.current.holder for write in writes] == [USER]


def test_a_revocation_while_the_first_messages_are_written_closes_when_they_are_out():
    world = World()
    world.delivery.opened([sig()])
    assert world.delivery.revoked(event(EventType.REVOKED, USER, NOW)) is None
    world.live()
    assert world.closed == Revoked(NOW, NOW + 90 * DAY)


def test_nothing_is_asked_for_or_written_before_it_is_live():
    world = World()
    assert world.delivery.news(USER, NOW + 1, world.moment) is None
    assert world.delivery.wake(world.moment) == []
    assert world.delivery.missed(0, world.moment) == []
    assert world.delivery.answered(USER, sig(), world.moment) is None
    world.open()
    assert world.asked == {USER: False}


def test_what_it_heard_while_it_opened_is_asked_for_as_it_goes_live():
    quiet, newer, gap = World(), World(), World()
    for world in (quiet, newer, gap):
        world.delivery.opened([sig()])
    assert newer.delivery.news(USER, NOW + 1, newer.moment) is None
    assert gap.delivery.missed(0, gap.moment) == []
    assert [world.live().asked for world in (quiet, newer, gap)] == [
        {},
        {USER: False},
        {USER: False},
    ]


def test_who_goes_live_twice_or_after_its_end_does_not():
    world = World().open()
    assert world.delivery.live(world.moment) == []
    world.delivery.close()
    assert world.delivery.live(world.moment) == []
    assert world.delivery.phase is Phase.CLOSED


# -- looking -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ttl", "after", "want", "tries", "seconds"),
    [
        (90 * DAY, 0, 0, 0, AUDIT * 3 // 4),  # quiet: an audit
        (90 * DAY, 60 * DAY - AUDIT, 0, 0, AUDIT * 3 // 4),
        (90 * DAY, 60 * DAY - 100, 0, 0, 160),  # a minute after it is due
        (90 * DAY, 60 * DAY, 0, 0, 60),  # due: each minute
        (90 * DAY, 90 * DAY - 200, 0, 0, 10),  # near the end: a twentieth of what is left
        (90 * DAY, 90 * DAY - 20, 0, 0, 1),
        (90 * DAY, 90 * DAY + 5, 0, 0, 60),  # expired: it goes on
        (600, 400, 0, 0, 6),  # a short life: a hundredth of it
        (30, 20, 0, 0, 1),
        *[(90 * DAY, 0, NOW + 1, n, RETRY[n]) for n in range(6)],  # known of: the retries
        (90 * DAY, 0, NOW + 1, 99, 60),
        (90 * DAY, 90 * DAY - 100, NOW + 1, 4, 5),
        (90 * DAY, 0, NOW, 0, AUDIT * 3 // 4),  # what was sent is not wanted
    ],
)
def test_when_it_looks_by_itself(ttl, after, want, tries, seconds):
    assert held(ttl, want, tries).look_in(NOW + after, 0.5) == seconds


@given(st.integers(0, 95 * DAY), st.floats(0, 0.999), st.sampled_from([30, 600, 90 * DAY]))
def test_it_never_sleeps_longer_than_an_audit_nor_through_a_twentieth_of_the_rest(after, draw, ttl):
    one = held(ttl)
    wait, left = one.look_in(NOW + after, draw), ttl - after
    assert 1 <= wait <= AUDIT
    if one.renew_at < NOW + after < one.expires_at:
        assert wait <= max(1, left // 20)


@pytest.mark.parametrize(
    ("left", "late"), [(51, False), (50, False), (49, True), (0, True), (-5, True)]
)
def test_the_emergency_is_the_last_twentieth(left, late):
    at = Moment(NOW + 1000 - left, STEADY, 0.0, POLICY)
    assert held(1000).late(at) is late


def test_who_looks_in_the_emergency_goes_first_and_is_renewed_where_nothing_is_found():
    world = World(sig(ttl=1000)).open()
    world.ack(NOW)
    world.now = NOW + 960
    world.steady = world.delivery.own.look_at
    effects = world.delivery.wake(world.moment)
    assert Ask(USER, urgent=True) in effects
    assert world.delivery.answered(USER, sig(ttl=1000), world.moment) == Renew(USER, NOW)
    again = world.delivery.answered(USER, sig(ttl=1000), world.moment, renewed=True)
    assert again is None


def test_a_failed_lookup_is_tried_again_slower_and_slower():
    world = World().open()
    world.receive(sig(issued_at=NOW + 1))
    waits = []
    for _ in range(8):
        world.delivery.unanswered(USER, world.moment)
        waits.append(world.delivery.own.look_at - world.steady)
    assert waits == [*RETRY, 60, 60]


def test_a_valid_sig_that_is_gone_closes_after_four_looks_and_a_room_key_is_forgotten():
    world = World(sig(), sig(ROOM)).open()
    answers = [world.delivery.answered(ROOM, None, world.moment) for _ in range(4)]
    assert answers == [None] * 4
    assert world.delivery.rooms == ()
    assert world.delivery.answered(ROOM, None, world.moment) is None
    answers = [world.delivery.answered(USER, None, world.moment) for _ in range(4)]
    assert answers == [None, None, None, Bye("refresh", 3)]
    assert world.delivery.phase is Phase.CLOSED


def test_a_look_that_finds_what_is_held_begins_the_count_anew():
    world = World().open()
    for _ in range(3):
        world.delivery.answered(USER, None, world.moment)
    world.delivery.answered(USER, sig(), world.moment)
    answers = [world.delivery.answered(USER, None, world.moment) for _ in range(3)]
    assert answers == [None] * 3


def test_one_that_has_expired_is_looked_for_on_and_had_renewed():
    world = World(sig(ttl=100)).open()
    world.now += 100
    for _ in range(9):
        assert world.delivery.answered(USER, None, world.moment) == Renew(USER, NOW)
    assert world.delivery.phase is Phase.OPEN


# -- news --------------------------------------------------------------------------------


@pytest.mark.parametrize("issued_at", [NOW - 5, NOW])
def test_old_news_is_none(issued_at):
    world = World().open()
    assert world.delivery.news(USER, issued_at, world.moment) is None
    world.delivery.news(USER, NOW + 9, world.moment)
    assert world.delivery.news(USER, NOW + 9, world.moment) is None


def test_what_the_client_claims_to_hold_is_no_news():
    world = World(claim=NOW + 3).open()
    assert world.delivery.news(USER, NOW + 3, world.moment) is None
    assert world.delivery.news(USER, NOW + 4, world.moment) is not None


def test_in_a_wide_wave_its_turn_comes_within_the_splay():
    world = World().open()
    world.draw = 0.25
    wake = world.delivery.news(USER, NOW + 9, world.moment, wide=True)
    assert wake == Wake(world.steady + 1 + 75)
    assert world.delivery.due() <= wake.at


@pytest.mark.parametrize(("left", "at_once"), [(52, False), (51, True), (40, True)])
def test_no_wave_makes_anybody_wait_into_the_emergency(left, at_once):
    world = World(sig(ttl=1000), policy=Policy(splay=10**7)).open()
    world.now = NOW + 1000 - left
    effect = world.delivery.news(USER, NOW + 900, world.moment, wide=True)
    assert isinstance(effect, Ask) is at_once


def test_a_room_key_that_is_new_has_no_turn():
    world = World().open()
    effect = world.delivery.news(ROOM, NOW + 9, world.moment, wide=True)
    assert effect == Ask(ROOM, urgent=False)


def test_a_room_key_that_was_not_sent_yet_is_in_no_emergency():
    world = World().open()
    world.delivery.news(ROOM, NOW + 9, world.moment)
    [room] = world.delivery.rooms
    for wait in (1, 2, 5, 10):
        world.delivery.unanswered(ROOM, world.moment)
        assert room.look_at == world.steady + wait
    world.delivery.revoked_widely(NOW + 9, 5, world.moment)
    assert world.delivery.answered(ROOM, sig(ROOM, NOW + 9), world.moment) is None


def test_a_room_key_from_before_a_revocation_is_not_even_remembered():
    world = World(sig(issued_at=NOW + 9)).open()
    world.revoke(at=NOW + 5)
    assert world.delivery.news(ROOM, NOW + 5, world.moment) is None
    assert world.delivery.answered(ROOM, sig(ROOM, NOW + 5), world.moment) is None
    assert world.delivery.rooms == ()
    assert world.delivery.news(ROOM, NOW + 6, world.moment) is not None


def test_a_client_that_is_behind_gets_it_within_a_second_of_taking_again():
    world = World().open()
    world.blocked = True
    world.renew(along=True)
    world.pass_time(20)
    assert world.sigs == [NOW]
    world.blocked = False
    world.pass_time(1)
    assert world.sigs == [NOW, NOW + 1]


# -- resending and acks ------------------------------------------------------------------


def test_it_is_sent_again_by_the_ladder_whose_last_interval_doubles_until_it_is_acked():
    world = World().open()
    at = []
    while world.steady < STEADY + 60 + 300 + 1800 + 3600 + 7200 + 2:
        before = len(world.got)
        world.pass_time(1)
        if len(world.got) > before:
            at.append(world.steady - STEADY)
    assert at == [60, 360, 2160, 5760, 12960]
    assert world.ack(NOW)
    assert world.delivery.resend_at == NEVER


def test_a_new_sig_begins_the_ladder_anew():
    world = World().open()
    world.pass_time(400)
    world.renew(along=True)
    sent, last = len(world.got), world.sigs[-1]
    world.pass_time(60)
    assert len(world.got) == sent
    world.pass_time(1)
    assert world.sigs[sent:] == [last]


def test_an_ack_counts_for_what_was_sent():
    world = World().open()
    world.renew(along=True)
    newest = world.sigs[-1]
    assert not world.ack(newest + 1)
    assert not world.ack(NOW)
    assert world.delivery.own.acked == NOW
    assert world.ack(newest)
    assert not world.ack(newest)


def test_a_room_key_in_between_does_not_put_off_a_resend():
    world = World().open()
    world.pass_time(60, look=False)
    assert world.delivery.owes
    world.renew(ROOM, along=True)
    world.look()
    assert world.sigs == [NOW, NOW]


def test_a_resend_that_is_not_taken_waits_for_its_next_rung():
    world = World().open()
    world.blocked = True
    world.pass_time(65)
    world.blocked = False
    world.pass_time(100)
    assert world.sigs == [NOW]
    world.pass_time(200)
    assert world.sigs == [NOW, NOW]


# -- the rest ----------------------------------------------------------------------------


def test_a_warning_passes_for_the_sig_that_is_held_only():
    world = World().open()
    for at in (NOW - 1, NOW, NOW + 1):
        world.carry_out(world.delivery.will_expire(event(EventType.WILL_EXPIRE, USER, at)))
    assert [answer.issued_at for answer in world.warned] == [NOW]
    world.delivery.close()
    assert world.delivery.will_expire(event(EventType.WILL_EXPIRE, USER, NOW)) is None


@pytest.mark.parametrize(("at", "closed"), [(NOW - 1, False), (NOW, True), (NOW + 1, True)])
def test_a_revocation_closes_who_holds_nothing_newer(at, closed):
    world = World().open()
    world.revoke(at=at)
    assert (world.closed is not None) is closed


def test_a_revoked_room_key_is_forgotten_and_a_newer_one_is_not():
    world = World(sig(), sig(ROOM, NOW + 5)).open()
    world.revoke(ROOM, NOW + 4)
    assert len(world.delivery.rooms) == 1
    world.revoke(ROOM, NOW + 5)
    assert world.delivery.rooms == ()
    assert world.closed is None


def test_a_revocation_of_an_app_closes_within_its_seconds_whatever_comes_between():
    world = World().open()
    world.missed()
    wake = world.delivery.revoked_widely(NOW, 5, world.moment)
    assert wake == Wake(world.steady + 3)
    world.look()
    world.renewals = []
    world.pass_time(2)
    assert world.closed is None
    world.pass_time(1)
    assert world.closed == Revoked(NOW, NOW + 90 * DAY)


def test_a_revocation_of_an_app_before_its_sig_leaves_a_stream_open():
    world = World().open()
    assert world.delivery.revoked_widely(NOW - 1, 5, world.moment) is None
    world.pass_time(10)
    assert world.closed is None


def test_a_room_key_that_was_not_sent_yet_does_not_say_how_often_its_user_is_seen():
    world = World()
    world.delivery.opened([sig()])
    assert world.delivery.news(ROOM, NOW, world.moment) is None
    world.live()
    assert world.delivery.seen_at == STEADY + POLICY.durations(90 * DAY).mark_seen_every


def test_looks_for_a_sig_that_is_known_of_are_counted_until_it_is_found():
    world = World().open()
    world.receive(sig(issued_at=NOW + 1))
    for count in (1, 2, 3):
        assert world.delivery.answered(USER, sig(), world.moment) is None
        assert world.delivery.own.tries == count
    world.carry_out(world.delivery.answered(USER, sig(issued_at=NOW + 1), world.moment))
    world.pass_time(1)
    assert world.delivery.own.tries == 0
    assert world.delivery.answered(USER, sig(issued_at=NOW + 1), world.moment) is None
    assert world.delivery.own.tries == 0


def test_a_resend_pays_what_is_owed_for_the_users_sig_only():
    world = World(sig(), sig(ROOM)).open()
    room = world.delivery.rooms[0]
    world.delivery.owes = True
    assert world.delivery.repeated(Write(room, sig(ROOM)), world.moment) is None
    assert world.delivery.owes
    assert world.delivery.repeated(Write(world.delivery.own, sig()), world.moment) is None
    assert not world.delivery.owes


def test_after_a_resend_in_the_emergency_the_sig_is_renewed_unless_it_just_was():
    world = World().open()
    world.now += 89 * DAY
    own = Write(world.delivery.own, sig())
    assert world.delivery.repeated(own, world.moment) == Renew(USER, NOW)
    assert world.delivery.repeated(own, world.moment, renewed=True) is None


def test_what_waits_to_be_closed_is_not_sent_again():
    world = World().open()
    world.pass_time(60, look=False)
    world.delivery.revoked_widely(NOW, 5, world.moment)
    assert world.delivery.owes
    assert not isinstance(world.delivery.answered(USER, sig(), world.moment), Write)


def test_a_newer_sig_saves_a_stream_from_the_revocation_of_its_app():
    world = World().open()
    world.delivery.revoked_widely(NOW, 5, world.moment)
    world.renew(along=True)
    world.pass_time(10)
    assert world.closed is None


def test_who_is_denied_by_the_store_is_closed_as_revoked():
    world = World().open()
    assert world.delivery.denied() == Revoked(NOW, NOW + 90 * DAY)
    assert world.delivery.denied() is None


def test_an_expired_sig_is_reported_once_and_an_expired_room_key_forgotten_after_a_while():
    world = World(sig(ttl=100), sig(ROOM, ttl=50)).open()
    world.pass_time(49 + 1, look=False)
    assert world.lapsed == [ROOM]
    world.pass_time(ROOM_GRACE - 1, look=False)
    assert world.lapsed == [ROOM, USER]
    assert len(world.delivery.rooms) == 1
    world.pass_time(70, look=False)
    assert world.delivery.rooms == ()
    assert world.lapsed == [ROOM, USER]


def test_the_user_is_marked_as_seen_as_often_as_the_shortest_sig_demands():
    world = World().open()
    every, room_every = (POLICY.durations(ttl).mark_seen_every for ttl in (90 * DAY, 21600))
    assert room_every < every
    assert world.delivery.seen_at == world.steady + every
    world.renew(ROOM, along=True, ttl=21600)
    world.pass_time(1 + room_every)
    assert world.seen == 1
    assert world.delivery.seen_at == world.steady + room_every


def test_lost_events_are_looked_for_by_all_sigs_within_the_seconds():
    world = World(sig(), sig(ROOM, ttl=21600)).open()
    world.draw = 0.999
    world.missed(1)
    assert world.asked == {USER: False, ROOM: False}
    world.asked.clear()
    world.missed(40)
    assert world.asked == {}
    assert [s.look_at for s in (world.delivery.own, *world.delivery.rooms)] == [STEADY + 40] * 2


@settings(max_examples=30, deadline=None)
@given(
    st.sampled_from([30, 60, 600]),
    st.floats(0, 0.99),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)
def test_no_connected_client_ever_holds_an_expired_sig(ttl, draw, works, reported, acks):
    """A worker renews in time, perhaps with an event; or no worker lives, and the stream
    has its sig renewed itself."""
    world = World(sig(ttl=ttl)).open()
    world.draw, world.renews = draw, ttl
    for _ in range(3 * ttl):
        if works and world.now >= world.newest[USER].renew_at:
            world.renew(reported=reported, ttl=ttl)
        world.pass_time(1)
        assert world.now < world.delivery.own.expires_at
        if acks:
            world.ack(world.sigs[-1])
    assert world.lapsed == []
    assert len(set(world.sigs)) >= 4 if works else 3


def test_a_lookup_that_fails_is_none_that_found_nothing():
    world = World().open()
    for _ in range(MISSING_LOOKS):
        world.delivery.unanswered(USER, world.moment)
    assert world.delivery.answered(USER, None, world.moment) is None
    assert world.delivery.phase is OPEN
    for _ in range(MISSING_LOOKS - 2):
        assert world.delivery.answered(USER, None, world.moment) is None
    assert isinstance(world.delivery.answered(USER, None, world.moment), Bye)


def test_a_stream_that_takes_two_sigs_within_a_second_sets_its_deadlines_once():
    world = World().open()
    own = world.delivery.own
    assert world.delivery.written(Write(own, sig(issued_at=NOW + 1)))
    assert not world.delivery.written(Write(own, sig(issued_at=NOW + 2)))
    world.delivery.set_deadlines(world.moment)
    assert world.delivery.written(Write(own, sig(issued_at=NOW + 3)))
