"""Tunes the garbage collector of a serving process.

Nearly all garbage is freed by reference counting; the collector only looks for cycles. With
Python's default threshold it scans the records of each batch a dozen times, a fifth of the CPU of a
mass renewal, and in a gateway its pauses grow with the streams.

What this module does not do: act on import. Only sigmgr's own processes call it, once.
"""

from __future__ import annotations

import gc
from typing import Final

#: New objects before the young generation is scanned: a few batches' worth.
_YOUNG: Final = 50_000


def tune_gc() -> None:
    """Call it when all parts are built: the existing objects are never scanned again."""
    gc.freeze()
    gc.set_threshold(_YOUNG, 20, 20)
