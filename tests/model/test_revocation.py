"""What a process holds of revocations: bounded, and never free of what is dead."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from sigmgr.model.revocation import EVERY_APP, EVERY_USER, Judgement, Known, Revocation

APPS = st.sampled_from([1, 2])
USERS = st.sampled_from([f"u{i}" for i in range(6)])
SECONDS = st.integers(1, 50)
OF_USER = st.builds(Revocation, APPS, USERS, SECONDS, SECONDS)
OF_APP = st.builds(Revocation, APPS, st.just(EVERY_USER), SECONDS, SECONDS)
OF_ALL = st.builds(Revocation, st.just(EVERY_APP), st.just(EVERY_USER), SECONDS, SECONDS)
SOME = st.lists(OF_USER | OF_APP | OF_ALL, max_size=12)


def concerns(revocation: Revocation, sdkappid: int, userid: str) -> bool:
    return revocation.sdkappid in (EVERY_APP, sdkappid) and revocation.userid in ("", userid)


# Dropped, and then learned anew by an older revocation only.
@example(
    [Revocation(1, "u0", 2, 1), Revocation(1, "u1", 1, 1), Revocation(1, "u0", 1, 1)], 1, "u0", 2, 1
)
@given(SOME, APPS, USERS, SECONDS, st.integers(1, 4))
def test_what_is_dead_is_never_called_free(learned, sdkappid, userid, issued_at, most) -> None:
    known = Known(most=most)
    for revocation in learned:
        known.learn(revocation)
    judgement = known.judge(sdkappid, userid, issued_at)
    dead = any(concerns(r, sdkappid, userid) and issued_at <= r.until for r in learned)
    assert judgement is not (Judgement.FREE if dead else Judgement.DEAD)


@given(SOME, APPS, USERS, SECONDS)
def test_with_room_for_all_nothing_is_asked(learned, sdkappid, userid, issued_at) -> None:
    known = Known()
    for revocation in learned:
        known.learn(revocation)
    dead = any(concerns(r, sdkappid, userid) and issued_at <= r.until for r in learned)
    expected = Judgement.DEAD if dead else Judgement.FREE
    assert known.judge(sdkappid, userid, issued_at) is expected
    until = max((r.until for r in learned if concerns(r, sdkappid, userid)), default=0)
    assert known.until(sdkappid, userid) == until


@given(SOME, st.integers(1, 4))
def test_it_is_bounded(learned, most) -> None:
    known = Known(most=most)
    for revocation in learned:
        known.learn(revocation)
    assert len(known) <= most + 3


@given(SOME, st.randoms())
def test_news_is_what_kills_more(learned, random) -> None:
    known = Known()
    for revocation in learned:
        known.learn(revocation)
    again = list(learned)
    random.shuffle(again)
    assert not any(known.learn(revocation) for revocation in again)


@given(SOME, SECONDS, APPS, USERS, SECONDS)
def test_forgetting_lets_go_of_the_past_only(learned, now, sdkappid, userid, issued_at) -> None:
    """A revocation matters until its sigs have expired; nobody asks for those after that."""
    known = Known()
    for revocation in learned:
        known.learn(revocation)
    known.forget(now)
    matters = [r for r in learned if concerns(r, sdkappid, userid) and r.forget_at > now]
    if any(issued_at <= r.until for r in matters):
        later = [r for r in learned if concerns(r, sdkappid, userid) and r not in matters]
        raised = any(r.until >= m.until for r in later for m in matters)
        assert known.judge(sdkappid, userid, issued_at) is Judgement.DEAD or raised


def test_a_revocation_of_all_is_wide() -> None:
    assert Revocation(1, EVERY_USER, 1, 2).wide
    assert Revocation(EVERY_APP, EVERY_USER, 1, 2).wide
    assert not Revocation(1, "a", 1, 2).wide


def test_the_first_second_is_news_as_any_other() -> None:
    known = Known()
    for first in (Revocation(1, "a", 1, 9), Revocation(1, "", 1, 9), Revocation(0, "", 1, 9)):
        assert known.learn(first)
        assert not known.learn(first)


def test_what_was_given_up_is_asked() -> None:
    known = Known(most=1)
    known.learn(Revocation(1, "a", 10, 99))
    known.learn(Revocation(1, "b", 20, 99))
    assert known.floor == 10
    assert known.judge(1, "a", 5) is Judgement.ASK
    assert known.judge(1, "a", 11) is Judgement.FREE
    assert known.judge(1, "b", 20) is Judgement.DEAD


def test_forget_looks_at_a_few() -> None:
    known = Known()
    for i in range(10):
        known.learn(Revocation(1, f"u{i}", i + 1, 50))
    assert known.forget(50, look_at=4) == 4
    assert known.forget(50, look_at=100) == 6
    assert len(known) == 0
