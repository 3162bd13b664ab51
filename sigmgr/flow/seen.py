"""Sightings of users, gathered in memory and written now and then.

A sighting keeps a holder from going dormant after ``idle_after``. It costs one small write a day,
not one per login; a process that dies loses at most one interval of them.
"""

from __future__ import annotations

from sigmgr.model.holder import Holder
from sigmgr.ports import Registry, Store


class Seen:
    """Bounded: when ``most`` users wait to be written, further ones are not noted before the
    flush."""

    def __init__(self, store: Store, registry: Registry, *, most: int = 100_000) -> None:
        self._store = store
        self._registry = registry
        self._most = most
        self._waiting: dict[Holder, int] = {}
        self._written: dict[Holder, int] = {}

    def note(self, user: Holder, now: int, *, sure: bool = False) -> None:
        """This user was seen now. ``sure``: the caller knows that it has to be written."""
        if len(self._waiting) < self._most or user in self._waiting:
            self._waiting[user] = now
            if sure:
                self._written.pop(user, None)

    async def flush(self, now: int) -> int:
        """Write what waits and was not written within ``mark_seen_every``; answers how many."""
        waiting, self._waiting = self._waiting, {}
        intervals = {
            app.sdkappid: app.policy.durations(app.policy.ttl).mark_seen_every
            for app in self._registry.apps()
        }
        due = [
            (user, at)
            for user, at in waiting.items()
            if at - self._written.get(user, 0) >= intervals.get(user.sdkappid, 0)
        ]
        try:
            for start in range(0, len(due), 1000):
                await self._store.mark_seen(due[start : start + 1000])
        except BaseException:
            self._waiting = {**dict(due), **self._waiting}
            raise
        if len(self._written) + len(due) > self._most:
            self._written.clear()
        self._written.update(due)
        return len(due)
