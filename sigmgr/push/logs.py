"""The log of this package."""

from __future__ import annotations

import traceback
from typing import Any

from sigmgr.telemetry import get_logger

log: Any = get_logger("sigmgr.push")


def log_unexpected(action: str, error: BaseException, sentence: str) -> None:
    """Log an unexpected error without the values of locals, which may hold a sig."""
    trace = "".join(traceback.format_tb(error.__traceback__))
    log.error(sentence, action=action, error=type(error).__name__, trace=trace)
