"""The output of commands: data on standard output, everything else on standard error.

Rules:
1. Standard output has the answer only, so that it can be piped: a sig, a table, JSON.
2. An error is three short parts: what happened, its stable code, and what to do. Never a traceback
   (except with ``--debug``), never a secret.
3. Lines of prose fit 80 columns; colour only on a terminal.
"""

from __future__ import annotations

import json
import sys
import textwrap
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

from sigmgr.model import errors
from sigmgr.model.shown import masked

T = TypeVar("T")

WIDTH = 80
_RED, _YELLOW, _PLAIN = "\x1b[31m", "\x1b[33m", "\x1b[0m"
_DAY, _HOUR, _MINUTE = 86400, 3600, 60

#: Advice for a shell where the general one is about HTTP.
_IN_A_SHELL = {
    errors.HolderUnknown.code: "Issue the first one: sigmgr issue SDKAPPID USERID",
    errors.AlreadyReplaced.code: "See the current one: sigmgr issue SDKAPPID USERID",
    errors.RevokePause.code: "Try again in a few seconds.",
    errors.StoreUnavailable.code: "Try again in a moment; see 'sigmgr doctor' for the cause.",
}


class Misuse(errors.InputError):
    """The command line asks for what cannot be done; ``hint``: what can."""

    code = "usage"

    def __init__(self, text: str, hint: str) -> None:
        super().__init__(text, advice=hint)


def print_line(text: str) -> None:
    print(text)


def print_json(data: Any) -> None:
    """The answer for programs; ASCII, so that no text in it can control a terminal."""
    print(json.dumps(data, indent=2))


def print_table(rows: Sequence[tuple[str, str]]) -> None:
    """The answer for people: names on the left, values on the right."""
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        print(f"{name:<{width}}  {value}")


def listing(
    items: Sequence[T],
    as_json: bool,
    shown: Callable[[T], Any],
    line: Callable[[T], str],
    none: str,
) -> None:
    """All items, as JSON or a line each; ``none``: the note where there are none."""
    if as_json:
        print_json([shown(item) for item in items])
        return
    for item in items:
        print_line(line(item))
    if not items:
        note(f"There are none yet. Next: {none}")


def note(text: str) -> None:
    _prose(text, sys.stderr.isatty(), "", "")


def warn(text: str) -> None:
    """A warning: it works but should be changed."""
    _prose(text, sys.stderr.isatty(), "warning: ", _YELLOW)


def complain(text: str, code: str, advice: str) -> None:
    colour = sys.stderr.isatty()
    _prose(text, colour, "error: ", _RED)
    _prose(code, colour, "  code: ", "")
    _prose(advice, colour, "  what to do: ", "")


def complain_about(error: errors.SigmgrError) -> None:
    remedy = error.remedy if isinstance(error, errors.StoreUnavailable) else ""
    complain(str(error), error.code, remedy or _IN_A_SHELL.get(error.code) or error.advice)


def iso(seconds: int) -> str:
    """Unix seconds as UTC text; a foreign sig may contain any number."""
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (ValueError, OverflowError, OSError):
        return f"{seconds} (no date)"


def duration(seconds: int) -> str:
    """A duration in its two largest units: ``89 d 23 h``, ``5 min 10 s``."""
    days, rest = divmod(abs(seconds), _DAY)
    hours, rest = divmod(rest, _HOUR)
    minutes, left = divmod(rest, _MINUTE)
    parts = [(days, "d"), (hours, "h"), (minutes, "min"), (left, "s")]
    first = next((at for at, (count, _) in enumerate(parts) if count), len(parts) - 1)
    return " ".join(f"{count} {unit}" for count, unit in parts[first : first + 2] if count) or "0 s"


def remaining(left: int) -> str:
    """The duration for which a sig is still valid, or since when it is not."""
    return duration(left) if left > 0 else f"expired {duration(left)} ago"


def wrapped(text: str, label: str) -> str:
    """Lines of prose behind a label; no word of them is broken."""
    return textwrap.fill(
        text,
        WIDTH,
        initial_indent=label,
        subsequent_indent=" " * len(label),
        break_on_hyphens=False,
        break_long_words=False,
    )


def _prose(text: str, colour: bool, label: str, paint: str) -> None:
    """Misplaced secrets, as in a mistyped command line, are masked."""
    shown = wrapped(masked(text), label) or label
    if colour and paint:
        shown = f"{paint}{label}{_PLAIN}{shown[len(label) :]}"
    print(shown, file=sys.stderr)
