"""Whose turn it is: equal shares, nobody twice before all others, nobody for ever."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sigmgr.flow.round_robin import RoundRobin
from sigmgr.model.app import App
from sigmgr.model.policy import Policy

POLICY = Policy()


def app(sdkappid: int) -> App:
    return App(sdkappid, "", POLICY)


@given(
    work=st.lists(st.integers(0, 400), min_size=1, max_size=9),
    limit=st.integers(1, 120),
    lanes=st.integers(1, 4),
    turns=st.integers(1, 8),
    data=st.data(),
)
def test_any_number_of_lanes_work_off_what_is_allowed(work, limit, lanes, turns, data):
    left = dict(enumerate(work))
    robin = RoundRobin(map(app, left), limit=limit, turns=turns)
    held: list[tuple[App, int]] = []
    taken: list[int] = []
    finished: set[int] = set()
    while True:
        while len(held) < lanes and (turn := robin.take()):
            busy = {one.sdkappid for one, _ in held}
            assert turn[0].sdkappid not in busy, "an app has one turn at a time"
            assert turn[1] == max(1, limit // len(left.keys() - finished)), "an equal share"
            taken.append(turn[0].sdkappid)
            held.append(turn)
        if not held:
            break
        one, share = held.pop(data.draw(st.integers(0, len(held) - 1)))
        done = min(share, left[one.sdkappid])
        left[one.sdkappid] -= done
        robin.give_back(one, more=done == share)
        if done < share:
            finished.add(one.sdkappid)
    assert set(taken) == set(left)
    for sdkappid, rest in left.items():
        assert not rest or taken.count(sdkappid) == turns
        assert taken.count(sdkappid) <= turns


def test_a_share_is_that_of_all_who_have_work():
    robin = RoundRobin([app(1), app(2), app(3)], limit=90, turns=9)
    first, second = robin.take(), robin.take()
    assert (first, second) == ((app(1), 30), (app(2), 30))
    robin.give_back(app(1), more=True)
    robin.give_back(app(2), more=False)
    assert robin.take() == (app(3), 45), "who waits longest, and two are left"
    robin.give_back(app(3), more=False)
    assert robin.take() == (app(1), 90)
    robin.give_back(app(1), more=False)
    assert robin.take() is None


def test_who_has_had_all_turns_still_counts():
    """Else the last in line, the least urgent, would get most."""
    robin = RoundRobin([app(1), app(2), app(3)], limit=90, turns=2)
    shares = []
    while turn := robin.take():
        shares.append((turn[0].sdkappid, turn[1]))
        robin.give_back(turn[0], more=True)
    assert shares == [(1, 30), (2, 30), (3, 30)] * 2


def test_the_limit_is_never_less_than_one():
    robin = RoundRobin([app(n) for n in range(9)], limit=3, turns=1)
    assert robin.take() == (app(0), 1)
