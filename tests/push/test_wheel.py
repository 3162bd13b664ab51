"""The timer wheel: nothing early, nothing lost, whatever the wall clock does."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sigmgr.push.wheel import Wheel


class Item:
    def __init__(self) -> None:
        self.due = 0


def test_an_item_comes_in_its_second_and_only_once():
    wheel, item = Wheel(100), Item()
    wheel.put(item, 103)
    assert wheel.advance(102) == []
    assert wheel.advance(103) == [item]
    assert wheel.advance(110) == []
    assert item.due == 0


def test_moving_and_removing():
    wheel, a, b = Wheel(100), Item(), Item()
    wheel.put(a, 105)
    wheel.put(a, 102)
    wheel.put(b, 102)
    wheel.remove(b)
    wheel.remove(b)
    assert sum(map(len, wheel._slots.values())) == 1
    assert wheel.advance(200) == [a]


def test_a_past_deadline_comes_with_the_next_second():
    wheel, item = Wheel(100), Item()
    wheel.put(item, 7)
    assert wheel.advance(101) == [item]


def test_a_step_back_of_the_clock_stalls_nothing():
    wheel, item = Wheel(1000), Item()
    wheel.put(item, 1002)
    assert wheel.advance(700) == []
    assert wheel.advance(701) == []
    assert wheel.advance(702) == [item]


def test_a_leap_ahead_brings_all_in_between_in_order():
    wheel = Wheel(0)
    items = [Item() for _ in range(5)]
    for n, item in enumerate(items):
        wheel.put(item, 10 * (5 - n))
    assert wheel.advance(1_000_000) == items[::-1]


@given(st.lists(st.tuples(st.integers(-400, 400), st.integers(1, 50)), max_size=30))
def test_every_item_comes_no_earlier_than_asked_in_wheel_time(steps):
    wheel, clock, waiting = Wheel(10_000), 10_000, {}
    for step, delay in steps:
        item = Item()
        waiting[item] = wheel.now + delay
        wheel.put(item, wheel.now + delay)
        clock = max(1, clock + step)
        before = wheel.now
        due = wheel.advance(clock)
        assert wheel.now >= before
        assert set(due) == {i for i, at in waiting.items() if at <= wheel.now}
        for found in due:
            del waiting[found]
    assert sum(map(len, wheel._slots.values())) == len(waiting)
