"""How much of the machine others took while we measured: a wall-clock figure of many processes
suffers more from neighbours than that of one, and a reader should see it."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

#: Seconds, summed over the cores.
LEAST = 2.0
_TICK: int = os.sysconf("SC_CLK_TCK")


class Others:
    """Counts from its making on."""

    def __init__(self) -> None:
        self._cores = os.cpu_count() or 1
        self._busy, self._idle = _machine()
        self._own = _own()

    def share(self) -> float | None:
        """The part of the machine, 0 to 1, that programs outside this run have used; None
        where too little time has passed to tell."""
        busy, idle = _machine()
        all_time = busy + idle - self._busy - self._idle
        foreign = busy - self._busy - (_own() - self._own)
        return min(1.0, max(0.0, foreign / all_time)) if all_time > LEAST else None


def _machine() -> tuple[float, float]:
    """Busy and idle seconds of all cores since boot; time stolen by other machines is busy."""
    fields = [int(f) for f in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    idle = fields[3] + fields[4]
    return (sum(fields) - idle) / _TICK, idle / _TICK


def _own() -> float:
    """CPU seconds of this process and all below it, the dead ones too."""
    children: dict[int, list[int]] = {}
    spent: dict[int, float] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                children.setdefault(int(fields[1]), []).append(int(entry.name))
                spent[int(entry.name)] = sum(map(int, fields[11:15])) / _TICK
    total, waiting = 0.0, [os.getpid()]
    while waiting:
        pid = waiting.pop()
        total += spent.get(pid, 0.0)
        waiting += children.get(pid, [])
    return total
