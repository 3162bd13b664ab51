"""The apps, kept in memory: rules need an app's policy without waiting for SQL.

Only a caller with an unknown app waits, for a lookup shared by all such callers, and no longer than
its limit. If that lookup fails, the caller gets its error: an app is not unknown because the
database is away.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from sigmgr.flow.limits import Lane
from sigmgr.model import errors
from sigmgr.model.app import App

Load = Callable[[], Awaitable[Sequence[App]]]


@dataclass(eq=False, repr=False)
class Apps:
    """Fulfils ``ports.Registry``. An unknown app is looked up at most once in ``look_every``
    seconds, and waited for no longer than ``patience``; known ones are refreshed by
    :meth:`refresh`, which the scheduler calls."""

    load: Load
    monotonic: Callable[[], float]
    look_every: float = 1.0
    patience: float = 1.0

    def __post_init__(self) -> None:
        self._apps: dict[int, App] = {}
        self._looked_at = float("-inf")
        self._lane = Lane("apps", most=1)
        self._flight: asyncio.Task[None] | None = None
        self._failure: errors.SigmgrError | None = None

    async def refresh(self) -> None:
        """Read all apps again. Raises StoreUnavailable with the known ones kept."""
        apps = await self.load()
        self._apps = {app.sdkappid: app for app in apps}
        self._looked_at = self.monotonic()
        self._failure = None

    async def app(self, sdkappid: int) -> App:
        known = self._apps.get(sdkappid)
        if known is None:
            await self._look()
            known = self._apps.get(sdkappid)
        if known is not None:
            return known
        if self._failure is not None:
            raise self._failure.anew()
        raise errors.AppUnknown(f"app {sdkappid} is not known here")

    def known(self, sdkappid: int) -> App | None:
        """The app if it is loaded; never waits."""
        return self._apps.get(sdkappid)

    def apps(self) -> Sequence[App]:
        return list(self._apps.values())

    async def _look(self) -> None:
        """Wait for the running lookup, or start one if the last was not just now."""
        if self._flight is None:
            if self.monotonic() - self._looked_at < self.look_every:
                return
            self._flight = asyncio.create_task(self._fly(), name="apps: look")
        await asyncio.wait({self._flight})

    async def _fly(self) -> None:
        self._looked_at = self.monotonic()
        try:
            await self._lane.within(self.patience, self.refresh())
        except errors.SigmgrError as error:
            self._failure = error.anew()
        finally:
            self._flight = None
