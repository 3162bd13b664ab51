"""Token buckets: never more than the burst and the rate allow, and bounded memory."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sigmgr.model.bucket import Buckets

steps = st.lists(st.tuples(st.floats(0, 5), st.integers(1, 9)), max_size=60)


@given(steps, st.integers(1, 20), st.floats(0.1, 20))
def test_no_stretch_of_time_gives_more_than_the_burst_and_its_share(steps, burst, rate):
    buckets = Buckets(burst=burst, rate=rate)
    now, taken = 0.0, []
    for wait, most in steps:
        now += wait
        got = buckets.take("a", now, most)
        assert 0 <= got <= most
        taken.append((now, got))
    for i, (start, _) in enumerate(taken):
        for j in range(i, len(taken)):
            total = sum(got for _, got in taken[i : j + 1])
            assert total <= burst + rate * (taken[j][0] - start) + 1e-6


@given(
    st.lists(st.tuples(st.floats(0, 1), st.floats(0, 9), st.integers(1, 99)), max_size=60),
    st.integers(1, 20),
    st.floats(0.1, 20),
)
def test_who_read_the_clock_a_little_earlier_gets_no_second_twice(steps, burst, rate):
    buckets = Buckets(burst=burst, rate=rate)
    now = total = 0.0
    for wait, late, most in steps:
        now += wait
        total += buckets.take("a", max(0.0, now - late), most)
        assert total <= burst + rate * now + 1e-6


@given(steps, st.integers(1, 20), st.floats(0.1, 20))
def test_what_is_left_is_given_and_the_wait_is_reported(steps, burst, rate):
    buckets = Buckets(burst=burst, rate=rate)
    now = 0.0
    for wait, most in steps:
        now += wait
        before = buckets.level("a", now)
        assert buckets.take("a", now, most) == min(most, int(before))
        left = buckets.wait("a", now)
        if left:
            assert buckets.take("a", now) == 0
            assert buckets.level("a", now + left) == pytest.approx(1)
        else:
            assert buckets.level("a", now) >= 1


def test_keys_are_apart_and_a_clock_that_is_set_back_gives_nothing():
    buckets = Buckets(burst=2, rate=1)
    assert buckets.take("a", 1000, 5) == 2
    assert buckets.take("b", 1000) == 1
    assert buckets.take("a", 50) == 0
    assert buckets.take("a", 51.5) == 1


def test_a_minute_late_is_a_reading_and_more_is_a_clock_that_was_set():
    buckets = Buckets(burst=1, rate=1)
    assert buckets.take("a", 1000) == 1
    assert buckets.take("a", 940) == 0
    assert buckets.level("a", 1000) == 0
    assert buckets.take("a", 939.9) == 0
    assert buckets.take("a", 941) == 1


def test_without_a_word_ten_thousand_keys_are_kept():
    buckets = Buckets(burst=1, rate=1)
    for key in range(10_001):
        buckets.take(key, 0)
    assert len(buckets) == 10_000
    assert buckets.level(0, 0) == 1


@given(st.lists(st.integers(0, 50), max_size=200), st.integers(1, 10))
def test_memory_is_bounded_and_the_busy_are_remembered(keys, most):
    buckets = Buckets(burst=1, rate=1e-9, keys=most)
    for key in keys:
        buckets.take(key, 0)
        assert len(buckets) <= most
        assert buckets.take(key, 0) == 0
