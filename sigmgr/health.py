"""The latest report of each part of this process.

Rules:
1. A part reports ``ok``, ``degraded: ...`` where the process goes on without it, or ``failed: ...``
   where this process can serve nobody because of it. It repeats its report; readers get the last
   one, so a part that hangs delays no reader.
2. Only a vital part can fail: from any other part ``failed`` means ``degraded``. Otherwise a part
   that all processes lack would take them all out of the load balancer.
3. A part that has not reported within its time counts as dead, since a dead probe looks healthy
   everywhere else.
4. A change is one log line; the present state is a metric.

What this module does not do: probe anything, read the wall clock, or know of HTTP.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from sigmgr.telemetry import PART_OK, get_logger

OK: Final = "ok"
_FAILED: Final = "failed"

log = get_logger("sigmgr.health")


class _Report(NamedTuple):
    text: str
    at: float
    silent_after: float
    vital: bool


def is_bad(text: str) -> bool:
    """Whether this process can serve nobody because of it."""
    return text.startswith(_FAILED)


class Health:
    """One for a process. ``monotonic`` counts seconds."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._reports: dict[str, _Report] = {}

    def expect(self, part: str, *, silent_after: float, vital: bool = False) -> None:
        """This part will report every few seconds; until then it counts as well. ``vital``: without
        it this process can serve nobody."""
        self._reports[part] = _Report(OK, self._monotonic(), silent_after, vital)
        PART_OK.labels(part).set_function(lambda: float(self._now(part) == OK))

    def report(self, part: str, text: str = OK) -> None:
        before = self._reports[part]
        text = _judged(text, vital=before.vital)
        self._reports[part] = before._replace(text=text, at=self._monotonic())
        if text == before.text:
            return
        log_it = log.info if text == OK else log.warning
        log_it("a part of this process changed", action="health", part=part, state=text)

    def checks(self) -> dict[str, str]:
        return {part: self._now(part) for part in self._reports}

    def _now(self, part: str) -> str:
        last = self._reports[part]
        silent = self._monotonic() - last.at
        if silent <= last.silent_after:
            return last.text
        return _judged(f"{_FAILED}: no report for {silent:.0f} s", vital=last.vital)


def _judged(text: str, *, vital: bool) -> str:
    return text if vital or not is_bad(text) else "degraded" + text.removeprefix(_FAILED)
