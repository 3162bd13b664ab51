"""The fault schedule of a simulation: what fails when, and whose kick could not be helped."""

from __future__ import annotations

import random

import pytest

from sigmgr.sim.fault_schedule import CALM_DAYS, FaultSchedule
from sigmgr.sim.faults import Faults
from sigmgr.sim.people import DAY

START, DAYS, STEP = 2_000_000_000, 400, DAY // 6
END = START + DAYS * DAY


def schedule(seed: int = 1) -> tuple[FaultSchedule, Faults]:
    faults = Faults(random.Random(0))
    return FaultSchedule(faults, random.Random(seed), START, END), faults


@pytest.mark.parametrize("seed", range(5))
def test_each_port_is_out_once_for_as_long_as_promised(seed: int) -> None:
    plan, faults = schedule(seed)
    out = {"signer": 0, "cache": 0, "store": 0}
    for now in range(START + STEP, END + 1, STEP):
        plan.step(now)
        for port in out:
            out[port] += port in faults.outages
        assert ("store" in faults.outages) == ({"outbox", "janitor"} <= faults.outages)
    assert out == {"signer": 36, "cache": 18, "store": 3}


def test_the_last_days_are_calm() -> None:
    plan, faults = schedule()
    skews = set()
    for now in range(START + STEP, END + 1, STEP):
        plan.step(now)
        calm = now > END - CALM_DAYS * DAY
        assert (faults.rate == faults.crash_rate == 0.0) == calm
        assert not (calm and (plan.skew or faults.outages))
        skews.add(plan.skew)
    assert len(skews) > 50
    assert max(map(abs, skews)) <= 900


@pytest.mark.parametrize("port", ["signer", "store", "cache"])
def test_only_who_came_while_nothing_could_be_made_is_past_help(port: str) -> None:
    plan, faults = schedule()
    now, steps = START, []
    while len(steps) < 3:
        plan.step(now := now + STEP)
        if port in faults.outages and len(faults.outages - {"outbox", "janitor"}) == 1:
            steps.append(now)
    first, second, third = steps
    helpless = port != "cache"
    assert plan.hopeless(first) == helpless
    assert plan.hopeless(second) == helpless
    assert not plan.hopeless(first - STEP)
    while port in faults.outages:
        plan.step(now := now + STEP)
    # In the first good step a renewal comes too late for what expired before it.
    assert plan.hopeless(third) == helpless
    plan.step(now + STEP)
    assert not plan.hopeless(third)
