"""How the garbage collector works in a process that serves.

Nearly all that a service makes is freed by counting references; the collector only looks for
cycles. With Python's default of every 700 objects it looked through the records of each
batch a dozen times and through all that lives every few batches: a fifth of the CPU of a
mass renewal, and in a gateway pauses that grow with its streams.

What this module does not do: belong into a library call. Only processes of sigmgr's own
call it, once.
"""

from __future__ import annotations

import gc
from typing import Final

#: Objects made and not yet freed, before the young are looked through: a few batches' worth.
_YOUNG: Final = 50_000


def tune_gc() -> None:
    """Call when all parts stand: what is there now stays, and is looked through no more."""
    gc.freeze()
    gc.set_threshold(_YOUNG, 20, 20)
