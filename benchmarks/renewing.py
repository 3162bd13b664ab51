"""Renewals on PostgreSQL and Valkey, against the one statement that no renewal can do without.

Ours: a worker process for each core runs ``flows.renew.tick`` as ``serve`` wires it: claim,
decide, sign, check, save and append to the outbox in one durable commit, then cache, shard
stream, channel, and the outbox emptied.

Bare: one connection in a loop of ``UPDATE ... WHERE key IN (SELECT ...
ORDER BY expires_at LIMIT 1000 FOR UPDATE SKIP LOCKED)`` with random new times, one durable
commit each: it signs nothing, announces nothing, and uses the same indexes. Both begin with the
same rows in a table just filled, vacuumed and checkpointed.
"""

from __future__ import annotations

import os
import time
from contextlib import ExitStack
from statistics import median
from typing import Any, Self

import psycopg

from benchmarks.children import Child
from benchmarks.rows import Options, Pair, Row, alternate
from benchmarks.stage import SDKAPPID, House, build, valkey
from sigmgr.model.policy import FULL_LIFE

#: All cores; bounded, so that connections are.
WORKERS = min(8, max(2, os.cpu_count() or 2))
COUNT = 40_000
ROUNDS = 5

SMALL = 10_000
LARGE = 1_000_000
LARGEST = 5_000_000
EACH = 5_000
SCALE_ROUNDS = 5

_DRAWN = "(%(now)s + %(ttl)s * (0.60 + 0.13 * random()))::bigint"
_BARE = f"""
UPDATE holders SET issued_at = %(now)s, renew_at = {_DRAWN}, warn_after = {_DRAWN},
  expires_at = %(now)s + %(ttl)s, due_at = {_DRAWN}
WHERE (sdkappid, userid, kind, scope) IN (
  SELECT sdkappid, userid, kind, scope FROM holders
  WHERE sdkappid = %(sdkappid)s AND due_at <= %(now)s
  ORDER BY expires_at LIMIT 1000 FOR UPDATE SKIP LOCKED)
"""

#: Scattered over the whole table, another set each round.
_FALL_DUE = """
UPDATE holders SET issued_at = %(issued)s + i, expires_at = %(issued)s + i + ttl,
  renew_at = %(due)s, warn_after = %(due)s + 172800, due_at = %(due)s
FROM (SELECT i, 'user' || lpad(((i::bigint * %(step)s + %(round)s) %% %(count)s + 1)::text, 7, '0')
  AS userid FROM generate_series(1, %(each)s) AS i) AS picked
WHERE holders.sdkappid = %(sdkappid)s AND holders.userid = picked.userid
  AND holders.kind = 'user' AND holders.scope = ''
"""


def renewals(_: Options) -> Row:
    """Renewals a second by all cores, against one bare loop."""
    house = build()
    with ExitStack() as stack:
        stack.callback(house.drop)
        workers = [
            stack.enter_context(Child("renewer", settings=house.settings)) for _ in range(WORKERS)
        ]
        cpu: list[float] = []

        def ours() -> float:
            house.seed(COUNT, due=True)
            valkey().wipe()
            done = _tick(workers)
            _check(house, done, COUNT)
            cpu.append(sum(one["cpu"] for one in done) / COUNT)
            return COUNT / _seconds(done)

        def bare() -> float:
            house.seed(COUNT, due=True)
            with house.connect() as connection:
                return COUNT / _bare_loop(connection)

        found = alternate(ROUNDS, ours, bare)
    return Row(
        "renewals",
        found.ratio,
        f"{found.ours:,.0f}/s by {WORKERS} workers, {median(cpu) * 1e6:.0f} us of their CPU each;"
        f" bare {found.bare:,.0f}/s; fsync on, outbox, cache and channels written",
    )


def feed(_: Options) -> Row:
    """Renewals a second of an app whose events get numbers for durable readers, the last number
    given within the time, against an app without."""
    with ExitStack() as stack:
        sides = [stack.enter_context(_Side(feed=on)) for on in (True, False)]
        found = alternate(ROUNDS, sides[0].renew, sides[1].renew)
    return Row(
        "renewals-feed",
        found.ratio,
        f"{found.ours:,.0f}/s with, {found.bare:,.0f}/s without, by {WORKERS} workers",
    )


