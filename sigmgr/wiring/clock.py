"""This machine's clocks, for whoever is given one."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

#: Unix seconds, UTC, of this machine's clock.
wall_seconds: Callable[[], float] = time.time


def wall_clock() -> int:
    return int(wall_seconds())


def monotonic_seconds() -> Callable[[], float]:
    """A function of monotonic seconds that go on while the machine sleeps, where the system has
    them, so that a laptop that wakes has no clock jump. Python's own stop on Linux."""
    try:
        since_boot = partial(time.clock_gettime, time.CLOCK_BOOTTIME)
        since_boot()
    except (AttributeError, OSError):
        return time.monotonic
    return since_boot
