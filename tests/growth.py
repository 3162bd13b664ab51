"""How the work of a function grows with its input: a ratio, so that no machine is too slow."""

from __future__ import annotations

import time
from collections.abc import Callable

#: The longer input has so many times the length of the shorter one.
TIMES = 8
#: Linear work grows as ``TIMES``, quadratic work as its square.
MOST = 3 * TIMES


def growth(work: Callable[[str], object], text: Callable[[int], str], length: int) -> float:
    """How many times as long ``work`` takes where the text is ``TIMES`` as long. ``text`` makes
    one of about so many characters."""
    return _least(work, text(TIMES * length)) / _least(work, text(length))


def repeated(piece: str, end: str = "") -> Callable[[int], str]:
    """Makes texts out of a piece, and an end."""
    return lambda length: piece * (length // len(piece)) + end


def _least(work: Callable[[str], object], text: str) -> float:
    spent = []
    for _ in range(3):
        began = time.thread_time()
        work(text)
        spent.append(time.thread_time() - began)
    return max(min(spent), 1e-6)