class _Side:
    """A database with due holders, and workers on it."""

    def __init__(self, *, feed: bool) -> None:
        self._feed = feed
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self._house = build(feed=self._feed)
        self._stack.callback(self._house.drop)
        config = {"settings": self._house.settings, "feed": self._feed}
        self._workers = [
            self._stack.enter_context(Child("renewer", **config)) for _ in range(WORKERS)
        ]
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def renew(self) -> float:
        """Renewals a second."""
        self._house.seed(COUNT, due=True)
        valkey().wipe()
        done = _tick(self._workers)
        _check(self._house, done, COUNT)
        numbered = self._house.one("SELECT coalesce(sum(size), 0) FROM events")
        if numbered != (COUNT if self._feed else 0):
            raise RuntimeError(f"{numbered} of {COUNT} events have numbers")
        return COUNT / _seconds(done)


def _bare_loop(connection: psycopg.Connection[Any]) -> float:
    connection.execute("SET jit = off")
    values = {"sdkappid": SDKAPPID, "ttl": FULL_LIFE}
    started, total = time.monotonic(), 0
    while total < COUNT:
        done = connection.execute(_BARE, {**values, "now": int(time.time())}).rowcount
        if not done:
            raise RuntimeError(f"the bare loop ended after {total} rows")
        total += done
    return time.monotonic() - started


def _tick(workers: list[Child]) -> list[dict[str, Any]]:
    for worker in workers:
        worker.send("tick")
    return [worker.receive() for worker in workers]


def _seconds(done: list[dict[str, Any]]) -> float:
    """From the first start to the last end; the clock is the machine's."""
    return float(max(one["to"] for one in done) - min(one["from"] for one in done))


def _check(house: House, done: list[dict[str, Any]], count: int) -> None:
    """All were renewed once, the outbox is announced and the cache holds them."""
    renewed, failed = sum(one["renewed"] for one in done), sum(one["failed"] for one in done)
    waiting = house.one("SELECT count(*) FROM outbox")
    cached = int(valkey().command("DBSIZE").lstrip(":"))
    if (renewed, failed, waiting) != (count, 0, 0) or cached < count:
        raise RuntimeError(
            f"{renewed} of {count} renewed, {failed} failed, {waiting} events wait, {cached} cached"
        )


def scale(options: Options) -> Row:
    """The cost of a renewal must not grow with the holders.

    One worker renews the same number of holders, scattered over the table, in a small and a
    large database of the same server, in turns. Those that fall due are chosen by key, so the
    pages they lie on were touched a moment before, in both databases alike.
    """
    many = LARGEST if options.five_million else LARGE
    with ExitStack() as stack:
        small = stack.enter_context(_Town(SMALL))
        large = stack.enter_context(_Town(many))
        found = alternate(SCALE_ROUNDS, small.renew, large.renew)
    return _scale_row(found, many)


def _scale_row(found: Pair, many: int) -> Row:
    return Row(
        "renewals-scale",
        found.ratio,
        f"cost with {SMALL:,} holders / with {many:,}, so 1/1.3 and 1/1.1:"
        f" {found.ours * 1e6:.0f} us, {found.bare * 1e6:.0f} us a renewal, one worker",
    )


class _Town:
    """A database with so many holders, and a worker on it."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._house = build()
        self._worker = Child("renewer", settings=self._house.settings)
        self._round = 0

    def __enter__(self) -> _Town:
        self._house.seed(self._count, due=False)
        self._worker.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._worker.close()
        self._house.drop()

    def renew(self) -> float:
        """Seconds per renewal."""
        self._round += 1
        now = int(time.time())
        values = {
            "sdkappid": SDKAPPID,
            "issued": now - 65 * 86400,
            "due": now - 3600,
            "step": self._count // EACH,
            "round": self._round,
            "count": self._count,
            "each": EACH,
        }
        with self._house.connect() as connection:
            connection.execute(_FALL_DUE, values)
        valkey().wipe()
        done = [self._worker.ask("tick")]
        _check(self._house, done, EACH)
        return _seconds(done) / EACH
