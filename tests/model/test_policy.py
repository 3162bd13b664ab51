"""Policies: defaults of the contract, scaling by fraction, refusals."""

from __future__ import annotations

from dataclasses import asdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sigmgr.model import errors
from sigmgr.model.policy import DAY, FULL_LIFE, HOUR, Durations, Policy, emergency_of
from sigmgr.model.ttl import MAX_TTL, MIN_TTL


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
        {"renew_from": 0.73},
        {"renew_from": 0.0},
        {"renew_to": 1.0},
        {"first_from": 0.0},
        {"first_from": 0.89},
        {"first_from": 0.9, "first_to": 0.8},
        {"first_to": 1.0},
        {"emergency": 0.0},
        {"emergency": 0.5},
        {"renew_from": 0.25, "renew_to": 0.5, "emergency": 0.5},
        {"renew_to": 0.75, "first_to": 0.625, "emergency": 0.25},
        {"first_from": 0.25, "first_to": 0.875, "emergency": 0.125},
        {"backoff": ()},
        {"backoff": (60, 0)},
        {"resend": ()},
        {"resend": (0, 60)},
        {"ladder": (DAY, 2 * DAY)},
        {"idle_after": -1},
        {"splay": -1},
        {"revoke_pause": 0},
        {"max_rooms": 10**12 + 1},
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


@pytest.mark.parametrize(
    "right",
    [
        {"renew_from": 0.729},
        {"first_from": 0.889},
        {"first_from": 0.25, "first_to": 0.875, "emergency": 0.124},
        {"backoff": (1,)},
        {"resend": (1,)},
        {"ladder": ()},
        {"ladder": (DAY, DAY)},
        {"idle_after": 0},
        {"splay": 0},
        {"revoke_pause": 1},
        {"room_ttl": MIN_TTL},
        {"max_rooms": 0},
        {"max_rooms": 10**12},
    ],
)
def test_a_policy_may_go_to_its_edges(right: dict[str, float]) -> None:
    policy = Policy(**right)  # type: ignore[arg-type]
    assert {name: getattr(policy, name) for name in right} == right


def test_the_defaults_are_those_of_the_contract() -> None:
    assert asdict(Policy()) == {
        "ttl": 7_776_000,
        "room_ttl": 21_600,
        "renew_from": 0.60,
        "renew_to": 0.73,
        "first_from": 0.22,
        "first_to": 0.89,
        "warn_lag": 172_800,
        "min_remaining": 86_400,
        "emergency": 0.05,
        "idle_after": 2_592_000,
        "backoff": (60, 120, 300, 600, 1200, 3600),
        "backoff_cap": 21_600,
        "resend": (60, 300, 1800),
        "ladder": (604_800, 259_200, 86_400, 21_600, 3600),
        "splay": 300,
        "revoke_pause": 2,
        "max_rooms": 50,
        "max_holders": 0,
        "new_holders_per_second": 0.0,
    }


@pytest.mark.parametrize(
    ("ttl", "expected"),
    [
        (
            7_776_000,
            Durations(172_800, 86_400, 388_800, 2_592_000, 648_000, 86_400,
                  (60, 120, 300, 600, 1200, 3600), 21_600, (60, 300, 1800),
                  (604_800, 259_200, 86_400, 21_600, 3600), 300),
        ),
        # Twice as long: what belongs to a full life stays, the shares of a life grow.
        (
            15_552_000,
            Durations(172_800, 86_400, 777_600, 2_592_000, 1_296_000, 86_400,
                  (60, 120, 300, 600, 1200, 3600), 21_600, (60, 300, 1800),
                  (604_800, 259_200, 86_400, 21_600, 3600), 300),
        ),
        # A hundredth of a full life, and a thousandth of it.
        (
            77_760,
            Durations(1728, 7776, 3888, 25_920, 6480, 2160,
                  (1, 1, 3, 6, 12, 36), 216, (1, 3, 18), (6048, 2592, 864, 216, 36), 3),
        ),
        (
            7776,
            Durations(172, 777, 388, 2592, 648, 216,
                  (1, 1, 1, 1, 1, 3), 21, (1, 1, 1), (604, 259, 86, 21, 3), 0),
        ),
        # The shortest: nothing is below a second, and warnings that would be are left out.
        (
            10,
            Durations(1, 1, 2, 3, 2, 1, (1, 1, 1, 1, 1, 1), 1, (1, 1, 1), (), 0),
        ),
    ],
)  # fmt: skip
def test_spans_scale_with_the_life(ttl: int, expected: Durations) -> None:
    assert Policy().durations(ttl) == expected


def test_a_rung_of_a_second_is_the_shortest() -> None:
    assert Policy(ladder=(DAY,)).durations(90).ladder == (1,)
    assert Policy(ladder=(DAY - 1,)).durations(90).ladder == ()


def test_without_dormancy_a_stream_is_touched_by_its_life() -> None:
    never = Policy(idle_after=0)
    assert never.durations(FULL_LIFE).idle_after == 0
    assert never.durations(MAX_TTL).mark_seen_every == DAY
    assert Policy(idle_after=DAY).durations(FULL_LIFE).mark_seen_every == 6 * HOUR


@pytest.mark.parametrize(
    ("ttl", "share", "seconds"),
    [(100, 0.05, 5), (60, 0.05, 3), (59, 0.05, 3), (10, 0.05, 2), (12, 0.9, 3), (100, 0.3, 25)],
)
def test_an_emergency_is_a_share_between_seconds_and_a_quarter(
    ttl: int, share: float, seconds: int
) -> None:
    assert emergency_of(ttl, share) == seconds


def test_rooms_live_shorter() -> None:
    policy = Policy(ttl=DAY, room_ttl=HOUR)
    kinds = ("user", "admin", "room")
    assert [policy.ttl_of(kind) for kind in kinds] == [DAY, DAY, HOUR]


def test_a_policy_remembers_the_spans_of_a_thousand_lives() -> None:
    policy = Policy()
    first = policy.durations(10)
    for ttl in range(11, 1010):
        policy.durations(ttl)
    assert policy.durations(10) is first
    policy.durations(1010)
    again = policy.durations(10)
    assert again is not first
    assert again == first


@pytest.mark.parametrize("ttl", [0, -1, 9, MAX_TTL + 1, True])
def test_lifetimes_outside_the_limits_are_refused(ttl: int) -> None:
    with pytest.raises(errors.BadTtl):
        Policy(ttl=ttl)
    with pytest.raises(errors.BadTtl):
        Policy(room_ttl=ttl)
