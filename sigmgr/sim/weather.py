"""The weather of virtual months: which ports are out, how often calls fail, a wrong clock.

All of it is drawn from one seed. The last days are calm, so that what is owed can be paid
before it is counted.
"""

from __future__ import annotations

import random
from typing import NamedTuple

from sigmgr.sim.faults import Faults
from sigmgr.sim.people import DAY

CALM_DAYS = 3
#: Long outages that every app must survive: 27 % of the shortest life are 8 days.
_LONGEST = (("signer", 6 * DAY), ("cache", 3 * DAY), ("store", DAY // 2))
#: Without these nobody can be given a new sig.
_NEEDED = frozenset({"signer", "store"})


class Outage(NamedTuple):
    """One port fails every call from ``begin`` until before ``end``, Unix seconds."""

    port: str
    begin: int
    end: int


class Weather:
    """``skew``: seconds by which the service's clock is wrong now. ``well_at``: the last step
    in which signer and store were both there."""

    def __init__(self, faults: Faults, rng: random.Random, start: int, end: int) -> None:
        self._faults = faults
        self._rng = rng
        self._calm_from = end - CALM_DAYS * DAY
        self._outages = self._drawn(start)
        self.skew = 0
        self.well_at = start

    def step(self, now: int) -> None:
        """Set the clock's error and the faults of the step at ``now``, the true time."""
        self._step_ends()
        calm = now > self._calm_from
        if self._rng.random() < 0.05:
            self.skew = self._rng.randint(-900, 900)
        if calm:
            self.skew = 0
        self._faults.rate = 0.0 if calm else 0.01
        self._faults.crash_rate = 0.0 if calm else 0.0005
        self._faults.outages = {out.port for out in self._outages if out.begin <= now < out.end}
        self._now = now
        if "store" in self._faults.outages:
            self._faults.outages |= {"outbox", "janitor"}

    def hopeless(self, since: int) -> bool:
        """From ``since`` to the last step nobody could have been given a new sig."""
        return self.well_at < since
