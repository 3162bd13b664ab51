"""The apps, kept loaded: every rule asks for an app's policy, none waits for SQL to get it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from sigmgr.model import errors
from sigmgr.model.app import App

Load = Callable[[], Awaitable[Sequence[App]]]


class Apps:
    """Fulfils ``ports.Registry``. An app it does not know is looked up once a second at most;
    what it knows is refreshed by :meth:`refresh`, which the scheduler calls."""

    def __init__(
        self, load: Load, monotonic: Callable[[], float], *, look_every: float = 1.0
    ) -> None:
        self._load = load
        self._monotonic = monotonic
        self._look_every = look_every
        self._apps: dict[int, App] = {}
        self._looked_at = float("-inf")
        self._lock = asyncio.Lock()

    async def refresh(self) -> None:
        """Read all apps again. Raises StoreUnavailable with the known ones kept."""
        apps = await self._load()
        self._apps = {app.sdkappid: app for app in apps}
        self._looked_at = self._monotonic()

    async def app(self, sdkappid: int) -> App:
        known = self._apps.get(sdkappid)
        if known is not None:
            return known
        async with self._lock:
            if (
                sdkappid not in self._apps
                and self._monotonic() - self._looked_at >= self._look_every
            ):
                await self.refresh()
        known = self._apps.get(sdkappid)
        if known is None:
            raise errors.AppUnknown(f"app {sdkappid} is not known here")
        return known

    def known(self, sdkappid: int) -> App | None:
        """The app if it is loaded; never waits."""
        return self._apps.get(sdkappid)

    def apps(self) -> Sequence[App]:
        return list(self._apps.values())
