"""The demo's output: pure functions that make text, in lines of up to 80 columns.

``verdict`` is the exit status: 0 where there are no ``faults``. Unacked renewals of the last two
seconds count as in flight and are none; the summary names them.
"""

from __future__ import annotations

from typing import TextIO

from rich.console import Console
from rich.text import Text

from sigmgr.sim.fleet import IN_FLIGHT_SECONDS
from sigmgr.sim.stats import Stats


def header(url: str, clients: int, apps: int, ttl: int) -> list[str]:
    return [
        f"sigmgr demo: {clients} emulated clients of {apps} apps, served by {url}",
        f"Each holds a sig that lives {ttl} s. At 60-73 % of that life sigmgr makes the next",
        "one and pushes it; the client acks it and signs in with it before the old dies.",
        '"kicked" counts clients thrown out because their sig ran out; it must stay at 0.',
        f"Look around: {url}/docs   Stop: Ctrl-C",
    ]


def status_line(elapsed: int, now: int, stats: Stats) -> str:
    """One second of the demo; ``next`` is when the next session would end."""
    minutes, seconds = divmod(elapsed, 60)
    left = "-" if stats.next_expiry is None else f"{stats.next_expiry - now}s"
    return (
        f"{minutes:02d}:{seconds:02d}  online {stats.online:>3}  renewed {stats.renewed:>4}"
        f"  acked {stats.acked:>4}  kicked {stats.kicked}  reconnects {stats.reconnects:>2}"
        f"  next {left:>3}"
    )


def faults(stats: Stats) -> list[str]:
    """Every reason why the run does not count as a success; empty when it does."""
    lost = stats.renewed - stats.acked - stats.in_flight
    found = [
        (stats.renewed == 0, "no sig was renewed (a run must outlast two thirds of a life)"),
        (stats.kicked > 0, f"{stats.kicked} clients were kicked because their sig expired"),
        (lost > 0, f"{lost} renewals were never acked"),
        (stats.went_back > 0, f"{stats.went_back} times an older sig was offered"),
        (stats.bad_sigs > 0, f"{stats.bad_sigs} sigs did not verify"),
    ]
    return [text for is_so, text in found if is_so]


def verdict(stats: Stats) -> int:
    return 1 if faults(stats) else 0


def summary(elapsed: int, stats: Stats) -> list[str]:
    again, late = stats.reconnects, stats.short_remaining
    in_flight = f"({stats.in_flight} in flight in the last {IN_FLIGHT_SECONDS} s)"
    lines = [
        "",
        f"{elapsed} s: {stats.clients} clients, {stats.logins} logins, {again} reconnects",
        f"renewed {stats.renewed}, acked {stats.acked} {in_flight}, kicked {stats.kicked}",
        f"older sigs offered {stats.went_back}, not verified {stats.bad_sigs}, late {late}",
    ]
    if stats.errors:
        most = stats.errors.most_common(5)
        lines.append("errors: " + ", ".join(f"{code} {count}" for code, count in most))
    wrong = faults(stats)
    if wrong:
        return [*lines, *(f"FAILED: {text}" for text in wrong)]
    return [*lines, "OK: every sig was replaced in time, and no client was kicked."]


class Printer:
    """Lines to a terminal; plain text where the stream is none."""

    def __init__(self, stream: TextIO) -> None:
        self._console = Console(file=stream, highlight=False)

    def __call__(self, line: str) -> None:
        self._console.print(coloured(line), soft_wrap=True)


def coloured(line: str) -> Text:
    text = Text(line)
    text.highlight_regex(r"kicked 0\b", "green")
    text.highlight_regex(r"kicked [1-9]\d*", "bold red")
    text.highlight_regex(r"(renewed|acked) +\d+", "cyan")
    text.highlight_regex(r"^\d\d:\d\d", "dim")
    text.highlight_regex(r"^(sigmgr demo|OK)\b", "bold green")
    text.highlight_regex(r"^FAILED.*", "bold red")
    return text
