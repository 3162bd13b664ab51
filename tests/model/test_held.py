"""What a client's claim to hold a sig means, over any history and any restore of a backup."""

from __future__ import annotations

import itertools
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sigmgr.model.held import BELIEVED_EVERY, Claim, judge
from sigmgr.model.reference import APART
from sigmgr.model.sig import PAST_KEPT, Past, Reason, Record

NOW = 1_900_000_000
DAY = 86400
ORDINARY = (Reason.NEARING_EXPIRY, Reason.MISSING, Reason.CLIENT_REQUESTED, Reason.KEY_ROTATED)


class Row(NamedTuple):
    record: Record
    past: list[Past]


def row(history: list[tuple[int, Reason]], revoked_at: int = 0) -> Row:
    """The row after these sigs, oldest first."""
    base = Record(1, "alice", "user", "", revoked_at=revoked_at)
    if not history:
        return Row(base, [])
    at, reason = history[-1]
    kept = history[-1 - PAST_KEPT : -1]
    past = [Past(second, DAY, 1, why.value) for second, why in reversed(kept)]
    return Row(base._replace(issued_at=at, ttl=DAY, reason=reason.value), past)


def answer(found: Row, claim: int, *, ticket: int = 0, now: int = NOW) -> Claim:
    return judge(found.record, found.past, claim, ticket_issued_at=ticket, now=now)


histories = st.lists(
    st.tuples(st.integers(NOW - 100 * DAY, NOW), st.sampled_from(ORDINARY)),
    min_size=1,
    max_size=9,
    unique_by=lambda one: one[0],
).map(sorted)


@given(histories)
def test_what_the_row_remembers_is_known(history):
    found = row(history)
    for at, _ in history[-1 - PAST_KEPT :]:
        assert answer(found, at) is Claim.KNOWN
        # Whatever the clock does meanwhile.
        assert answer(found, at, now=at - 400 * DAY) is Claim.KNOWN


@given(histories, st.data())
def test_no_honest_client_learns_that_its_sig_was_never_issued(history, data):
    """It holds one of the sigs of its user, with the ticket that came with it. Meanwhile the
    database was set back to any earlier moment, and went on from there."""
    claim, _ = data.draw(st.sampled_from(history))
    kept = data.draw(st.integers(0, len(history)))
    found = row(history[:kept])
    meaning = answer(found, claim, ticket=claim)
    assert meaning is not Claim.NEVER
    assert (meaning is Claim.RESTORED) is (claim > found.record.issued_at)
    # It goes on with ordinary sigs, before this client comes again.
    later = [*history[:kept], (NOW + 5, data.draw(st.sampled_from(ORDINARY)))]
    assert answer(row(later), claim, ticket=claim, now=NOW + 9) in (Claim.KNOWN, Claim.OLD)


@given(histories, st.data())
def test_without_proof_an_honest_client_of_a_restored_database_is_considered(history, data):
    """It holds what the database lost, with an older ticket; then others of its user do, when
    the first has led to a newer sig."""
    kept = data.draw(st.integers(0, len(history) - 1))
    lost = [at for at, _ in history[kept:]]
    found = row(history[:kept])
    assert {answer(found, at) for at in lost} == {Claim.RESTORED}
    mended = row([*history[:kept], (max(NOW, lost[-1] + 1), Reason.FORCED)])
    assert {answer(mended, at) for at in lost} <= {Claim.KNOWN, Claim.OLD}


@given(histories, st.integers(1, 10**6), st.data())
def test_what_can_never_have_been_is_reported(history, ahead, data):
    found = row(history)
    newest = found.record.issued_at
    assert answer(found, NOW + APART + ahead) is Claim.NEVER
    seconds = sorted([one.issued_at for one in found.past] + [newest])
    between = [(low, high) for low, high in itertools.pairwise(seconds) if high - low > 1]
    if between:
        low, high = data.draw(st.sampled_from(between))
        assert answer(found, data.draw(st.integers(low + 1, high - 1))) is Claim.NEVER


@given(histories, st.integers(1, 10**6))
def test_nothing_is_known_of_what_is_older_than_all_that_is_known(history, back):
    found = row(history)
    oldest = min([one.issued_at for one in found.past] + [found.record.issued_at])
    assert answer(found, oldest - back) is Claim.OLD


@pytest.mark.parametrize(
    ("history", "revoked_at", "claim", "ticket", "wanted"),
    [
        ([], 0, NOW - 5, 0, Claim.RESTORED),
        ([], 0, NOW + APART, 0, Claim.RESTORED),
        ([], 0, NOW + APART + 1, 0, Claim.NEVER),
        ([], 0, NOW + DAY, NOW + DAY, Claim.RESTORED),
        ([], NOW - 9, NOW - 10, 0, Claim.OLD),
        ([], NOW - 9, NOW - 9, 0, Claim.OLD),
        ([], NOW - 9, NOW - 8, 0, Claim.RESTORED),
        ([(NOW - 99, Reason.MISSING)], NOW - 50, NOW - 60, 0, Claim.OLD),
        ([(NOW - 99, Reason.MISSING)], 0, NOW - 60, 0, Claim.RESTORED),
        ([(NOW - 99, Reason.MISSING), (NOW - 9, Reason.FORCED)], 0, NOW - 50, 0, Claim.OLD),
        ([(NOW - 99, Reason.FORCED), (NOW - 9, Reason.MISSING)], 0, NOW - 50, 0, Claim.NEVER),
        ([(NOW - 99, Reason.FORCED), (NOW - 9, Reason.MISSING)], 0, NOW - 50, NOW - 50, Claim.OLD),
    ],
)
def test_cases(history, revoked_at, claim, ticket, wanted):
    assert answer(row(history, revoked_at), claim, ticket=ticket) is wanted


@pytest.mark.parametrize(("later", "wanted"), [(59, Claim.NEVER), (60, Claim.RESTORED)])
def test_after_a_forced_sig_the_next_claim_is_believed_a_minute_later(later, wanted):
    history = [(NOW - 100, Reason.MISSING), (NOW - 90, Reason.FORCED)]
    assert answer(row(history), NOW - 90 + later) is wanted


def test_nobody_makes_a_sig_a_second_by_claiming():
    """Each claim is a second later than the sig that the last one led to."""
    history, made = [(NOW, Reason.MISSING)], 0
    for second in range(1, 10 * BELIEVED_EVERY):
        found = row(history[-3:])
        claim = found.record.issued_at + 1
        if answer(found, claim, now=NOW + second) is Claim.RESTORED:
            made += 1
            history.append((max(NOW + second, claim + 1), Reason.FORCED))
        claim = NOW + second
        if answer(row(history[-3:]), claim, now=NOW + second) is Claim.RESTORED:
            made += 1
            history.append((claim + 1, Reason.FORCED))
    assert 5 <= made <= 11
