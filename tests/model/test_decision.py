"""The chains: which reason wins, and that nothing good is thrown away."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sigmgr.model.decision import (
    REQUEST_CHAIN,
    TICK_CHAIN,
    Input,
    Verdict,
    decide,
    is_urgent,
    may_replace,
    pause_left,
    state_of,
)
from sigmgr.model.policy import DAY, Policy
from sigmgr.model.reference import APART
from sigmgr.model.revocation import WIDE_MARGIN
from sigmgr.model.sig import Format, KeyRef, KeyState, Reason, Record

NOW = 1_900_000_000
KEY = KeyRef(1, Format("v2"))
POLICY = Policy()
WAITS = "revoked a moment ago; the next sig waits"


def record(age: int = 10 * DAY, ttl: int = 90 * DAY, **changes: object) -> Record:
    issued_at = NOW - age
    base = Record(
        1,
        "alice",
        "user",
        "",
        format="v2",
        key_id=1,
        issued_at=issued_at,
        ttl=ttl,
        renew_at=issued_at + 60 * DAY,
        warn_after=issued_at + 62 * DAY,
        expires_at=issued_at + ttl,
        seen_at=NOW,
        due_at=issued_at + 60 * DAY,
    )
    return base._replace(**changes)  # type: ignore[arg-type]


def ask(chain: object, row: Record, **changes: object) -> tuple[Verdict, Reason | None]:
    given_ = Input(row, NOW, POLICY, KEY, KeyState.ACTIVE)._replace(**changes)  # type: ignore[arg-type]
    answer = decide(chain, given_)  # type: ignore[arg-type]
    assert answer.sentence
    return answer.verdict, answer.reason


def test_a_good_sig_is_kept_on_both_ways() -> None:
    assert ask(REQUEST_CHAIN, record()) == (Verdict.KEEP, None)
    assert ask(TICK_CHAIN, record()) == (Verdict.KEEP, None)


def test_each_reason_has_its_case() -> None:
    assert ask(REQUEST_CHAIN, Record(1, "a", "user", "")) == (Verdict.REISSUE, Reason.MISSING)
    assert ask(REQUEST_CHAIN, record(91 * DAY)) == (Verdict.REISSUE, Reason.EXPIRED)
    assert ask(REQUEST_CHAIN, record(88 * DAY)) == (Verdict.REISSUE, Reason.EMERGENCY)
    assert ask(REQUEST_CHAIN, record(61 * DAY)) == (Verdict.REISSUE, Reason.NEARING_EXPIRY)
    assert ask(REQUEST_CHAIN, record(), key_state=KeyState.TAINTED) == (
        Verdict.REISSUE,
        Reason.KEY_TAINTED,
    )
    assert ask(REQUEST_CHAIN, record(privileges=255), privileges=42) == (
        Verdict.REISSUE,
        Reason.POLICY_CHANGED,
    )
    assert ask(REQUEST_CHAIN, record(revoked_at=NOW)) == (Verdict.WAIT, Reason.REVOKED)
    assert ask(REQUEST_CHAIN, record(revoked_at=NOW - 2)) == (Verdict.REISSUE, Reason.REVOKED)
    # A revocation of all users reaches ahead; what lies beyond is a clock that was wrong.
    for ahead in (WIDE_MARGIN, WIDE_MARGIN + APART):
        row = record(revoked_at=NOW + ahead)
        assert ask(REQUEST_CHAIN, row) == (Verdict.WAIT, Reason.REVOKED)
        assert pause_left(POLICY, row, NOW) == ahead + 2
    row = record(revoked_at=NOW + WIDE_MARGIN + APART + 1)
    assert ask(REQUEST_CHAIN, row) == (Verdict.REISSUE, Reason.REVOKED)
    # Made by a process whose clock is ahead.
    assert ask(REQUEST_CHAIN, record(age=-3, revoked_at=NOW + 1)) == (Verdict.KEEP, None)


def test_a_dead_key_without_a_successor_goes_on_being_served() -> None:
    row = record()
    assert ask(REQUEST_CHAIN, row, key_state=KeyState.TAINTED, key=None)[0] is Verdict.KEEP


def test_a_revoked_key_is_served_by_nobody() -> None:
    for key in (KEY, None):
        for chain in (REQUEST_CHAIN, TICK_CHAIN):
            assert ask(chain, record(), key_state=KeyState.REVOKED, key=key) == (
                Verdict.REISSUE,
                Reason.KEY_TAINTED,
            )


def test_an_old_key_is_no_reason_by_itself() -> None:
    assert ask(REQUEST_CHAIN, record(), key_state=KeyState.OLD)[0] is Verdict.KEEP
    assert ask(TICK_CHAIN, record(), key_state=KeyState.OLD)[0] is Verdict.KEEP


def test_a_tick_lets_rest_who_was_not_seen_and_who_was_revoked() -> None:
    assert ask(TICK_CHAIN, record(61 * DAY, seen_at=NOW - 31 * DAY))[0] is Verdict.REST
    assert ask(TICK_CHAIN, record(revoked_at=NOW))[0] is Verdict.REST
    assert ask(TICK_CHAIN, record(61 * DAY))[0] is Verdict.REISSUE


def test_a_sig_made_after_a_revocation_is_good() -> None:
    row = record(age=5, revoked_at=NOW - 10)
    assert ask(REQUEST_CHAIN, row) == (Verdict.KEEP, None)


@given(st.integers(0, 200 * DAY), st.sampled_from(list(KeyState)), st.booleans())
def test_no_chain_keeps_what_the_cloud_would_refuse(age: int, state: KeyState, seen: bool) -> None:
    row = record(age, seen_at=NOW if seen else 0)
    for chain in (REQUEST_CHAIN, TICK_CHAIN):
        verdict, _ = ask(chain, row, key_state=state)
        if not row.alive(NOW):
            assert verdict is not Verdict.KEEP
    verdict, _ = ask(REQUEST_CHAIN, row, key_state=state)
    if row.expires_at - NOW < POLICY.durations(row.ttl).min_remaining:
        assert verdict is Verdict.REISSUE


def test_who_names_the_sig_it_replaces_must_name_the_current_one() -> None:
    row = record()
    assert may_replace(row, None)
    assert may_replace(row, row.issued_at)
    assert not may_replace(row, row.issued_at - 1)


def test_a_revoked_holder_is_told_how_long_to_wait() -> None:
    pause, revoked = Policy(revoke_pause=5), record(revoked_at=NOW)
    waits = [pause_left(pause, revoked, NOW + past) for past in (0, 1, 4, 5, 9)]
    assert waits == [5, 4, 1, 1, 1]


def said(row: Record, **changes: object) -> str:
    given_ = Input(row, NOW, POLICY, KEY, KeyState.ACTIVE)._replace(**changes)  # type: ignore[arg-type]
    return decide(REQUEST_CHAIN, given_).sentence


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        # The pause: from its first second to its last, and as long where it reaches ahead.
        (record(revoked_at=NOW), WAITS),
        (record(revoked_at=NOW - 1), WAITS),
        (record(revoked_at=NOW - 2), "the last sig was revoked"),
        (record(revoked_at=NOW + 1), WAITS),
        # What was issued in the second of a revocation is dead.
        (record(10, revoked_at=NOW - 10), "the last sig was revoked"),
        (record(10, revoked_at=NOW - 11), "the sig is good"),
        (record(90 * DAY), "it has expired"),
        (record(90 * DAY + 7), "it has expired"),
        (record(90 * DAY - 1), "little of its life is left"),
        (record(90 * DAY - 388_799), "little of its life is left"),
        (record(90 * DAY - 388_800), "its renewal time has passed"),
        (record(60 * DAY), "its renewal time has passed"),
        (record(60 * DAY - 1), "the sig is good"),
    ],
)
def test_a_reason_begins_at_its_second(row: Record, sentence: str) -> None:
    assert said(row) == sentence


def test_other_privileges_are_a_reason_where_some_are_asked_for() -> None:
    room = record(privileges=42)
    assert said(room, privileges=255) == "other privileges are asked for"
    assert said(room, privileges=42) == said(room, privileges=0) == "the sig is good"


def test_who_was_never_revoked_has_no_pause() -> None:
    epoch = record()._replace(issued_at=0)
    assert ask(REQUEST_CHAIN, epoch, now=1) == (Verdict.REISSUE, Reason.MISSING)


def test_a_tick_leaves_idle_holders_alone() -> None:
    idle = record(seen_at=NOW - 31 * DAY)
    decision = decide(TICK_CHAIN, Input(idle, NOW, POLICY, KEY, KeyState.ACTIVE))
    assert decision == (Verdict.REST, None, "its user was not seen for long")


def test_what_is_urgent_is_near_its_end_and_was_not_revoked() -> None:
    assert is_urgent(record(86 * DAY), POLICY, NOW)
    assert not is_urgent(record(80 * DAY), POLICY, NOW)
    assert not is_urgent(record(86 * DAY, revoked_at=NOW), POLICY, NOW)
    assert not is_urgent(record(86 * DAY, revoked_at=NOW - 86 * DAY), POLICY, NOW)
    assert is_urgent(record(86 * DAY, revoked_at=NOW - 86 * DAY - 1), POLICY, NOW)


def test_an_unknown_key_is_a_revoked_one() -> None:
    assert state_of(None) is KeyState.REVOKED
    assert state_of(KeyState.ACTIVE) is KeyState.ACTIVE
