"""The scenario of many processes and many faults; see :mod:`tests.process.scenario`."""

from __future__ import annotations

import pytest

from tests.process.scenario import Plan, long_plan, run, short_plan

#: Beside the run itself: starting, issuing, draining and stopping.
AROUND = 240


@pytest.mark.slow
@pytest.mark.timeout(600 + AROUND)
@pytest.mark.parametrize("plan", [short_plan(), long_plan()], ids=["one-minute", "ten-minutes"])
@pytest.mark.usefixtures("postgres_server", "redis_server")  # skips or fails without them
def test_nobody_is_kicked_whatever_breaks(plan: Plan, tmp_path):
    findings = run(plan, keep=tmp_path)
    assert findings.kills >= plan.seconds // plan.kill_every - 1
    assert findings.faults() == []
