"""What the service commands share: the --config option, and running a story with parts."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from sigmgr.cli import output
from sigmgr.cli.numbers import whole
from sigmgr.model import errors
from sigmgr.model.shown import shown

if TYPE_CHECKING:
    from sigmgr.model.policy import Policy
    from sigmgr.settings import Settings
    from sigmgr.wiring import Base, Desk

T = TypeVar("T")

Config = Annotated[
    str | None,
    typer.Option("--config", metavar="FILE", help="Settings in TOML; see config/ for examples."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do it; without this it is only shown.")]
AppId = Annotated[
    int, typer.Argument(metavar="SDKAPPID", parser=whole, help="The application's number.")
]

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_DURATION = re.compile(r"([0-9]{1,12})([smhd]?)")


def settings_of(config: str | None) -> Settings:
    """Settings, with logs of a command kept to warnings."""
    from sigmgr import settings, telemetry

    loaded = settings.load(config)
    telemetry.configure_logging(level="warning")
    return loaded


def with_base(config: str | None, story: Callable[[Base], Awaitable[T]]) -> T:
    """Run a story over the database, the keys and the apps."""
    from sigmgr import wiring

    loaded = settings_of(config)

    async def run() -> T:
        async with wiring.open_base(loaded) as base:
            return await story(base)

    return asyncio.run(run())


def with_desk(config: str | None, story: Callable[[Desk], Awaitable[T]]) -> T:
    """Run a story that issues or revokes: the flows over database and Redis."""
    from sigmgr import wiring

    loaded = settings_of(config)

    async def run() -> T:
        async with wiring.open_desk(loaded) as desk:
            return await story(desk)

    return asyncio.run(run())


def duration(text: str, *, bare: bool = False) -> int:
    """Whole seconds from ``90s``, ``15m``, ``6h`` or ``90d``. A number without a unit is
    refused, since people mean days and seconds by it; ``bare``: it is seconds."""
    found = _DURATION.fullmatch(text.strip().lower())
    if not found:
        or_seconds = ", or whole seconds" if bare else ""
        raise output.Misuse(
            f"{shown(text)} is no duration", f"Write 30s, 15m, 6h, 90d{or_seconds}."
        )
    number, unit = int(found[1]), found[2]
    if number and not unit and not bare:
        raise output.Misuse(
            f"{number} has no unit: is it {number} seconds or {number} days?",
            f"Write {number}s or {number}d; m is for minutes, h for hours.",
        )
    return number * _UNITS[unit or "s"]


def changed_policy(policy: Policy, ttl: str | None, room_ttl: str | None, extra: list[str]) -> Any:
    """The policy with what the options say. Raises Misuse or BadTtl."""
    from dataclasses import fields, replace

    changes: dict[str, Any] = {}
    if ttl is not None:
        changes["ttl"] = duration(ttl)
    if room_ttl is not None:
        changes["room_ttl"] = duration(room_ttl)
    names = {field.name for field in fields(policy)}
    for item in extra:
        name, _, value = item.partition("=")
        if name not in names or not value:
            raise output.Misuse(
                f"{shown(item)} is no policy setting",
                f"Write NAME=VALUE with NAME one of: {', '.join(sorted(names))}.",
            )
        changes[name] = _policy_value(name, getattr(policy, name), value)
    try:
        return replace(policy, **changes)
    except errors.BadSettings as error:
        hint = "Correct the value; see 'sigmgr app show' for what is set."
        raise output.Misuse(error.text, hint) from None


def _policy_value(name: str, now: Any, text: str) -> Any:
    from sigmgr.model.policy import COUNTS

    try:
        if name in COUNTS:
            return int(text)
        if isinstance(now, tuple):
            return tuple(duration(part) for part in text.split(","))
        return float(text) if isinstance(now, float) else duration(text)
    except ValueError:
        raise output.Misuse(f"{shown(text)} is no number", "Write a share such as 0.6.") from None


def held_back(what: str, yes: bool) -> bool:
    """Show what would be done; True where --yes is missing, so nothing may be done."""
    if yes:
        return False
    output.note(what)
    output.note("Nothing was changed. Add --yes to do it.")
    return True
