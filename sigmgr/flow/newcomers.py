"""Limits of new holders of an app: its policy's ``max_holders`` and ``new_holders_per_second``.
Holders that have a row are never refused; who lost it keeps a cached sig that is valid.

Precision: a process adds what it makes itself to its last count of the rows. It counts every
minute, from nine tenths of the limit on every five seconds, and for at most a twentieth of the
time. An app may exceed its limit by what other processes add in between, and by what is under way
while it counts. ``new_holders_per_second`` holds in each process. A change of either takes effect
within ten seconds.

What this module does not do: refuse a revocation, whose row is no new user.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from math import ceil
from typing import NamedTuple

from sigmgr.model import errors
from sigmgr.model.app import App
from sigmgr.model.bucket import Buckets
from sigmgr.model.holder import Holder
from sigmgr.model.sig import Record
from sigmgr.ports import Registry, Store
from sigmgr.telemetry import NEW_HOLDERS_REFUSED

#: Seconds between two counts of an app, far from its limit and near it.
CALM = 60
NEAR = 5
#: The part of the limit from which on it is near.
NEAR_FROM = 0.9
#: A count is followed by this many times its duration without one.
_REST = 20
#: Seconds after which a caller refused by ``max_holders`` may try again.
_AGAIN = 60


class _Counted(NamedTuple):
    rows: int
    next_at: int


class Newcomers:
    """Call :meth:`measure` every few seconds."""

    def __init__(self, registry: Registry, store: Store) -> None:
        self._registry = registry
        self._store = store
        self._counted: dict[int, _Counted] = {}
        self._added: dict[int, int] = {}
        self._rates: dict[int, Buckets] = {}

    def refused(
        self, asked: Mapping[Holder, App], old: Iterable[Record], now: int
    ) -> dict[Holder, errors.SigmgrError]:
        """Those that are new and refused now, each with the reason."""
        new = asked.keys() - {record.holder for record in old}
        by_app: dict[int, list[Holder]] = {}
        for holder in sorted(new):
            by_app.setdefault(holder.sdkappid, []).append(holder)
        found: dict[Holder, errors.SigmgrError] = {}
        for holders in by_app.values():
            app = asked[holders[0]]
            most = self._taken(app, len(holders), now)
            if most < len(holders):
                errors_of = {holder: self._reason(app, now) for holder in holders[most:]}
                code = errors_of[holders[-1]].code
                NEW_HOLDERS_REFUSED.labels(str(app.sdkappid), code).inc(len(errors_of))
                found |= errors_of
        return found

    def admit(self, app: App, made: Iterable[Holder], now: int) -> None:
        """The same for holders whose rows were made just now. Raises MaxHolders or
        TooManyNewHolders."""
        for error in self.refused(dict.fromkeys(made, app), (), now).values():
            raise error

    async def measure(self, now: int) -> None:
        """Count the rows of the apps with a limit that are due for it. Raises StoreUnavailable,
        once all were tried."""
        failed: errors.UnavailableError | None = None
        for app in self._registry.apps():
            most, counted = app.policy.max_holders, self._counted.get(app.sdkappid)
            if not most:
                self._counted.pop(app.sdkappid, None)
            elif counted is None or now >= counted.next_at or self._is_near(app, counted):
                try:
                    await self._count(app, now)
                except errors.UnavailableError as error:
                    failed = error
        if failed is not None:
            raise failed

    async def _count(self, app: App, now: int) -> None:
        """Where it fails, the last count and what was added stand for it."""
        loop = asyncio.get_running_loop()
        began, most = loop.time(), app.policy.max_holders
        last, added = self._counted.get(app.sdkappid), self._added.get(app.sdkappid, 0)
        rows = None if last is None else last.rows + added
        try:
            rows = await self._store.count(app.sdkappid, most)
        finally:
            if rows is not None:
                # What is added meanwhile may be counted twice, until the next count.
                self._added[app.sdkappid] = self._added.get(app.sdkappid, 0) - added
                pause = NEAR if rows >= most * NEAR_FROM else CALM
                rest = max(pause, int((loop.time() - began) * _REST))
                self._counted[app.sdkappid] = _Counted(rows, now + rest)

    def _is_near(self, app: App, counted: _Counted) -> bool:
        """Whether what was added since the count has brought it near its limit."""
        near = app.policy.max_holders * NEAR_FROM
        return counted.rows < near <= counted.rows + self._added.get(app.sdkappid, 0)

    def _taken(self, app: App, wanted: int, now: int) -> int:
        most = min(wanted, self._room(app, wanted))
        rate = app.policy.new_holders_per_second
        if rate and most:
            most = self._rate(app).take(app.sdkappid, now, most)
        if app.policy.max_holders:
            self._added[app.sdkappid] = self._added.get(app.sdkappid, 0) + most
        return most

    def _room(self, app: App, wanted: int) -> int:
        counted = self._counted.get(app.sdkappid)
        if not app.policy.max_holders or counted is None:
            return wanted
        known = counted.rows + self._added.get(app.sdkappid, 0)
        return max(0, app.policy.max_holders - known)

    def _rate(self, app: App) -> Buckets:
        rate = app.policy.new_holders_per_second
        known = self._rates.get(app.sdkappid)
        if known is None or known.rate != rate:
            known = self._rates[app.sdkappid] = Buckets(burst=max(1.0, rate), rate=rate, keys=1)
        return known

    def _reason(self, app: App, now: int) -> errors.SigmgrError:
        if not self._room(app, 1):
            return errors.MaxHolders(
                f"app {app.sdkappid} has {app.policy.max_holders} holders, as many as it may",
                retry_after=_AGAIN,
            )
        wait = self._rate(app).wait(app.sdkappid, now)
        return errors.TooManyNewHolders(retry_after=ceil(wait))
