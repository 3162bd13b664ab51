"""Round robin over the apps with due work, each with an equal share.

Rules:
1. No app gets more than ``limit`` divided by the number of apps that still have work (rule 11 of
   the service), and at most ``turns`` turns.
2. An app comes again only when all others that wait had their turn, and its own last turn is over:
   two concurrent claims of one app would skip over each other's locked rows.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable

from sigmgr.model.app import App


class RoundRobin:
    """``take`` a turn, work, and ``give_back``; the round is over when ``take`` answers None and no
    turn is taken."""

    def __init__(self, apps: Iterable[App], *, limit: int, turns: int) -> None:
        self._limit = limit
        self._turns = turns
        self._waiting = deque(apps)
        self._with_work = len(self._waiting)
        self._taken: Counter[int] = Counter()

    def take(self) -> tuple[App, int] | None:
        """The next app and its share; None where none waits."""
        if not self._waiting:
            return None
        app = self._waiting.popleft()
        self._taken[app.sdkappid] += 1
        return app, max(1, self._limit // self._with_work)

    def give_back(self, app: App, *, more: bool) -> None:
        """The turn is over; ``more``: there may be more to do."""
        if not more:
            self._with_work -= 1
        elif self._taken[app.sdkappid] < self._turns:
            self._waiting.append(app)
