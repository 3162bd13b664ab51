"""A circuit breaker: a dead Redis costs one time-out per cool-down, not one per request.

closed    calls pass
open      after a connection failure: calls are refused at once for ``cooldown`` seconds
half-open after the cool-down: one call passes as a probe, the others are refused until it ends

What this module does not do: decide what is a failure.
"""

from __future__ import annotations

from collections.abc import Callable


class Breaker:
    """``monotonic`` gives monotonic seconds."""

    def __init__(self, cooldown: float, monotonic: Callable[[], float]) -> None:
        self._cooldown = cooldown
        self._monotonic = monotonic
        self._open_until: float | None = None
        self._probing = False

    def refuses(self) -> bool:
        """Whether a call would be refused. Does not start a probe."""
        if self._open_until is None:
            return False
        return self._probing or self._monotonic() < self._open_until

    def enter(self) -> bool:
        """True if the call may go; in half-open it is then the probe."""
        if self.refuses():
            return False
        self._probing = self._open_until is not None
        return True

    def succeeded(self) -> None:
        self._open_until = None
        self._probing = False

    def failed(self) -> None:
        self._open_until = self._monotonic() + self._cooldown
        self._probing = False

    def gave_up(self) -> None:
        """The call ended without a result about the server, as when cancelled."""
        self._probing = False
