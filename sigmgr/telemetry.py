"""Logs and metrics: one logger factory and every metric, each with how to read it.

Labels are few and bounded: app, reason, result, part. Never a user id, never a secret.
"""

from __future__ import annotations

import logging
import sys
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from typing import Any

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge
from prometheus_client.metrics_core import HistogramMetricFamily
from prometheus_client.registry import Collector

REGISTRY = CollectorRegistry()


class BatchHistogram(Collector):
    """A histogram filled a batch at a time. The library's own takes a microsecond for each value,
    as long as planning a renewal."""

    def __init__(
        self, name: str, text: str, buckets: Sequence[float], registry: CollectorRegistry
    ) -> None:
        self._name = name
        self._text = text
        self._bounds = (*buckets, float("inf"))
        self._counts = [0] * len(self._bounds)
        self._sum = 0.0
        registry.register(self)

    def observe_all(self, values: Iterable[float]) -> None:
        for value in values:
            self._counts[bisect_left(self._bounds, value)] += 1
            self._sum += value

    def collect(self) -> Iterator[HistogramMetricFamily]:
        names = [*map(str, self._bounds[:-1]), "+Inf"]
        buckets = list(zip(names, map(float, accumulate(self._counts)), strict=True))
        yield HistogramMetricFamily(self._name, self._text, buckets=buckets, sum_value=self._sum)


#: Sigs made. Follows the forecast; ``result="failed"`` should stay below a few per mille,
#: ``reason="Emergency"`` and ``"Expired"`` at zero. ``result="held"``: asked for while the clocks
#: differed.
ISSUED = Counter(
    "sigmgr_issued",
    "Sigs made, failed or held, by app, reason and result",
    ["app", "reason", "result"],
    registry=REGISTRY,
)

#: Life left when a tick renews, as a share. Usually between 0.27 and 0.40; lower means that renewal
#: runs late.
REMAINING = BatchHistogram(
    "sigmgr_renewal_remaining_ratio",
    "Share of life left at renewal",
    buckets=(0.0, 0.05, 0.10, 0.20, 0.27, 0.40, 0.60, 0.80),
    registry=REGISTRY,
)

#: When each ticking job last succeeded, Unix seconds. A dead scheduler looks healthy everywhere
#: else: alert when ``time() - this`` exceeds a few periods of the job.
LAST_SUCCESS = Gauge(
    "sigmgr_job_last_success_timestamp_seconds",
    "Last good end of a ticking job",
    ["job"],
    registry=REGISTRY,
)

#: Ended runs of each job by result.
RUNS = Counter("sigmgr_job_runs", "Runs of a ticking job", ["job", "result"], registry=REGISTRY)

#: Events in the outbox and the age of the oldest. Above a minute: Redis is away.
OUTBOX_PENDING = Gauge("sigmgr_outbox_pending", "Events in the outbox", registry=REGISTRY)
OUTBOX_OLDEST = Gauge(
    "sigmgr_outbox_oldest_age_seconds", "Age of the oldest event in the outbox", registry=REGISTRY
)

#: Where gets were answered from. ``store`` rising with ``cache`` flat: Redis is cold or away.
GETS = Counter("sigmgr_gets", "Sigs handed out, by source", ["source"], registry=REGISTRY)

#: Cached sigs older than the store's. More than a few: two writers disagree.
DRIFT = Counter("sigmgr_cache_drift", "Cached sigs older than the store's", registry=REGISTRY)

#: Calls that exceeded their wait limit, by what was asked for. Above zero: the database hangs, or
#: rows are locked for long.
LATE = Counter("sigmgr_late", "Calls left because they took too long", ["lane"], registry=REGISTRY)

#: Unreadable values in Redis. ``unsealed``: not sealed though the seal is on; goes to zero after it
#: is switched on, unless something else writes there. ``damaged``: of another master key, or cut.
UNREAD = Counter(
    "sigmgr_cache_unread", "Values in Redis that could not be read", ["why"], registry=REGISTRY
)

#: Clients that hold newer sigs than the database knows of. Above zero: it was restored from a
#: backup, or a failover lost its last writes.
RESTORED = Counter(
    "sigmgr_restored_claims", "Clients that hold newer sigs than the database", registry=REGISTRY
)

#: Acks of clients. Should follow the renewals of connected users within seconds.
ACKS = Counter("sigmgr_acks", "Acks of clients, by result", ["result"], registry=REGISTRY)

#: Jumps of this machine's clock against monotonic time. One now and then is a manual change or a
#: paused virtual machine; several a day: two programs set the clock.
CLOCK_JUMPS = Counter("sigmgr_clock_jumps", "Jumps of this machine's clock", registry=REGISTRY)

#: Seconds by which this machine's clock is ahead of the database's. Beyond a second or two NTP is
#: missing somewhere; beyond clock.tolerance ordinary signing is held (1 while it is).
CLOCK_APART = Gauge(
    "sigmgr_clock_apart_seconds",
    "Seconds of this machine's clock ahead of the database's",
    registry=REGISTRY,
)
CLOCK_HELD = Gauge("sigmgr_clock_held", "Ordinary signing is held", registry=REGISTRY)

#: Connections closed by this server: too many of them, slow or too large requests, clients that
#: read no answer. A rise without a rise of use may be an attack.
CONNECTIONS_CUT = Counter(
    "sigmgr_connections_cut", "Connections closed by the server, by why", ["why"], registry=REGISTRY
)

#: Invalid tokens and tickets, by code. A few all the time: a client with an old configuration; a
#: burst: somebody guesses.
WRONG_CREDENTIALS = Counter(
    "sigmgr_wrong_credentials", "Tokens and tickets that open nothing", ["code"], registry=REGISTRY
)

#: Users and rooms refused by their app's max_holders or new_holders_per_second. Either the app
#: grew, or somebody makes up user ids.
NEW_HOLDERS_REFUSED = Counter(
    "sigmgr_new_holders_refused",
    "New holders refused by a limit of their app",
    ["app", "code"],
    registry=REGISTRY,
)


#: Each part of this process as in /readyz: 1 where it is well. Alert when one is at 0 for longer
#: than a minute; the log line of that moment has the reason.
PART_OK = Gauge("sigmgr_part_ok", "A part of this process is well", ["part"], registry=REGISTRY)


def get_logger(name: str) -> Any:
    """A structlog logger; lines carry an ``action`` for machines and a sentence for people."""
    return structlog.get_logger(name)


def configure_logging(*, level: str = "info", as_json: bool = False) -> None:
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderers = _renderers(as_json)
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )
    out = logging.StreamHandler(sys.stderr)
    out.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderers],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [out]
    root.setLevel(level.upper())
    # A run skipped because the last one still goes on is normal; what is due waits.
    logging.getLogger("apscheduler").setLevel(logging.ERROR)
    for chatty in (
        "alembic",
        "uvicorn",
        "sqlalchemy",
        "redis",
        "fakeredis",
        "asyncio",
    ):
        logging.getLogger(chatty).setLevel(logging.WARNING)


def _renderers(as_json: bool) -> list[Any]:
    """Plain tracebacks: the pretty ones show local variables, and with them tickets and keys."""
    if as_json:
        return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    plain = structlog.dev.plain_traceback
    return [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=plain)]
