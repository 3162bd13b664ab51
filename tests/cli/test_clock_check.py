"""The doctor's findings on clocks: which one differs, by how much, and what that stops."""

from __future__ import annotations

import pytest

from sigmgr.cli.clock_check import Clocks


def reported(database: float | None, redis: float | None) -> list[tuple[str, str]]:
    clocks = Clocks(tolerance=5.0)
    clocks.database, clocks.redis = database, redis
    findings = list(clocks.findings())
    assert all(one.advice for one in findings if one.verdict != "ok")
    return [(one.verdict, one.text) for one in findings]


def test_clocks_that_agree() -> None:
    assert reported(0.4, -1.9) == [
        ("ok", "the database's clock agrees with this machine's"),
        ("ok", "Redis's clock agrees with this machine's"),
    ]
    assert reported(None, None) == []


def test_a_difference_within_the_tolerance_is_worth_a_look() -> None:
    assert reported(-4.5, None) == [("warn", "the database's clock differs by -4.5 s")]


@pytest.mark.parametrize(
    ("redis", "which"),
    [
        (None, ""),
        (1.0, "; this machine and Redis agree; the database's clock is the one that differs"),
        (61.0, "; the database and Redis agree; this machine's clock is the one that differs"),
        (-300.0, ""),
    ],
)
def test_beyond_it_the_one_that_differs_is_named(redis: float | None, which: str) -> None:
    verdict, text = reported(60.0, redis)[0]
    assert verdict == "fail"
    assert text == f"the database's clock differs by +60.0 s: only what is urgent is signed{which}"


def test_only_redis_differs() -> None:
    assert reported(0.0, 90.0)[1] == ("fail", "Redis's clock differs by +90.0 s")
