"""Reports of parts: kept, logged once, and silence is a failure."""

from __future__ import annotations

from structlog.testing import capture_logs

from sigmgr.health import Health, is_bad
from sigmgr.telemetry import REGISTRY


class Seconds:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_part_is_well_until_it_reports_otherwise() -> None:
    health = Health(Seconds())
    health.expect("database", silent_after=5)
    assert health.checks() == {"database": "ok"}
    health.report("database", "degraded: read-only")
    assert health.checks() == {"database": "degraded: read-only"}
    health.report("database")
    assert health.checks() == {"database": "ok"}


def test_a_part_that_is_silent_counts_as_dead() -> None:
    seconds = Seconds()
    health = Health(seconds)
    health.expect("database", silent_after=5, vital=True)
    health.expect("redis", silent_after=5)
    seconds.now += 5
    assert set(health.checks().values()) == {"ok"}
    seconds.now += 1
    assert health.checks() == {
        "database": "failed: no report for 6 s",
        "redis": "degraded: no report for 6 s",
    }
    health.report("database")
    assert health.checks()["database"] == "ok"


def test_only_a_vital_part_fails_the_process() -> None:
    health = Health(Seconds())
    health.expect("revocations", silent_after=5, vital=True)
    health.expect("redis", silent_after=5)
    with capture_logs() as lines:
        health.report("revocations", "failed: unseen")
        health.report("redis", "failed: unseen")
    assert health.checks() == {"revocations": "failed: unseen", "redis": "degraded: unseen"}
    assert [is_bad(text) for text in health.checks().values()] == [True, False]
    assert [line["state"] for line in lines] == ["failed: unseen", "degraded: unseen"]


def test_how_each_part_is_now_is_a_metric_and_silence_shows_in_it() -> None:
    seconds = Seconds()
    health = Health(seconds)

    def shown() -> float | None:
        return REGISTRY.get_sample_value("sigmgr_part_ok", {"part": "a part under test"})

    health.expect("a part under test", silent_after=5)
    assert shown() == 1
    health.report("a part under test", "degraded: full")
    assert shown() == 0
    health.report("a part under test")
    assert shown() == 1
    seconds.now += 6
    assert shown() == 0


def test_a_change_is_one_log_line() -> None:
    health = Health(Seconds())
    health.expect("redis", silent_after=5)
    with capture_logs() as lines:
        for _ in range(3):
            health.report("redis", "degraded: full")
        health.report("redis")
        health.report("redis")
    assert [(line["log_level"], line["state"]) for line in lines] == [
        ("warning", "degraded: full"),
        ("info", "ok"),
    ]
