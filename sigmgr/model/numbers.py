"""Numbers as people write them, on the command line and in settings: digits and nothing else.

The libraries that read options and settings take ``1.0``, ``1_0``, ``+1``, ``01``, other
scripts' digits and blanks around them for numbers too. A number that was pasted wrong is told
instead. Each function raises ValueError with the words that are put behind a name.
"""

from __future__ import annotations

import re
from collections.abc import Callable

_WHOLE = re.compile(r"-?(0|[1-9][0-9]{0,17})")
_DECIMAL = re.compile(r"-?(0|[1-9][0-9]{0,17})(\.[0-9]{1,18})?")


def whole(text: str | int) -> int:
    """Any whole number. A number, such as a default, is itself."""
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
    """What reads a whole number within bounds."""

    def within(text: str | int) -> int:
        number = whole(text)
        if number < least:
            raise ValueError(f"it is to be greater than or equal to {least}")
        if most is not None and number > most:
            raise ValueError(f"it is to be less than or equal to {most}")
        return number

    return within


def decimal(text: str | float) -> float:
    """A number that may have a point in it, such as ``0.6``."""
    if isinstance(text, str) and not _DECIMAL.fullmatch(text):
        raise ValueError("it is no number in plain digits, such as 5 or 0.6")
    return float(text)
