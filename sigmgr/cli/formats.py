"""The choices and help texts of sig formats for commands, from the registry."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final, Literal

import typer

from sigmgr.cli import output
from sigmgr.model.usersig import FORMATS
from sigmgr.model.usersig.formats import SigFormat

if TYPE_CHECKING:
    Name = str
else:
    Name = Literal[tuple(one.name for one in FORMATS)]

Format = Annotated[
    Name,
    typer.Option(
        "--format", help=f"{', '.join(f'{one.name} is {one.algorithm}' for one in FORMATS)}."
    ),
]
_PUBLIC = " or ".join(f"{one.hints.noun} ({one.name})" for one in FORMATS)
_PRIVATE = " or ".join(f"{one.hints.private_noun} ({one.name})" for one in FORMATS)
PRIVATE_FILE: Final = f"{_PRIVATE[0].upper()}{_PRIVATE[1:]}; - is stdin."
PUBLIC_FILE: Final = f"{_PUBLIC[0].upper()}{_PUBLIC[1:]}; - is stdin."


def _curves(first: str, *others: str) -> str:
    return " or ".join([f"{first} (default)", *others])


Curve = Annotated[
    str | None,
    typer.Option(
        "--curve",
        metavar="CURVE",
        help=" ".join(f"For {one.name}: {_curves(*one.curves)}." for one in FORMATS if one.curves),
    ),
]


def chosen(name: str, curve: str | None) -> SigFormat:
    """The format to make a key of. Raises Misuse for a curve where it has none."""
    form = FORMATS.named(name)
    if curve is not None and not form.curves:
        raise output.Misuse(f"a {name} key has no curve", "Leave out --curve.")
    return form
