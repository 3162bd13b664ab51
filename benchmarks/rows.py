"""What a benchmark answers, and how two sides take turns."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from operator import attrgetter
from statistics import median
from typing import NamedTuple

#: The floor that each ratio must hold, and what it aims at.
BUDGETS = {
    "sign-v2": (1.25, 1.5),
    "sign-v1": (0.8, 0.95),
    "renewals": (0.45, 0.8),
    "renewals-scale": (0.77, 0.91),
    "renewals-feed": (0.6, 0.9),
    "cached-get": (1.6, 2.5),
    "batch-get": (30.0, 60.0),
    "stream-memory": (0.85, 1.0),
    "wave": (0.45, 0.8),
    "cache-bytes": (0.6, 0.75),
    "opens": (0.35, 0.7),
    "acks": (0.4, 0.7),
    "hung-get": (0.33, 1.0),
}


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line chose. ``run``: which of the runs that a floor is judged on."""

    five_million: bool = False
    run: int = 0


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table. ``ratio`` is better the larger it is; ``detail`` says what was
    measured, in units."""

    name: str
    ratio: float
    detail: str

    @property
    def held(self) -> bool:
        return self.ratio >= BUDGETS[self.name][0]

    def line(self) -> str:
        mark = "" if self.held else "  UNDER ITS FLOOR"
        figures = " ".join(map(_figure, (self.ratio, *BUDGETS[self.name])))
        return f"{self.name:<15} {figures}  {self.detail}{mark}"


def judged(measure: Callable[[Options], Row], options: Options, *, once: bool) -> Row:
    """The median of three runs, for ratios have a wide noise on a shared machine. Where two
    have the same verdict the third cannot change it, and is left out: then the lower one."""
    rows: list[Row] = []
    for run in range(1 if once else 3):
        rows.append(measure(replace(options, run=run)))
        if len(rows) == 2 and rows[0].held == rows[1].held:
            break
    rows.sort(key=attrgetter("ratio"))
    middle = rows[(len(rows) - 1) // 2]
    if len(rows) == 1:
        return middle
    runs = " ".join(f"{row.ratio:.2f}" for row in rows)
    return replace(middle, detail=f"{middle.detail} (runs {runs})")


HEAD = f"{'name':<15} {'ratio':>6} {'floor':>6} {'aim':>6}  detail"


def _figure(value: float) -> str:
    return f"{value:6.1f}" if value >= 10 else f"{value:6.2f}"


class Pair(NamedTuple):
    """The medians of both sides, and that of their ratio within a turn: a shared machine changes
    its speed by half for seconds at a time, and so both sides of a turn alike."""

    ours: float
    bare: float
    ratio: float

    @classmethod
    def of(cls, turns: list[tuple[float, float]]) -> Pair:
        ours, bare = zip(*turns, strict=True)
        return cls(median(ours), median(bare), median(o / b for o, b in turns))


def alternate(rounds: int, ours: Callable[[], float], bare: Callable[[], float]) -> Pair:
    """Let both sides measure themselves in turns, after one turn each that does not count."""
    ours(), bare()
    return Pair.of([(ours(), bare()) for _ in range(rounds)])


async def alternate_async(
    rounds: int, ours: Callable[[], Awaitable[float]], bare: Callable[[], Awaitable[float]]
) -> Pair:
    """The same for sides that wait for others."""
    await ours()
    await bare()
    return Pair.of([(await ours(), await bare()) for _ in range(rounds)])
