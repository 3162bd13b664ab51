"""Which second it is: one clock that errs for a while moves nobody's date, and what agrees and
stands is believed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sigmgr.model.reference import JUMP, ClockReading, Reference, Rules, duration_text

START = 2_000_000_000.0
DAY = 86400.0
GLANCE = 0.25
LOOK = 1.0
TOLERANCE, ACCEPT = 5.0, 60.0
SHARED = Rules(TOLERANCE, ACCEPT, shared=True)
ALONE = Rules(TOLERANCE, ACCEPT, shared=False)

rules = st.sampled_from([SHARED, ALONE])


def says_apart(state: Reference, by: float) -> bool:
    """The way to the database and back is in the figure, and may round it up or down."""
    near = {duration_text(by + some) for some in (-0.02, 0.0, 0.02)}
    return state.why() in {f"this machine's clock is {one} the database's" for one in near}


far = st.one_of(st.floats(6, 300), st.floats(300, 100 * DAY)).flatmap(
    lambda size: st.sampled_from([size, -size])
)


class World:
    """Two clocks with errors that a test sets, read as a process reads them: the own one four
    times a second, the database's each second, with an answer that takes ``took``."""

    def __init__(self, rules: Rules, *, wall: float = 0.0, database: float = 0.0) -> None:
        self.monotonic = 1000.0
        self.wall = wall
        self.database = database
        self.took = 0.01
        self.state = Reference.start(rules, self.reading)
        self.look()

    @property
    def truth(self) -> float:
        return START + self.monotonic

    @property
    def reading(self) -> ClockReading:
        return ClockReading(self.truth + self.wall, self.monotonic)

    @property
    def error(self) -> float:
        """How wrong the date is."""
        return self.state.line - START

    def look(self) -> None:
        # The database read its clock somewhere on the way; half of it is as good as any.
        answer = self.truth + self.database - self.took / 2
        self.state = self.state.observe(answer, self.reading, self.took)

    def run(self, seconds: float) -> Iterator[Reference]:
        """Time passes; each state on the way."""
        for n in range(round(seconds / GLANCE)):
            self.monotonic += GLANCE
            self.state = self.state.read(self.reading)
            if n % round(LOOK / GLANCE) == 0:
                self.look()
            yield self.state

    def pass_by(self, seconds: float) -> Reference:
        for _ in self.run(seconds):
            pass
        return self.state


class Trip(NamedTuple):
    """One clock errs by ``by`` for ``seconds`` and comes back for ``rest``."""

    whose: str
    by: float
    seconds: float
    rest: float


trips = st.builds(
    Trip,
    st.sampled_from(["wall", "database", "both"]),
    far,
    st.floats(0.25, ACCEPT - 3),
    st.floats(2, 100),
)


# -- one clock errs ------------------------------------------------------------------------


@given(rules, st.lists(trips, max_size=6), st.floats(0.0, 0.4))
def test_a_clock_that_errs_for_less_than_accept_moves_no_date(
    given_rules: Rules, journey: list[Trip], took: float
) -> None:
    world = World(given_rules)
    world.took = took
    for trip in journey:
        world.wall = trip.by if trip.whose in {"wall", "both"} else 0.0
        world.database = trip.by if trip.whose in {"database", "both"} else 0.0
        for _ in world.run(trip.seconds):
            assert abs(world.error) <= JUMP + took
        world.wall = world.database = 0.0
        for _ in world.run(trip.rest):
            assert abs(world.error) <= JUMP + took
    # And when they agree again it goes on at once: a glance, a look.
    world.pass_by(1.25)
    assert world.state.ordinary
    assert world.error == 0


@given(st.lists(trips, max_size=6), st.floats(-300, 300), st.floats(-300, 300))
def test_nothing_ordinary_is_signed_by_a_clock_that_is_not_the_databases(
    journey: list[Trip], wall: float, database: float
) -> None:
    world = World(SHARED, wall=wall, database=database)
    for trip in journey:
        world.wall += trip.by if trip.whose in {"wall", "both"} else 0.0
        world.database += trip.by if trip.whose in {"database", "both"} else 0.0
        for state in world.run(trip.seconds):
            world.look()
            if abs(world.wall - world.database) > TOLERANCE + world.took:
                assert not world.state.ordinary
                assert world.state.why()
            assert state.ordinary == (not state.why())


# -- what stands is believed ---------------------------------------------------------------


