"""Mutants that no test can notice, each with its reason."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tests.mutants.mutant import Mutant

FILE = Path(__file__).with_name("equivalent.toml")


@dataclass(frozen=True)
class Equivalent:
    """Known by its words, so that lines may move. An empty ``function`` is the module."""

    file: str
    function: str
    line: str
    mutation: str
    reason: str

    @property
    def key(self) -> tuple[str, str, str, str]:
        return self.file, self.function, self.line, self.mutation


def listed(path: Path = FILE) -> dict[tuple[str, str, str, str], Equivalent]:
    """All entries. Raises TypeError for one with a field too many or too few."""
    if not path.is_file():
        return {}
    entries = tomllib.loads(path.read_text()).get("equivalent", [])
    return {one.key: one for one in (Equivalent(**entry) for entry in entries)}


def unmatched(entries: Iterable[Equivalent], mutants: Iterable[Mutant]) -> list[Equivalent]:
    """Entries whose mutant is not there any more."""
    there = {mutant.key for mutant in mutants}
    return [one for one in entries if one.key not in there]
