"""Which second it is, at the edges: what is just within a tolerance, and just for as long."""

from __future__ import annotations

import pytest

from sigmgr.model.reference import APART, ClockReading, Reference, Rules, duration_text

START = 2_000_000_000.0
#: As the documents say: a tolerance of 5 s, and 60 s until what stands is believed.
SHARED = Rules()
ALONE = Rules(shared=False)
A_BIT = 0.125


def at(monotonic: float, wall: float = 0.0) -> ClockReading:
    """``wall``: by how much the machine's clock is wrong."""
    return ClockReading(START + monotonic + wall, monotonic)


def begun(rules: Rules = SHARED) -> Reference:
    """Heard of the database at 0, and all agree."""
    state = Reference.start(rules, at(0.0))
    return state.observe(START, at(0.0))


def heard(state: Reference, monotonic: float, wall: float, database: float) -> Reference:
    return state.observe(START + monotonic + database, at(monotonic, wall))


@pytest.mark.parametrize(("by", "jumps"), [(1.0, 0), (-1.0, 0), (1 + A_BIT, 1), (-1 - A_BIT, 1)])
def test_a_clock_that_moves_by_more_than_a_second_has_jumped(by: float, jumps: int) -> None:
    state = begun().read(at(10.0, by))
    assert state.jumps == jumps
    assert state.read(at(10.25, by)).jumps == jumps, "it is counted once"


@pytest.mark.parametrize(("by", "used"), [(5.0, True), (-5.0, True), (5 + A_BIT, False)])
def test_the_wall_clock_is_used_within_the_tolerance(by: float, used: bool) -> None:
    state = begun().read(at(10.0, by))
    assert state.ordinary is used
    assert state.line == START + (by if used else 0.0)
    assert state.apart == by


def test_two_processes_that_sign_are_at_most_so_far_apart() -> None:
    """Revocations of all users and claims of clients allow for as much."""
    ahead, behind = begun().read(at(10.0, 5.0)), begun().read(at(10.0, -5.0))
    assert ahead.ordinary
    assert behind.ordinary
    assert ahead.line - behind.line == APART


@pytest.mark.parametrize(("by", "used"), [(4.5, True), (-4.5, True), (4.625, False)])
def test_it_is_used_again_a_little_within_it(by: float, used: bool) -> None:
    state = begun().read(at(10.0, 20.0)).read(at(11.0, by))
    assert state.ordinary is used


@pytest.mark.parametrize(("by", "doubted"), [(5.0, False), (-5.0, False), (5 + A_BIT, True)])
def test_a_database_is_doubted_beyond_the_tolerance(by: float, doubted: bool) -> None:
    state = heard(begun(), 10.0, 0.0, by)
    assert (state.doubt is not None) is doubted
    assert state.line == START
    assert state.ordinary is not doubted


@pytest.mark.parametrize(("seconds", "believed"), [(60.0 - A_BIT, False), (60.0, True)])
def test_a_database_that_stands_elsewhere_is_believed_after_accept(
    seconds: float, believed: bool
) -> None:
    state = heard(begun(), 10.0, 0.0, 100.0)
    state = heard(state, 10.0 + seconds, 0.0, 100.0)
    assert state.trusted == START + (100.0 if believed else 0.0)
    assert (state.doubt is None) is believed


@pytest.mark.parametrize(("moved", "believed"), [(5.0, True), (5 + A_BIT, False)])
def test_a_database_that_moves_on_begins_to_stand_anew(moved: float, believed: bool) -> None:
    state = heard(begun(), 10.0, 0.0, 100.0)
    state = heard(state, 40.0, 0.0, 100.0 + moved)
    state = heard(state, 70.0, 0.0, 100.0 + moved)
    assert (state.doubt is None) is believed


@pytest.mark.parametrize(
    ("stood", "away", "believed"),
    [(60.0, 0.0, True), (60.0 - A_BIT, 0.0, False), (60.0, 5.0, True), (60.0, 5 + A_BIT, False)],
)
def test_a_database_that_comes_to_a_wall_clock_which_stands_is_believed_at_once(
    stood: float, away: float, believed: bool
) -> None:
    state = begun().read(at(10.0, 100.0))
    state = heard(state, 10.0 + stood, 100.0, 100.0 + away)
    assert (state.doubt is None) is believed
    assert (state.trusted == START + 100.0 + away) is believed


