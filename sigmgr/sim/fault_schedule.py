"""The fault schedule of a simulation: outages of ports, the rate of failed calls, clock skew.

All of it is drawn from one seed. The last days have no faults, so that the backlog is done
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
#: Ports without which no sig can be made.
_NEEDED = frozenset({"signer", "store"})


class Outage(NamedTuple):
    """One port fails every call from ``begin`` until before ``end``, Unix seconds."""

    port: str
    begin: int
    end: int


class FaultSchedule:
    """``skew``: seconds by which the service's clock is wrong in this step."""

    def __init__(self, faults: Faults, rng: random.Random, start: int, end: int) -> None:
        self._faults = faults
        self._rng = rng
        self._now = start
        self._calm_from = end - CALM_DAYS * DAY
        self._outages = self._drawn()
        self._well_at = start
        self.skew = 0

    def step(self, now: int) -> None:
        """Set the clock's error and the faults of the step at ``now``, the true time."""
        if not self._faults.outages & _NEEDED:
            self._well_at = self._now
        self._now = now
        calm = now > self._calm_from
        if calm:
            self.skew = 0
        elif self._rng.random() < 0.05:
            self.skew = self._rng.randint(-900, 900)
        self._faults.rate = 0.0 if calm else 0.01
        self._faults.crash_rate = 0.0 if calm else 0.0005
        self._faults.outages = {out.port for out in self._outages if out.begin <= now < out.end}
        if "store" in self._faults.outages:
            self._faults.outages |= {"outbox", "janitor"}

    def hopeless(self, since: int) -> bool:
        """No new sig could be made in any step from ``since`` until before this one."""
        return self._well_at < since

    def _drawn(self) -> list[Outage]:
        drawn = []
        for port, length in _LONGEST:
            window = self._calm_from - length - self._now
            if window > 0:
                begin = self._now + int(self._rng.random() * window)
                drawn.append(Outage(port, begin, begin + length))
        return drawn
