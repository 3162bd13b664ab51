"""A mutant: one small fault in one file, as an edit of a span of its source.

The edit keeps the number of lines, so that everything after it stays on its line.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from types import CodeType

#: A description is cut here; a longer expression is known by its beginning.
LONGEST = 160


@dataclass(frozen=True)
class Mutant:
    """``file`` is relative to the root, ``function`` is dotted, and empty for a module's own
    lines. ``text`` is the line without its indent, ``what`` says ``before -> after``. ``lines``
    are those of the changed node, ``statement`` those of the statement around it."""

    file: str
    function: str
    text: str
    what: str
    start: int
    end: int
    after: bytes
    lines: tuple[int, int]
    statement: tuple[int, int]
    inside: bool

    @property
    def line(self) -> int:
        return self.lines[0]

    @property
    def room(self) -> str:
        """``model`` of ``sigmgr/model/usersig/v1.py``."""
        parts = self.file.split("/")
        return parts[1] if len(parts) > 2 else parts[0]

    @property
    def key(self) -> tuple[str, str, str, str]:
        """What an equivalent is known by: words, no line number."""
        return self.file, self.function, self.text, self.what

    def applied(self, source: bytes) -> bytes:
        return source[: self.start] + self.after + source[self.end :]


class Text:
    """A source, and where its nodes lie in it."""

    def __init__(self, source: bytes) -> None:
        self.source = source
        self.lines = source.splitlines(keepends=True)
        self._starts = [0]
        for line in self.lines:
            self._starts.append(self._starts[-1] + len(line))

    def span(self, node: ast.stmt | ast.expr) -> tuple[int, int]:
        """Columns count bytes of UTF-8."""
        last, column = node.end_lineno, node.end_col_offset
        assert last is not None
        assert column is not None
        return self._starts[node.lineno - 1] + node.col_offset, self._starts[last - 1] + column

    def line(self, number: int) -> str:
        return self.lines[number - 1].decode().strip()


def padded(node: ast.stmt | ast.expr, text: str) -> bytes:
    """The text with as many lines as the node had: in brackets for an expression, with empty
    lines behind a statement."""
    more = "\n" * ((node.end_lineno or node.lineno) - node.lineno)
    return (f"({text}{more})" if isinstance(node, ast.expr) else text + more).encode()


def short(text: str) -> str:
    """A description on one line."""
    text = " ".join(text.split())
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


Key = tuple[str, int]


def functions_of(code: CodeType) -> dict[Key, CodeType]:
    """All functions inside of a module's code, by qualified name and first line."""
    found: dict[Key, CodeType] = {}
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            if _is_function(constant):
                found[constant.co_qualname, constant.co_firstlineno] = constant
            found.update(functions_of(constant))
    return found


def exchange(old: bytes, new: bytes, file: str) -> dict[Key, CodeType] | None:
    """The functions whose code differs. None where the module's own code differs, or where a
    function that lives cannot take the new code."""
    before, after = compile(old, file, "exec"), compile(new, file, "exec")
    if _own(before) != _own(after):
        return None
    was, now = functions_of(before), functions_of(after)
    changed = {key: code for key, code in now.items() if key in was and code != was[key]}
    if any(code.co_freevars != was[key].co_freevars for key, code in changed.items()):
        return None
    return changed or None


def _own(code: CodeType) -> tuple[object, ...]:
    """What a module or a class body does by itself, with the same of the classes in it. The code
    of functions is left out; what is evaluated with their ``def`` is not."""
    own = [_own(one) if _is_class(one) else one for one in code.co_consts if not _is_function(one)]
    return code.co_code, code.co_names, *own


def _is_class(constant: object) -> bool:
    return isinstance(constant, CodeType) and "__module__" in constant.co_names


def _is_function(constant: object) -> bool:
    return isinstance(constant, CodeType) and not _is_class(constant)
