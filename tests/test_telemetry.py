"""Numbers as Prometheus reads them."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Histogram, generate_latest

from sigmgr.telemetry import BatchHistogram

BUCKETS = (0.0, 0.05, 0.5)
VALUES = [-1.0, 0.0, 0.05, 0.051, 0.3, 0.5, 0.7, 9.0, 0.3]


def test_a_batch_histogram_reports_what_the_librarys_own_does():
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    BatchHistogram("x", "text", BUCKETS, ours).observe_all(VALUES)
    one_by_one = Histogram("x", "text", buckets=BUCKETS, registry=theirs)
    for value in VALUES:
        one_by_one.observe(value)
    expected = [line for line in generate_latest(theirs).splitlines() if b"_created" not in line]
    assert generate_latest(ours).splitlines() == expected