@given(rules, st.lists(trips, max_size=4), far)
def test_clocks_that_agree_and_stand_are_believed(
    given_rules: Rules, journey: list[Trip], there: float
) -> None:
    world = World(given_rules)
    for trip in journey:
        world.wall += trip.by
        world.database += trip.by if trip.whose == "both" else 0.0
        world.pass_by(trip.seconds)
    world.wall = world.database = there
    world.pass_by(ACCEPT + 1.5)
    assert world.state.ordinary
    assert world.error == pytest.approx(there)


@given(far)
def test_a_database_that_stands_elsewhere_is_followed_after_a_while(by: float) -> None:
    world = World(SHARED)
    world.pass_by(10)
    world.database = by
    for state in world.run(ACCEPT - 1):
        assert not state.ordinary
        assert "the database's clock has jumped" in state.why()
        assert world.error == 0
    state = world.pass_by(3)
    assert not state.ordinary
    assert world.error == pytest.approx(by, abs=0.02)
    assert says_apart(state, -by)


@given(far)
def test_a_process_begins_with_the_databases_second(by: float) -> None:
    """As a command does, which sees the clocks once."""
    world = World(SHARED, wall=by)
    assert not world.state.ordinary
    assert world.error == pytest.approx(0, abs=0.02)
    assert says_apart(world.state, by)


def test_a_machine_that_was_wrong_from_the_start_goes_on_when_it_is_set_right() -> None:
    world = World(SHARED, wall=-DAY)
    world.pass_by(20)
    world.wall = 0.0
    world.monotonic += GLANCE
    assert world.state.read(world.reading).ordinary  # no look was needed


def test_a_database_that_was_wrong_from_the_start_goes_on_when_it_is_set_right() -> None:
    world = World(SHARED, database=DAY)
    world.pass_by(20)
    assert not world.state.ordinary
    world.database = 0.0
    assert world.pass_by(1.25).ordinary
    assert world.error == 0


def test_a_machine_whose_both_clocks_jump_waits_as_one_without_a_database() -> None:
    world = World(SHARED)
    world.wall = world.database = 70 * DAY
    assert "they are believed after 60 s" in world.pass_by(1).why()
    assert world.error == 0
    assert world.pass_by(ACCEPT + 1).ordinary
    assert world.error == 70 * DAY


# -- what is no jump -----------------------------------------------------------------------


@given(rules, st.lists(st.floats(-0.4, 0.4), max_size=200), st.floats(0.0, 0.4))
def test_a_clock_that_drifts_with_the_database_is_followed(
    given_rules: Rules, drifts: list[float], took: float
) -> None:
    world = World(given_rules)
    world.took = took
    for drift in drifts:
        world.wall += drift
        world.database = world.wall - 4.0 * drift
        for state in world.run(1.0):
            assert state.ordinary
            assert world.error == pytest.approx(world.wall, abs=1e-3)
    assert world.state.jumps == 0


@given(st.floats(1.1, 4.9))
def test_a_small_jump_is_counted_and_followed_where_the_database_allows_it(by: float) -> None:
    world = World(SHARED)
    world.wall = by
    state = world.pass_by(1)
    assert state.ordinary
    assert state.jumps == 1
    assert world.error == pytest.approx(by)


def test_a_clock_at_the_edge_does_not_come_and_go() -> None:
    world = World(SHARED, wall=TOLERANCE + 0.1)
    world.pass_by(1)
    world.wall = TOLERANCE - 0.1
    assert not world.pass_by(2).ordinary
    world.wall = TOLERANCE * 0.85
    assert world.pass_by(2).ordinary


def test_an_answer_that_took_longer_than_the_tolerance_counts_for_nothing() -> None:
    world = World(SHARED)
    world.took = TOLERANCE + 1
    world.database = DAY
    world.look()
    assert world.state.ordinary


def test_an_answer_that_was_slow_is_no_difference() -> None:
    world = World(SHARED, wall=4.9)
    world.took = 4.0
    assert world.pass_by(3).ordinary


def test_before_the_database_was_heard_nothing_is_apart() -> None:
    state = Reference.start(SHARED, ClockReading(START, 1000.0))
    assert (state.apart, state.why(), state.ordinary) == (0.0, "", True)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (60.2, "1 min ahead of"),
        (-59.0, "59 s behind"),
        (70 * DAY + 3600, "70 d 1 h ahead of"),
        (-90061.0, "1 d 1 h behind"),
    ],
)
def test_a_difference_reads_well(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text
