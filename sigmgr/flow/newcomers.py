"""How many holders an app may get, and how fast: its policy's ``max_holders`` and
``new_holders_per_second``. Who has a row is never refused.

How exact this is: a process counts what it adds itself to the last one, and what others add
with its next count of the rows, which it takes every minute, every five seconds from nine
tenths of the limit on, and never more than a twentieth of the time. By so much as the other
processes add meanwhile an app may go beyond its limit. ``new_holders_per_second`` holds in each
process. Both are read with the policy, and counted, within ten seconds of a change.

What this module does not do: refuse a revocation. Its row is a safety, not a new user.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
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
#: From this part of the limit on it is near.
NEAR_FROM = 0.9
#: A count that took this long is followed by twenty times as long without one.
_REST = 20
#: Seconds after which somebody who was refused for good may see that there is room again.
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
        """Those who are new and may not be made now, each with the reason."""
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

    def admit(self, app: App, records: Iterable[Record], now: int) -> None:
        """The same for rows that were just locked, some of which may just have been made.
        Raises MaxHolders or TooManyNewHolders."""
        asked = {record.holder: app for record in records}
        refused = self.refused(asked, [record for record in records if not _blank(record)], now)
        for error in refused.values():
            raise error

    async def measure(self, now: int) -> None:
        """Count the rows of those apps that have a limit and whose time it is."""
        for app in self._registry.apps():
            most, counted = app.policy.max_holders, self._counted.get(app.sdkappid)
            if not most:
                self._counted.pop(app.sdkappid, None)
            elif counted is None or now >= counted.next_at or self._is_near(app, counted):
                await self._count(app, now)

    async def _count(self, app: App, now: int) -> None:
        loop = asyncio.get_running_loop()
        began, most = loop.time(), app.policy.max_holders
        # What is added from here on may be in the count already: then it counts twice, for once.
        self._added[app.sdkappid] = 0
        rows = await self._store.count(app.sdkappid, most)
        pause = NEAR if rows >= most * NEAR_FROM else CALM
        rest = max(pause, int((loop.time() - began) * _REST))
        self._counted[app.sdkappid] = _Counted(rows, now + rest)

    def _is_near(self, app: App, counted: _Counted) -> bool:
        """What was added since the count has brought it near its limit."""
        near = app.policy.max_holders * NEAR_FROM
        return counted.rows < near <= counted.rows + self._added.get(app.sdkappid, 0)

    def _taken(self, app: App, wanted: int, now: int) -> int:
        """Takes room for up to so many; answers for how many there was."""
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
        return errors.TooManyNewHolders(retry_after=max(1, int(wait)))


def _blank(record: Record) -> bool:
    """Nothing was ever issued, revoked or acked: the row was made to be locked."""
    return not (record.issued_at or record.revoked_at or record.acked)
