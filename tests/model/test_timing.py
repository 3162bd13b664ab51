"""The rules of time, as properties over every policy, lifetime, draw and clock."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sigmgr.model import errors, timing
from sigmgr.model.policy import FULL_LIFE, Policy
from sigmgr.model.ttl import MAX_TTL, MIN_TTL

POLICY = Policy()
ttls = st.integers(MIN_TTL, MAX_TTL)
draws = st.floats(0, 1, exclude_max=True)
starts = st.integers(1, 2**32 - 1 - MAX_TTL)


@st.composite
def policies(draw: st.DrawFn) -> Policy:
    lo, hi = sorted(draw(st.lists(st.floats(0.01, 0.9), min_size=2, max_size=2, unique=True)))
    return Policy(renew_from=lo, renew_to=hi, emergency=min(0.05, (1 - hi) / 2))


@given(policies(), starts, ttls, draws, st.booleans())
def test_the_four_times_rise_strictly(
    policy: Policy, start: int, ttl: int, draw: float, first: bool
) -> None:
    times = timing.plan(policy, start, ttl, draw, first_generation=first)
    assert times.issued_at < times.renew_at < times.warn_after < times.expires_at
    assert times.issued_at == start
    assert times.expires_at == start + ttl
    assert times == timing.plan(policy, start, ttl, draw, first_generation=first)


@given(draws)
def test_a_full_life_is_renewed_between_60_and_73_per_cent(draw: float) -> None:
    times = timing.plan(POLICY, 1_700_000_000, FULL_LIFE, draw)
    share = (times.renew_at - times.issued_at) / FULL_LIFE
    assert share + 1 / FULL_LIFE >= 0.60
    assert share <= 0.73
    assert times.warn_after - times.renew_at == 48 * 3600


def test_the_first_generation_is_spread_so_that_the_echo_stays_low() -> None:
    """Simulate cycles of a mass event: the peak of later cycles over the mean rate."""
    import random

    rng = random.Random(5)
    population, day = 40_000, 86400
    due = [
        timing.plan(POLICY, 1, FULL_LIFE, rng.random(), first_generation=True).renew_at
        for _ in range(population)
    ]
    mean = population / (0.665 * 90)
    for _cycle in range(4):
        second = [timing.plan(POLICY, at, FULL_LIFE, rng.random()).renew_at for at in due]
        counts: dict[int, int] = {}
        for at in second:
            counts[at // (3 * day)] = counts.get(at // (3 * day), 0) + 1
        assert max(counts.values()) / 3 <= 1.5 * mean
        due = second


@pytest.mark.parametrize("start", [0, -5, 2**32 - 100])
def test_times_that_do_not_fit_are_refused(start: int) -> None:
    with pytest.raises(errors.BadTime):
        timing.plan(POLICY, start, 1000, 0.5)


@given(st.integers(0, 2**31), st.integers(0, 2**31))
def test_the_fence_rises_whatever_the_clock_does(now: int, last: int) -> None:
    following = timing.next_issued_at(now, last)
    assert following > last
    assert following >= now
    assert timing.same_second(now, last) == (now <= last)


@given(ttls, st.integers(0, 40), draws)
def test_backoff_is_capped_and_never_nothing(ttl: int, failures: int, draw: float) -> None:
    durations = POLICY.durations(ttl)
    wait = timing.backoff(durations, failures, draw)
    assert 1 <= wait <= max(1, durations.backoff_cap * 1.5)


@given(st.integers(1, 30))
def test_backoff_grows_with_every_failure(failures: int) -> None:
    durations = POLICY.durations(FULL_LIFE)
    steps = [timing.backoff(durations, n, 0.5) for n in range(1, failures + 1)]
    assert steps == sorted(steps)
    assert steps[:6] == [60, 120, 300, 600, 1200, 3600][:failures]
    assert steps[-1] <= 6 * 3600


@given(ttls, st.integers(1, 30), draws, st.data())
def test_a_retry_never_sleeps_through_the_emergency(
    ttl: int, failures: int, draw: float, data: st.DataObject
) -> None:
    durations = POLICY.durations(ttl)
    expires_at = 2_000_000_000
    now = data.draw(st.integers(expires_at - ttl, expires_at - 1))
    at = timing.retry_at(durations, expires_at, failures, draw, now)
    assert at > now
    left = expires_at - now
    if left >= durations.emergency:
        assert at <= expires_at - durations.emergency + 1
    else:
        assert at - now <= max(1, left // 20)


@given(ttls, st.integers(-100, MAX_TTL))
def test_what_is_in_emergency_may_not_be_served_blindly(ttl: int, left: int) -> None:
    durations, expires_at = POLICY.durations(ttl), 2_000_000_000
    now = expires_at - left
    if timing.may_serve(durations, expires_at, now):
        assert left >= min(24 * 3600, ttl // 10)
    else:
        assert left < max(1, min(24 * 3600, ttl // 10))


@given(ttls, st.data())
def test_every_rung_is_crossed_once_whichever_looks_are_missed(
    ttl: int, data: st.DataObject
) -> None:
    ladder = POLICY.durations(ttl).ladder
    expires_at = 2_000_000_000
    looks = sorted(
        data.draw(st.lists(st.integers(expires_at - ttl, expires_at + 1000), min_size=1))
    )
    warned, fired = 0, []
    for now in looks:
        crossed = timing.rungs_crossed(ladder, expires_at, now)
        fired += list(range(warned, crossed))
        warned = max(warned, crossed)
    assert fired == list(range(len(fired)))
    assert warned <= len(ladder) + 1
    if looks[-1] >= expires_at:
        assert warned == len(ladder) + 1


def test_a_room_holder_is_idle_soon_a_user_after_thirty_days_or_never() -> None:
    day = 86400
    room, user = POLICY.durations(6 * 3600), POLICY.durations(FULL_LIFE)
    assert timing.is_idle(room, "room", 0, 3600)
    assert not timing.is_idle(room, "room", 0, 1200)
    assert not timing.is_idle(user, "user", 0, 30 * day)
    assert timing.is_idle(user, "user", 0, 30 * day + 1)
    never = Policy(idle_after=0).durations(FULL_LIFE)
    assert not timing.is_idle(never, "user", 0, 900 * day)


# With their numbers: a rule that is off by one is another rule.

DURATIONS = POLICY.durations(FULL_LIFE)
END = 2_000_000_000


@pytest.mark.parametrize(
    ("start", "ttl", "draw", "first", "renew", "warn"),
    [
        (1000, FULL_LIFE, 0.0, False, 4_665_600, 4_838_400),
        (1000, FULL_LIFE, 0.5, False, 5_171_040, 5_343_840),
        (1000, FULL_LIFE, 0.0, True, 1_710_720, 1_883_520),
        (1000, FULL_LIFE, 0.5, True, 4_315_680, 4_488_480),
        (1, 10, 0.0, False, 6, 7),
        (1, 1000, 0.5, False, 665, 687),
    ],
)
def test_a_plan_with_its_numbers(
    start: int, ttl: int, draw: float, first: bool, renew: int, warn: int
) -> None:
    times = timing.plan(POLICY, start, ttl, draw, first_generation=first)
    assert times == (start, start + renew, start + warn, start + ttl)


def test_a_window_at_the_edge_of_a_life_leaves_room_for_the_warning() -> None:
    late = Policy(renew_from=0.98, renew_to=0.99, emergency=0.005, first_to=0.9)
    assert timing.plan(late, 1, 10, 0.9) == (1, 9, 10, 11)
    early = Policy(renew_from=0.01, renew_to=0.02, warn_lag=90 * 86400)
    assert timing.plan(early, 1, 10, 0.0) == (1, 2, 10, 11)


def test_the_last_second_of_32_bits_is_an_expiry() -> None:
    last = 2**32 - 1
    assert timing.plan(POLICY, last - 1000, 1000, 0.5).expires_at == last
    with pytest.raises(errors.BadTime):
        timing.plan(POLICY, last - 999, 1000, 0.5)
    assert timing.plan(POLICY, 1, 1000, 0.5).issued_at == 1


def test_what_is_left_of_a_life() -> None:
    emergency, enough = DURATIONS.emergency, DURATIONS.min_remaining
    assert not timing.in_emergency(DURATIONS, END, END - emergency)
    assert timing.in_emergency(DURATIONS, END, END - emergency + 1)
    assert timing.may_serve(DURATIONS, END, END - enough)
    assert not timing.may_serve(DURATIONS, END, END - enough + 1)


def test_a_holder_is_idle_from_the_second_after_its_time() -> None:
    assert not timing.is_idle(DURATIONS, "room", 5, 5 + DURATIONS.presence)
    assert timing.is_idle(DURATIONS, "room", 5, 6 + DURATIONS.presence)
    assert not timing.is_idle(DURATIONS, "user", 5, 5 + DURATIONS.idle_after)
    assert timing.is_idle(DURATIONS, "user", 5, 6 + DURATIONS.idle_after)
    second = DURATIONS._replace(idle_after=1)
    assert timing.is_idle(second, "user", 5, 7)


@pytest.mark.parametrize(
    ("failures", "draw", "seconds"),
    [
        (0, 0.5, 60),
        (1, 0.0, 30),
        (1, 0.5, 60),
        (2, 0.5, 120),
        (6, 0.5, 3600),
        (7, 0.5, 7200),
        (8, 0.5, 14_400),
        (9, 0.5, 21_600),
        (9, 0.25, 16_200),
        (40, 0.0, 10_800),
    ],
)
def test_backoff_with_its_numbers(failures: int, draw: float, seconds: int) -> None:
    assert timing.backoff(DURATIONS, failures, draw) == seconds


def test_backoff_doubles_twenty_times_and_waits_a_second_at_least() -> None:
    endless = DURATIONS._replace(backoff=(1,), backoff_cap=2**40)
    assert timing.backoff(endless, 20, 0.5) == 2**19
    assert timing.backoff(endless, 21, 0.5) == 2**20
    assert timing.backoff(endless, 90, 0.5) == 2**20
    assert timing.backoff(endless, 1, 0.0) == 1


@pytest.mark.parametrize(
    ("left", "failures", "after"),
    [
        # Gone: nothing is left to save.
        (0, 1, 60),
        (-5, 1, 60),
        # In the emergency: a twentieth of what is left.
        (1, 1, 1),
        (39, 1, 1),
        (400, 1, 20),
        (1200, 1, 60),
        (388_799, 6, 3600),
        # Before it: at its first second at the latest.
        (388_800, 1, 1),
        (388_801, 1, 2),
        (388_859, 1, 60),
        (388_860, 1, 60),
        (400_000, 1, 60),
    ],
)
def test_a_retry_with_its_numbers(left: int, failures: int, after: int) -> None:
    now = END - left
    assert timing.retry_at(DURATIONS, END, failures, 0.5, now) == now + after


@pytest.mark.parametrize(
    ("left", "crossed"), [(101, 0), (100, 1), (99, 1), (10, 2), (1, 2), (0, 3), (-1, 3)]
)
def test_a_rung_is_crossed_in_its_second(left: int, crossed: int) -> None:
    assert timing.rungs_crossed((100, 10), END, END - left) == crossed
