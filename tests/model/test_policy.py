"""Policies: defaults of the contract, scaling by fraction, refusals."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sigmgr.model import errors
from sigmgr.model.limits import MAX_TTL, MIN_TTL
from sigmgr.model.policy import DAY, FULL_LIFE, HOUR, Policy


def test_a_full_life_has_the_durations_of_the_contract() -> None:
    durations = Policy().durations(FULL_LIFE)
    assert durations.warn_lag == 48 * HOUR
    assert durations.min_remaining == 24 * HOUR
    assert durations.emergency == int(4.5 * DAY)
    assert durations.idle_after == 30 * DAY
    assert durations.resend == (60, 300, 1800)
    assert durations.ladder == (7 * DAY, 3 * DAY, DAY, 6 * HOUR, HOUR)
    assert durations.splay == 300


@given(st.integers(MIN_TTL, MAX_TTL))
def test_durations_fit_into_the_life_they_are_for(ttl: int) -> None:
    durations = Policy().durations(ttl)
    assert 1 <= durations.min_remaining <= max(1, ttl // 10)
    assert 1 <= durations.emergency < ttl
    assert list(durations.ladder) == sorted(durations.ladder, reverse=True)
    assert all(0 < rung < ttl for rung in durations.ladder)
    assert all(
        step >= 1 for step in (*durations.backoff, *durations.resend, durations.mark_seen_every)
    )
    assert durations.mark_seen_every <= durations.presence


@pytest.mark.parametrize(
    "wrong",
    [
        {"renew_from": 0.8, "renew_to": 0.7},
        {"renew_to": 1.0},
        {"first_from": 0.0},
        {"emergency": 0.5},
        {"idle_after": -1},
        {"revoke_pause": 0},
        {"max_rooms": -1},
        {"max_holders": -1},
        {"new_holders_per_second": -0.5},
        {"new_holders_per_second": float("nan")},
        {"new_holders_per_second": float("inf")},
    ],
)
def test_policies_that_contradict_themselves_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(errors.BadSettings):
        Policy(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("ttl", [0, -1, 9, MAX_TTL + 1, True])
def test_lifetimes_outside_the_limits_are_refused(ttl: int) -> None:
    with pytest.raises(errors.BadTtl):
        Policy(ttl=ttl)
