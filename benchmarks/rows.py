"""What a benchmark answers, and how two sides take turns."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from statistics import median
from typing import NamedTuple


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line chose."""

    five_million: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table. ``ratio`` is better the larger it is; ``detail`` says what was
    measured, in units."""

    name: str
    ratio: float
    floor: float
    aim: float
    detail: str

    @property
    def held(self) -> bool:
        return self.ratio >= self.floor

    def line(self) -> str:
        mark = "" if self.held else "  UNDER ITS FLOOR"
        figures = " ".join(map(_figure, (self.ratio, self.floor, self.aim)))
        return f"{self.name:<15} {figures}  {self.detail}{mark}"


HEAD = f"{'name':<15} {'ratio':>6} {'floor':>6} {'aim':>6}  detail"


def _figure(value: float) -> str:
    return f"{value:6.1f}" if value >= 10 else f"{value:6.2f}"


class Pair(NamedTuple):
    """The medians of both sides."""

    ours: float
    bare: float


def alternate(rounds: int, ours: Callable[[], float], bare: Callable[[], float]) -> Pair:
    """Let both sides measure themselves in turns, after one turn each that does not count."""
    ours(), bare()
    found = [(ours(), bare()) for _ in range(rounds)]
    return Pair(median(o for o, _ in found), median(b for _, b in found))


async def alternate_async(
    rounds: int, ours: Callable[[], Awaitable[float]], bare: Callable[[], Awaitable[float]]
) -> Pair:
    """The same for sides that wait for others."""
    await ours()
    await bare()
    found = [(await ours(), await bare()) for _ in range(rounds)]
    return Pair(median(o for o, _ in found), median(b for _, b in found))
