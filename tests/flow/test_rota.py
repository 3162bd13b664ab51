"""Whose turn it is: equal shares, nobody twice before all others, nobody for ever."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sigmgr.flow.rota import Rota
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
def test_any_number_of_lanes_work_off_what_the_rota_allows(work, limit, lanes, turns, data):
    left = dict(enumerate(work))
    rota = Rota(map(app, left), limit=limit, turns=turns)
    held: list[tuple[App, int]] = []
    taken: list[int] = []
    finished: set[int] = set()
    while True:
        while len(held) < lanes and (turn := rota.take()):
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
        rota.back(one, more=done == share)
        if done < share:
            finished.add(one.sdkappid)
    assert set(taken) == set(left)
    for sdkappid, rest in left.items():
        assert not rest or taken.count(sdkappid) == turns
        assert taken.count(sdkappid) <= turns


def test_a_share_is_that_of_all_who_have_work():
    rota = Rota([app(1), app(2), app(3)], limit=90, turns=9)
    first, second = rota.take(), rota.take()
    assert (first, second) == ((app(1), 30), (app(2), 30))
    rota.back(app(1), more=True)
    rota.back(app(2), more=False)
    assert rota.take() == (app(3), 45), "who waits longest, and two are left"
    rota.back(app(3), more=False)
    assert rota.take() == (app(1), 90)
    rota.back(app(1), more=False)
    assert rota.take() is None


def test_who_has_had_all_turns_still_counts():
    """Else the last in line, the least urgent, would get most."""
    rota = Rota([app(1), app(2), app(3)], limit=90, turns=2)
    shares = []
    while turn := rota.take():
        shares.append((turn[0].sdkappid, turn[1]))
        rota.back(turn[0], more=True)
    assert shares == [(1, 30), (2, 30), (3, 30)] * 2


def test_the_limit_is_never_less_than_one():
    rota = Rota([app(n) for n in range(9)], limit=3, turns=1)
    assert rota.take() == (app(0), 1)
