"""Numbers on the command line and in settings: plain digits only.

The libraries that read options and settings also accept ``1.0``, ``1_0``, ``+1``, ``01``, digits of
other scripts and surrounding blanks. Such text is a mistake and is refused. Each function raises
ValueError with a text that follows the name of the option.
"""

from __future__ import annotations

import re
from collections.abc import Callable

_WHOLE = re.compile(r"-?(0|[1-9][0-9]{0,17})")
_DECIMAL = re.compile(r"-?(0|[1-9][0-9]{0,17})(\.[0-9]{1,18})?")


def whole(text: str | int) -> int:
    """Any whole number. An int, such as a default, is returned as it is."""
    if isinstance(text, int):
        return text
    if not _WHOLE.fullmatch(text):
        raise ValueError("it is no number in plain digits")
    return int(text)


def natural(text: str | int) -> int:
    """As :func:`whole`, and not below 0."""
    number = whole(text)
    if number < 0:
        raise ValueError("it is to be 0 or more")
    return number


def between(least: int, most: int | None = None) -> Callable[[str | int], int]:
    """A reader of whole numbers within bounds."""

    def within(text: str | int) -> int:
        number = whole(text)
        if number < least:
            raise ValueError(f"it is to be greater than or equal to {least}")
        if most is not None and number > most:
            raise ValueError(f"it is to be less than or equal to {most}")
        return number

    return within


def decimal(text: str | float) -> float:
    """A number with an optional decimal point, such as ``0.6``."""
    if isinstance(text, str) and not _DECIMAL.fullmatch(text):
        raise ValueError("it is no number in plain digits, such as 5 or 0.6")
    return float(text)
