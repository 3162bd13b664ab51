"""Numbers on the command line: digits and nothing else.

The library that reads options takes ``1.0``, ``1_0``, ``+1``, ``01`` and blanks around them for
numbers too. A number that was pasted wrong is told instead.

What is not checked here: whether a number is in the range of what it stands for, which the
model knows and names.
"""

from __future__ import annotations

import re

_WHOLE = re.compile(r"-?(0|[1-9][0-9]{0,17})")


def whole(text: str | int) -> int:
    """Raises ValueError with the words that the frame puts behind the option's name."""
    if isinstance(text, int):  # a default
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
