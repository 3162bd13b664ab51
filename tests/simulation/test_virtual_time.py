"""Virtual months: 400 days of the real flows, store and cache under seeded faults.

Two seeds in the normal run, one for each core, more users in the slow group. A failure names the
seed, and ``sigmgr simulate --seed N`` replays it.
"""

from __future__ import annotations

import pytest

from sigmgr.sim.virtual_time import Report
from sigmgr.wiring.simulation import open_simulation


async def run(seed: int, *, days: int, holders: int) -> Report:
    async with open_simulation(seed=seed, days=days, holders=holders) as simulation:
        report = await simulation.run()
    assert report.violations == [], (
        f"replay: sigmgr simulate --seed {seed} --days {days} --holders {holders}"
    )
    assert report.kicked == 0
    # Dormant users who come back in an outage are few; more would be an excuse too many.
    assert report.past_help <= max(2, holders // 100)
    return report


@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", [20260, 20261])
async def test_four_hundred_days_break_no_rule(seed: int) -> None:
    report = await run(seed, days=400, holders=250)
    assert report.issued > 250 * 3
    assert report.delivered > 250
    assert report.faults > 1000
    assert report.crashes > 10
    assert report.wipes > 0


async def test_the_same_seed_gives_the_same_run() -> None:
    first, second = [await run(5, days=30, holders=60) for _ in range(2)]
    assert first == second
    assert first.issued > 0


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", range(1, 7))
async def test_other_seeds_break_no_rule_either(seed: int) -> None:
    await run(seed, days=400, holders=1000 if seed == 1 else 400)
