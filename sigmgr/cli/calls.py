"""Shared by the service commands: common options, and running a command with its parts."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from sigmgr.cli import output
from sigmgr.cli.frame import NEGATIVE
from sigmgr.model import errors
from sigmgr.model.numbers import decimal, whole
from sigmgr.model.shown import MOST_SHOWN, credential, shown
from sigmgr.model.ttl import MAX_TTL

if TYPE_CHECKING:
    from sigmgr.model.policy import Policy
    from sigmgr.settings import Settings
    from sigmgr.wiring.base import Base
    from sigmgr.wiring.parts import Parts

P = TypeVar("P")
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
_DURATION = re.compile(r"([0-9]+)([smhd]?)")
#: A longer number is out of every range.
_MOST_DIGITS = 25


def name_for_people(text: str) -> str:
    """A name of an application or a token. It is shown in lists, so it must not be a secret."""
    if credential(text) or len(text) > MOST_SHOWN or not text.isprintable():
        raise ValueError(f"{shown(text)} is no name; write a few words, without secrets")
    return text


_NAME = typer.Option("--name", metavar="TEXT", parser=name_for_people, help="A name for people.")
Name = Annotated[str, _NAME]
NewName = Annotated[str | None, _NAME]


def settings_of(config: str | None) -> Settings:
    from sigmgr import settings, telemetry

    loaded = settings.load(config)
    telemetry.configure_logging(level="warning")
    return loaded


def with_base(config: str | None, work: Callable[[Base], Awaitable[T]]) -> T:
    from sigmgr.wiring.base import open_base

    return asyncio.run(_within(open_base(settings_of(config)), work))


def with_parts(config: str | None, work: Callable[[Parts], Awaitable[T]]) -> T:
    """Run ``work`` that issues or revokes, over the database, Redis and the flows."""
    from sigmgr.wiring.parts import open_parts

    return asyncio.run(_within(open_parts(settings_of(config)), work))


async def _within(opening: AbstractAsyncContextManager[P], work: Callable[[P], Awaitable[T]]) -> T:
    async with opening as parts:
        return await work(parts)


def duration(text: str, *, bare: bool = False) -> int:
    """Whole seconds from ``90s``, ``15m``, ``6h`` or ``90d``. A number without a unit is refused,
    since it may mean days or seconds; with ``bare`` it means seconds."""
    found = _DURATION.fullmatch(text.strip().lower())
    if not found:
        or_seconds = ", or whole seconds" if bare else ""
        raise output.Misuse(
            f"{shown(text)} is no duration", f"Write 30s, 15m, 6h, 90d{or_seconds}."
        )
    digits, unit = found[1].lstrip("0"), found[2]
    number = int(digits[:_MOST_DIGITS] or 0)
    if number and not unit and not bare:
        raise output.Misuse(
            f"{number} has no unit: is it {number} seconds or {number} days?",
            f"Write {number}s or {number}d; m is for minutes, h for hours.",
        )
    return number * _UNITS[unit or "s"]


def changed_policy(policy: Policy, ttl: str | None, room_ttl: str | None, extra: list[str]) -> Any:
    """The policy with the options' changes. Raises Misuse or BadTtl."""
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
    """The value by the setting's type: a count, a share, a duration or several."""
    from sigmgr.model.policy import COUNTS

    try:
        if name in COUNTS:
            return whole(text)
        if isinstance(now, float):
            return decimal(text)
    except ValueError as error:
        hint = "Write a number such as 50." if name in COUNTS else "Write a share such as 0.6."
        raise output.Misuse(f"{name}: {error}", hint) from None
    if name in {"ttl", "room_ttl"}:
        return duration(text)  # has a range of its own
    return tuple(map(_bounded, text.split(","))) if isinstance(now, tuple) else _bounded(text)


def _bounded(text: str) -> int:
    seconds = duration(text)
    if seconds > MAX_TTL:
        raise output.Misuse("a duration has at most ten years", "Write such as 90d.")
    return seconds


def ask(warnings: Sequence[str], *, yes: bool, force: bool | None = None) -> None:
    """Go on where all confirmations are given; otherwise print the warnings and exit. ``force``
    None: --yes is enough."""
    lacking = [option for option, given in (("--yes", yes), ("--force", force)) if given is False]
    if not warnings or not lacking:
        return
    for line in warnings:
        output.note(line)
    output.note(f"Nothing was changed. Add {' and '.join(lacking)} to do it.")
    raise typer.Exit(NEGATIVE)
