"""``sigmgr simulate``: what it prints of a run."""

from __future__ import annotations

import re

import pytest

from sigmgr.cli import simulate
from sigmgr.sim.invariants import Violation
from sigmgr.sim.virtual_time import Report


def test_a_short_run_piped_is_a_table_and_nothing_else(shell):
    done = shell("simulate", "--days", 10, "--holders", 40, "--seed", 3)
    names = [re.split(r"\s{2,}", line)[0] for line in done.out.splitlines()]
    assert names == [
        "seed", "virtual time", "users", "sigs made", "pushed", "acks", "faults",
        "failed renewals", "kicked", "rules broken",
    ]  # fmt: skip
    assert all(len(line) <= 80 for line in done.out.splitlines())
    assert len(done.err.splitlines()) == 1  # the verdict; no bar, no empty line
    assert done.err.strip()


@pytest.mark.parametrize(
    ("changes", "answer", "noted"),
    [
        (
            {},
            ["failed renewals  0\n", "3 of them crashes; Redis wiped 2 times"],
            "Every rule held.",
        ),
        ({"failures": 7}, ["failed renewals  7, each tried again later\n"], "Every rule held."),
        ({"crashes": 1, "wipes": 1}, ["90, 1 a crash; Redis wiped once\n"], "Every rule held."),
        ({"delivered": 0}, ["pushed           0 "], "Nothing was pushed"),
        (
            {"violations": [Violation(5, 2_000_000_000, "handed a sig with 7 s left")]},
            ["  rule 5 at 2033-05-18T03:33:20Z: handed a sig with 7 s left\n"],
            "sigmgr simulate --seed 5 --days 60 --holders 300",
        ),
    ],
)
def test_the_summary_reports_what_its_numbers_are(capsys, changes, answer, noted):
    run = {"issued": 460, "delivered": 125, "acked": 371, "faults": 90, "crashes": 3, "wipes": 2}
    simulate._summary(Report(seed=5, days=60, holders=300, **{**run, **changes}), 10.4)
    shown = capsys.readouterr()
    for words in answer:
        assert words in shown.out
    assert noted in shown.err
