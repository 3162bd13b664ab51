"""What each part of this process says of itself, kept for whoever looks.

Rules:
1. A part says ``ok``, ``degraded: ...`` where the process goes on without it, or
   ``failed: ...`` where this process can serve nobody because of it. It says so again and
   again; who reads asks nobody, so a part that hangs keeps no reader waiting.
2. A part that was expected and has said nothing for its time counts as failed: a dead probe
   looks healthy everywhere else.
3. A change is one log line, at the moment it is said.

What this module does not do: probe anything, read the wall clock, or know of HTTP.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from sigmgr.telemetry import get_logger

OK: Final = "ok"

log = get_logger("sigmgr.health")


class _Said(NamedTuple):
    text: str
    at: float
    silent_after: float


def is_bad(text: str) -> bool:
    """Because of this nobody can be served."""
    return text.startswith("failed")


class Health:
    """One for a process. ``monotonic`` counts seconds."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._said: dict[str, _Said] = {}

    def expect(self, part: str, *, silent_after: float) -> None:
        """This part will say something every few seconds; it is well until it does not."""
        self._said[part] = _Said(OK, self._monotonic(), silent_after)

    def say(self, part: str, text: str = OK) -> None:
        """What is so now. The part was expected."""
        before = self._said[part]
        self._said[part] = before._replace(text=text, at=self._monotonic())
        if text == before.text:
            return
        tell = log.info if text == OK else log.warning
        tell("a part of this process changed", action="health", part=part, says=text)

    def checks(self) -> dict[str, str]:
        """Each part by name, in the order in which they were expected."""
        now = self._monotonic()
        return {part: _told(said, now) for part, said in self._said.items()}


def _told(said: _Said, now: float) -> str:
    silent = now - said.at
    if silent > said.silent_after:
        return f"failed: nothing was heard of it for {silent:.0f} s"
    return said.text
