"""The clock of a process: cheap, followed closely, and reported when it jumps."""

from __future__ import annotations

import itertools

import pytest
from structlog.testing import capture_logs

from sigmgr.model.reference import Rules
from sigmgr.telemetry import REGISTRY
from sigmgr.wiring.clock import monotonic_seconds, wall_seconds
from sigmgr.wiring.reference_clock import ReferenceClock

NOW = 2_000_000_000.0


class Machine:
    """A machine's two clocks, moved by hand."""

    def __init__(self) -> None:
        self.monotonic = 5000.0
        self.ahead = 0.0

    @property
    def truth(self) -> float:
        return NOW + self.monotonic

    def read(self) -> float:
        return self.truth + self.ahead

    def clock(self, *, shared: bool = True) -> ReferenceClock:
        made = ReferenceClock(
            Rules(shared=shared), wall=self.read, monotonic=lambda: self.monotonic
        )
        made.observe(self.truth)
        return made


@pytest.fixture
def machine() -> Machine:
    return Machine()


def counted(name: str) -> float:
    return REGISTRY.get_sample_value(name) or 0.0


def test_it_is_this_machines_second_while_clocks_agree(machine: Machine) -> None:
    clock = machine.clock()
    for _ in range(100):
        machine.monotonic += 0.3
        machine.ahead += 0.01
        assert clock() == int(machine.read())
        assert clock.ordinary()
    assert clock.turns == 0
    assert clock.health() == "ok"


def test_no_caller_sees_a_clock_that_jumped(machine: Machine) -> None:
    """Not even the first one after it, whoever looked last."""
    clock = machine.clock()
    machine.monotonic += 0.01
    machine.ahead = 86400.0
    assert clock() == int(machine.truth)
    assert not clock.ordinary()
    machine.ahead = 0.0
    assert clock() == int(machine.truth)
    assert clock.ordinary()


def test_a_jump_is_counted_logged_and_reported_once(machine: Machine) -> None:
    clock = machine.clock()
    jumps, turns, reported = counted("sigmgr_clock_jumps_total"), clock.turns, []
    clock.on_jump(lambda: reported.append("jump"))
    clock.on_new_date(lambda: reported.append("date"))
    machine.ahead = -60.0
    with capture_logs() as lines:
        for _ in range(3):
            machine.monotonic += 0.3
            clock.glance()
    assert [(line["action"], line["seconds"]) for line in lines] == [("clock-jumped", -60.0)]
    assert counted("sigmgr_clock_jumps_total") == jumps + 1
    assert counted("sigmgr_clock_held") == 1
    assert clock.turns > turns
    assert reported == ["jump"], "the date went on"


def test_a_date_that_jumps_is_reason(machine: Machine) -> None:
    clock, reported = machine.clock(shared=False), []
    clock.on_new_date(lambda: reported.append(clock()))
    machine.ahead = 86400.0
    turns = clock.glance()
    for _ in range(59 * 4):
        machine.monotonic += 0.25
        clock.glance()
    assert (reported, clock.turns) == ([], turns)
    machine.monotonic += 2.0
    clock.glance()
    assert reported == [int(machine.read())]
    assert clock.turns > turns, "what was held is let go"
    assert clock() == int(machine.read())


def test_what_differs_is_reported_in_one_sentence_that_stays(machine: Machine) -> None:
    clock = machine.clock()
    machine.ahead = 60.0
    answer = set()
    for drift in itertools.chain([0.0] * 3, [0.6, -0.6] * 3):
        machine.monotonic += 1.0
        machine.ahead = 60.0 + drift
        clock.observe(machine.truth, 0.1)
        answer.add(clock.health())
    [sentence] = answer
    assert sentence == (
        "degraded: this machine's clock is 1 min ahead of the database's; only sigs near their"
        " expiry are signed"
    )
    machine.ahead = 3600.0
    clock.observe(machine.truth)
    assert "1 h ahead of the database's" in clock.health()
    machine.ahead = 0.0
    clock.observe(machine.truth)
    assert clock.health() == "ok"


@pytest.mark.parametrize(
    ("redis", "which"),
    [
        (60.0, "Redis agrees with this machine: the database's clock differs"),
        (0.0, "Redis agrees with the database: this machine's clock differs"),
        (999.0, ""),
    ],
)
def test_redis_reports_which_one_differs(machine: Machine, redis: float, which: str) -> None:
    machine.ahead = 60.0
    clock = machine.clock()
    clock.compare_with_redis(machine.truth + redis)
    assert (which in clock.health()) if which else ("Redis" not in clock.health())
    clock.compare_with_redis(None)
    assert "Redis" not in clock.health()
    assert not clock.ordinary(), "it decides nothing"


def test_a_process_that_stands_still_between_two_readings_saw_no_jump(machine: Machine) -> None:
    clock = machine.clock()
    stopped = False

    def stands_still() -> float:
        nonlocal stopped
        second = machine.read()
        if not stopped:
            stopped = True
            machine.monotonic += 30.0
        return second

    clock._wall = stands_still
    machine.monotonic += 0.3
    assert clock() == int(machine.truth)
    assert clock.turns == 0


def test_this_machines_clocks_are_real() -> None:
    clock = ReferenceClock(Rules(shared=False))
    assert abs(clock() - wall_seconds()) < 5
    monotonic = monotonic_seconds()
    assert monotonic() <= monotonic()
