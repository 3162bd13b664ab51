"""Names are those of the field: words that need a glossary do not come back."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.architecture.sources import ROOT, modules, name, tracked, tree

#: Each was a private word for something that has a usual name.
RETIRED = frozenset({
    "courier", "desk", "doors", "farewell", "hear", "heard", "letter", "rota", "roster", "said",
    "says", "tell", "teller", "telling", "told", "weather", "witness", "witnessed",
})  # fmt: skip


@pytest.mark.parametrize("path", modules(), ids=name)
def test_no_identifier_is_a_retired_word(path: Path) -> None:
    found = {
        identifier: node.lineno
        for node in ast.walk(tree(path))
        for field in ("name", "id", "attr", "arg")
        if isinstance(identifier := getattr(node, field, None), str)
        if RETIRED & words(identifier)
    }
    assert not found, f"{name(path)}: {found}"


def test_no_file_is_named_by_a_retired_word() -> None:
    code = [path for path in tracked() if path.suffix == ".py"]
    found = [name(path) for path in code if RETIRED & words(path.relative_to(ROOT).as_posix())]
    assert not found


def words(text: str) -> set[str]:
    """The parts of a name in snake_case, CamelCase or a path, in lower case."""
    return {part.lower() for part in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", text)}


@pytest.mark.parametrize(
    "text", ["Teller", "_told_url", "was_told", "sigmgr/store/told.py", "DESK"]
)
def test_a_retired_word_is_found_in_a_name(text: str) -> None:
    assert RETIRED & words(text)


@pytest.mark.parametrize("text", ["desktop", "heartbeat", "shear", "dictionary", "outdoors"])
def test_a_longer_word_is_another_word(text: str) -> None:
    assert not RETIRED & words(text)
