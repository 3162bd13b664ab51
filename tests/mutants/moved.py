"""Lines of a source that has changed since it was recorded.

A function whose text is the same has moved as a whole. Of one whose text is another, all of its
lines are meant: whoever executed any of them may notice.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable
from functools import cache


def lines_before(old: bytes, new: bytes, function: str, lines: Iterable[int]) -> set[int] | None:
    """The lines in ``old`` of these lines of a function in ``new``; None where it is new."""
    if old == new:
        return set(lines)
    was, now = _functions(old).get(function), _functions(new).get(function)
    if was is None or now is None:
        return None
    if _text(old, was) == _text(new, now):
        return {line - now[0] + was[0] for line in lines}
    return set(range(was[0] + 1, was[1] + 1))


@cache
def _functions(source: bytes) -> dict[str, tuple[int, int]]:
    """First and last line of each, by dotted name. Of two with one name the last counts."""
    found: dict[str, tuple[int, int]] = {}
    _note(ast.parse(source), "", found)
    return found


def _note(node: ast.AST, above: str, found: dict[str, tuple[int, int]]) -> None:
    for child in ast.iter_child_nodes(node):
        name = above
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            name = f"{above}.{child.name}" if above else child.name
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            found[name] = (child.lineno, child.end_lineno or child.lineno)
        _note(child, name, found)


def _text(source: bytes, span: tuple[int, int]) -> list[bytes]:
    return source.splitlines()[span[0] - 1 : span[1]]