def test_a_clock_without_a_database_vouches_for_nothing_and_is_believed_after_accept() -> None:
    state = begun(ALONE).read(at(10.0, 100.0))
    assert not state.ordinary
    assert state.apart == 100.0
    assert not state.read(at(70.0 - A_BIT, 100.0)).ordinary
    state = state.read(at(70.0, 100.0))
    assert state.ordinary
    assert state.line == START + 100.0
    assert state.apart == 0.0


@pytest.mark.parametrize(("by", "used"), [(1.0, True), (1 + A_BIT, False)])
def test_a_clock_without_a_database_may_move_by_a_second(by: float, used: bool) -> None:
    assert begun(ALONE).read(at(10.0, by)).ordinary is used


def test_a_clock_without_a_database_hears_none() -> None:
    assert heard(begun(ALONE), 10.0, 0.0, 500.0).line == START


@pytest.mark.parametrize(("took", "counts"), [(5.0, True), (5 + A_BIT, False)])
def test_an_answer_counts_that_took_no_longer_than_the_tolerance(took: float, counts: bool) -> None:
    state = begun().observe(START + 110.0, at(10.0), took)
    assert (state.doubt is not None) is counts


def test_the_first_answer_counts_however_long_it_took() -> None:
    state = Reference.start(SHARED, at(0.0)).observe(START + 100.0, at(0.0), 30.0)
    assert state.trusted == START + 100.0
    assert not state.ordinary


@pytest.mark.parametrize(
    ("database", "took", "offset"),
    [(-3.0, 2.0, -1.0), (-3.0, 4.0, 0.0), (3.0, 2.0, 3.0), (0.0, 2.0, 0.0)],
)
def test_of_the_seconds_that_an_answer_may_mean_the_nearest_counts(
    database: float, took: float, offset: float
) -> None:
    state = begun().observe(START + 10.0 + database, at(10.0), took)
    assert state.trusted == START + offset


def test_what_holds_signing_is_told_in_words() -> None:
    assert begun().why() == ""
    assert begun().read(at(10.0, 100.0)).why() == (
        "this machine's clock is 1 min 40 s ahead of the database's"
    )
    assert begun().read(at(10.0, -7.0)).why() == "this machine's clock is 7 s behind the database's"
    assert heard(begun(), 10.0, 0.0, 100.0).why() == (
        "the database's clock has jumped 1 min 40 s ahead of where it stood;"
        " it is believed after 60 s"
    )
    assert heard(begun(), 10.0, -105.0, -100.0).why() == (
        "this machine's clock and the database's have jumped 1 min 40 s behind where they stood;"
        " they are believed after 60 s"
    )
    assert heard(begun(), 10.0, -105.125, -100.0).why().startswith("the database's clock")
    assert begun(ALONE).read(at(10.0, 7.0)).why() == (
        "this machine's clock has jumped 7 s ahead of where it stood; it is believed after 60 s"
    )


def test_how_far_the_clocks_are_apart_is_said_of_the_databases_last_reading() -> None:
    assert heard(begun(), 10.0, 20.0, 100.0).apart == -80.0
    assert heard(begun(), 10.0, 3.0, 1.0).apart == 2.0


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0 s behind"), (0.4, "0 s ahead of"), (0.6, "1 s ahead of"), (59.0, "59 s ahead of"),
        (60.0, "1 min ahead of"), (61.0, "1 min 1 s ahead of"), (3599.0, "59 min 59 s ahead of"),
        (3600.0, "1 h ahead of"), (3661.0, "1 h 1 min ahead of"), (-86399.0, "23 h 59 min behind"),
        (-86400.0, "1 d behind"), (-90000.0, "1 d 1 h behind"), (86460.0, "1 d 1 min ahead of"),
    ],
)  # fmt: skip
def test_a_difference_has_its_two_largest_units(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text
