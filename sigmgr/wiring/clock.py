"""The only readers of this machine's clocks in the service."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

#: Unix seconds, UTC, as this machine says.
wall_seconds: Callable[[], float] = time.time


def wall_clock() -> int:
    """The same, whole."""
    return int(wall_seconds())


def monotonic_seconds() -> Callable[[], float]:
    """What answers monotonic seconds that go on while the machine sleeps, where there are such:
    a laptop that wakes has no clock that jumped. Python's own stand still on Linux."""
    try:
        since_boot = partial(time.clock_gettime, time.CLOCK_BOOTTIME)
        since_boot()
    except (AttributeError, OSError):
        return time.monotonic
    return since_boot
