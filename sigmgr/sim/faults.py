"""Seeded faults around every port: errors before, lost answers after, crashes anywhere.

The same seed gives the same faults if the calls come in the same order, so a failed run can be
replayed.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sigmgr.model import errors
from sigmgr.model.event import Event
from sigmgr.model.sig import SigFacts
from sigmgr.ports import Announcement, Announcer, Signer


class Crash(BaseException):
    """The worker died here. Not an Exception, so that nothing catches it."""


@dataclass(slots=True)
class Faults:
    """A plan for ``testing.Faulty``. ``rate`` is the chance of a fault at a call's either
    side, ``crash_rate`` that of a crash; an outage fails every call of one port."""

    rng: random.Random
    rate: float = 0.0
    crash_rate: float = 0.0
    outages: set[str] = field(default_factory=set)
    count: Counter[str] = field(default_factory=Counter)

    def plan(self, name: str, moment: str) -> None:
        """Raise, or let the call pass. See ``testing.Plan``."""
        port = name.partition(".")[0]
        if port in self.outages and moment == "before":
            self._raise(port, "outage")
        chance = self.rng.random()
        if chance < self.crash_rate:
            self.count["crash"] += 1
            raise Crash(f"{name} {moment}")
        if chance < self.crash_rate + self.rate:
            self._raise(port, "lost answer" if moment == "after" else "error")

    @property
    def total(self) -> int:
        return sum(self.count.values())

    def _raise(self, port: str, what: str) -> None:
        self.count[what] += 1
        if port == "cache":
            raise errors.CacheUnavailable(f"simulated {what}")
        if port == "signer":
            raise errors.SigningFailed(f"simulated {what}")
        raise errors.StoreUnavailable(f"simulated {what}")


class FlakySigner:
    """A signer of which single items fail, as a remote one would."""

    def __init__(self, signer: Signer, faults: Faults) -> None:
        self._signer = signer
        self._faults = faults

    def __getattr__(self, name: str) -> Any:
        return getattr(self._signer, name)

    async def sign(self, batch: Sequence[SigFacts]) -> list[str | errors.SigmgrError]:
        answers = await self._signer.sign(batch)
        if "signer" in self._faults.outages:
            self._faults.count["outage"] += len(batch)
            return [errors.SigningFailed("simulated outage") for _ in batch]
        return [self._perhaps(answer) for answer in answers]

    def _perhaps(self, answer: str | errors.SigmgrError) -> str | errors.SigmgrError:
        if self._faults.rng.random() < self._faults.rate:
            self._faults.count["bad item"] += 1
            return errors.SigningFailed("simulated bad item")
        return answer


class Tap:
    """The announcer, with a list of what it announced, which gateways would receive."""

    def __init__(self, announcer: Announcer) -> None:
        self._announcer = announcer
        self.announced: list[Event] = []

    async def announce(self, batch: Sequence[Announcement], now: int) -> list[bool]:
        answer = await self._announcer.announce(batch, now)
        self.announced.extend(one.event for one in batch)
        return answer
