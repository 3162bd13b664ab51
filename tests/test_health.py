"""What parts say of themselves: kept, told once, and silence is a failure."""

from __future__ import annotations

from structlog.testing import capture_logs

from sigmgr.health import Health, is_bad


class Seconds:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_part_is_well_until_it_says_otherwise() -> None:
    health = Health(Seconds())
    health.expect("database", silent_after=5)
    assert health.checks() == {"database": "ok"}
    health.say("database", "degraded: read-only")
    assert health.checks() == {"database": "degraded: read-only"}
    health.say("database")
    assert health.checks() == {"database": "ok"}


def test_a_part_that_says_nothing_counts_as_dead() -> None:
    seconds = Seconds()
    health = Health(seconds)
    health.expect("database", silent_after=5)
    seconds.now += 5
    assert not is_bad(health.checks()["database"])
    seconds.now += 1
    assert health.checks()["database"] == "failed: nothing was heard of it for 6 s"
    health.say("database")
    assert health.checks()["database"] == "ok"


def test_a_change_is_one_log_line() -> None:
    health = Health(Seconds())
    health.expect("redis", silent_after=5)
    with capture_logs() as lines:
        for _ in range(3):
            health.say("redis", "degraded: full")
        health.say("redis")
        health.say("redis")
    assert [(line["log_level"], line["says"]) for line in lines] == [
        ("warning", "degraded: full"),
        ("info", "ok"),
    ]
