"""The only reader of the wall clock in the service."""

from __future__ import annotations

import time


def wall_clock() -> int:
    """Whole Unix seconds, UTC."""
    return int(time.time())
