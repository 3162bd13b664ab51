"""Policies: defaults of the contract, scaling by fraction, refusals."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sigmgr.model import errors
from sigmgr.model.limits import MAX_TTL, MIN_TTL
from sigmgr.model.policy import DAY, FULL_LIFE, HOUR, Policy


def test_a_full_life_has_the_spans_of_the_contract() -> None:
    spans = Policy().spans(FULL_LIFE)
    assert spans.warn_lag == 48 * HOUR
    assert spans.min_remaining == 24 * HOUR
    assert spans.emergency == int(4.5 * DAY)
    assert spans.idle_after == 30 * DAY
    assert spans.resend == (60, 300, 1800)
    assert spans.ladder == (7 * DAY, 3 * DAY, DAY, 6 * HOUR, HOUR)
    assert spans.splay == 300


@given(st.integers(MIN_TTL, MAX_TTL))
def test_spans_fit_into_the_life_they_are_for(ttl: int) -> None:
    spans = Policy().spans(ttl)
    assert 1 <= spans.min_remaining <= max(1, ttl // 10)
    assert 1 <= spans.emergency < ttl
    assert list(spans.ladder) == sorted(spans.ladder, reverse=True)
    assert all(0 < rung < ttl for rung in spans.ladder)
    assert all(step >= 1 for step in (*spans.backoff, *spans.resend, spans.touch_every))
    assert spans.touch_every <= spans.presence


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
