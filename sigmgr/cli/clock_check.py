"""The clock findings of ``sigmgr doctor``: which clock differs, and the effect."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

#: A difference in seconds that does not matter, since the cloud counts whole seconds.
_SKEW = 2.0

_NTP = "Synchronise the clocks (NTP); the cloud compares whole seconds."
_THEIRS = "Synchronise the database server's clock (NTP): every process follows it."


class Finding(NamedTuple):
    """One line of the doctor's answer. ``verdict`` is ok, warn or fail. Text and advice may contain
    misplaced secrets, which the doctor masks."""

    part: str
    verdict: str
    text: str
    advice: str = ""


class Clocks:
    """Seconds by which the clocks of the database and of Redis are ahead of this machine's; None
    where one could not be read."""

    def __init__(self, tolerance: float) -> None:
        self._tolerance = tolerance
        self.database: float | None = None
        self.redis: float | None = None

    def findings(self) -> Iterator[Finding]:
        """The database's clock decides what is signed; Redis's shows which one is wrong."""
        if self.database is not None:
            yield self._of_the_database(self.database)
        if self.redis is not None:
            yield self._plain(self.redis, "Redis's")

    def _of_the_database(self, ahead: float) -> Finding:
        if abs(ahead) <= self._tolerance:
            return self._plain(ahead, "the database's")
        text = f"the database's clock differs by {ahead:+.1f} s: only what is urgent is signed"
        if self.redis is None:
            return Finding("clock", "fail", text, _NTP)
        if abs(self.redis) <= self._tolerance:
            which = "this machine and Redis agree; the database's clock is the one that differs"
            return Finding("clock", "fail", f"{text}; {which}", _THEIRS)
        if abs(self.redis - ahead) <= self._tolerance:
            which = "the database and Redis agree; this machine's clock is the one that differs"
            return Finding("clock", "fail", f"{text}; {which}", _NTP)
        return Finding("clock", "fail", text, _NTP)

    def _plain(self, ahead: float, whose: str) -> Finding:
        if abs(ahead) <= _SKEW:
            return Finding("clock", "ok", f"{whose} clock agrees with this machine's")
        verdict = "warn" if abs(ahead) <= self._tolerance else "fail"
        return Finding("clock", verdict, f"{whose} clock differs by {ahead:+.1f} s", _NTP)
