"""Which faults there are, and where a file can have them.

Left alone: docstrings, annotations, decorators, ``__all__``, Protocols, log lines, the text of
errors, ``assert`` and ``raise NotImplementedError``. What only the type checker would notice is
no fault either: ``return x`` turns into ``return None`` only where None may be returned.
"""

from __future__ import annotations

import ast
import copy
import re
from collections.abc import Iterator

from tests.mutants.mutant import Mutant, Text, padded, short

_COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
_ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.FloorDiv,
    ast.FloorDiv: ast.Mult,
    ast.Div: ast.Mult,
    ast.Mod: ast.FloorDiv,
    ast.Pow: ast.Mult,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.BitXor: ast.BitOr,
}
_CALLED = {"min": "max", "max": "min", "any": "all", "all": "any"}
_LOG = re.compile(r"_?log(ger)?(_[a-z]+)?")
_TEXTS = (ast.JoinedStr, ast.List, ast.Tuple, ast.ListComp)
_Function = ast.FunctionDef | ast.AsyncFunctionDef
_Loop = ast.For | ast.AsyncFor | ast.While


def mutants(file: str, source: bytes) -> list[Mutant]:
    """All mutants of a file, in the order of its lines."""
    finder = _Finder(file, Text(source))
    finder.visit(ast.parse(source))
    return sorted(finder.found, key=lambda one: (one.start, one.end, one.what))


def is_log(node: ast.AST) -> bool:
    """``log.info(...)``, ``self._log.error(...)``, ``log_unexpected(...)``."""
    if not isinstance(node, ast.Call):
        return False
    names: list[str] = []
    called: ast.AST = node.func
    while isinstance(called, ast.Attribute):
        names.append(called.attr)
        called = called.value
    if isinstance(called, ast.Name):
        names.append(called.id)
    return any(_LOG.fullmatch(name) for name in names)


class _Finder(ast.NodeVisitor):
    def __init__(self, file: str, text: Text) -> None:
        self.found: list[Mutant] = []
        self._file = file
        self._text = text
        self._names: list[str] = []
        self._functions: list[_Function] = []
        self._statement: ast.stmt | None = None

    def _add(self, node: ast.stmt | ast.expr, new: ast.AST | str) -> None:
        """A fault that puts ``new`` in the place of ``node``."""
        after = new if isinstance(new, str) else ast.unparse(new)
        start, end = self._text.span(node)
        around = self._statement or node
        self.found.append(
            Mutant(
                file=self._file,
                function=".".join(self._names),
                text=self._text.line(node.lineno),
                what=short(f"{ast.unparse(node)} -> {after}"),
                start=start,
                end=end,
                after=padded(node, after),
                lines=(node.lineno, node.end_lineno or node.lineno),
                statement=(around.lineno, _end_of_head(around)),
                inside=bool(self._functions),
            )
        )

    # -- where to look ---------------------------------------------------------------------

    def visit(self, node: ast.AST) -> None:
        if isinstance(node, ast.stmt):
            above, self._statement = self._statement, node
            super().visit(node)
            self._statement = above
        else:
            super().visit(node)

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        if any("Protocol" in _words(base) for base in node.bases):
            return
        self._names.append(node.name)
        self._each(node.body)
        self._names.pop()

    def _function(self, node: _Function) -> None:
        self._each(node.args.defaults)
        self._each([one for one in node.args.kw_defaults if one is not None])
        self._names.append(node.name)
        self._functions.append(node)
        self._each(node.body)
        self._functions.pop()
        self._names.pop()

    visit_FunctionDef = visit_AsyncFunctionDef = _function

    def _each(self, nodes: list[ast.stmt] | list[ast.expr]) -> None:
        for node in nodes:
            self.visit(node)

    def _skip(self, node: ast.AST) -> None:
        """Nothing in here."""

    visit_JoinedStr = visit_Assert = visit_MatchValue = visit_Import = visit_ImportFrom = _skip

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None and not _is_names(node.target):
            self._dropped_assignment(node, [node.target])
            self.visit(node.value)

    def visit_Subscript(self, node: ast.Subscript) -> None:
        if not {"Literal", "Annotated"} & _words(node.value):
            self.generic_visit(node)

    # -- statements ------------------------------------------------------------------------

    def visit_Expr(self, node: ast.Expr) -> None:
        value = node.value.value if isinstance(node.value, ast.Await) else node.value
        if not isinstance(value, ast.Call) or is_log(value):
            return
        self._add(node, "pass")
        self.generic_visit(node)

    def visit_Raise(self, node: ast.Raise) -> None:
        if node.exc is not None and "NotImplementedError" in _words(node.exc):
            return
        self._add(node, "pass")
        self.generic_visit(node)

    def visit_Delete(self, node: ast.Delete) -> None:
        if any(isinstance(target, ast.Subscript) for target in node.targets):
            self._add(node, "pass")

    def visit_Break(self, node: ast.Break) -> None:
        self._add(node, "continue")

    def visit_Continue(self, node: ast.Continue) -> None:
        self._add(node, "break")

    def visit_Assign(self, node: ast.Assign) -> None:
        if any(_is_names(target) for target in node.targets):
            return
        self._dropped_assignment(node, node.targets)
        self.visit(node.value)

    def _dropped_assignment(self, node: ast.stmt, targets: list[ast.expr]) -> None:
        """Of a field or an item, not where an object is made."""
        made = self._functions and self._functions[-1].name in {"__init__", "__post_init__"}
        if all(isinstance(one, ast.Attribute | ast.Subscript) for one in targets) and not made:
            self._add(node, "pass")

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        other = _ARITHMETIC.get(type(node.op))
        if other is not None and not _is_text(node.value):
            new = copy.copy(node)
            new.op = other()
            self._add(node, new)
        self.visit(node.value)

    def visit_Return(self, node: ast.Return) -> None:
        value, returns = node.value, self._functions[-1].returns
        if value is None:
            return
        if returns is not None and not isinstance(value, ast.Constant):
            if "None" in _words(returns):
                self._add(value, "None")
            elif _words(returns) == {"bool"} and not _is_test(value):
                self._add(value, f"not {_bracketed(value)}")
        self.generic_visit(node)

    # -- conditions ------------------------------------------------------------------------

    def visit_If(self, node: ast.If) -> None:
        if "TYPE_CHECKING" in _words(node.test):
            return
        only_logs = all(isinstance(one, ast.Expr) and is_log(one.value) for one in node.body)
        if not only_logs or node.orelse:
            self._both(node.test)
            self.generic_visit(node)

    def visit_IfExp(self, node: ast.IfExp) -> None:
        self._both(node.test)
        self.generic_visit(node)

    def visit_While(self, node: ast.While) -> None:
        if not isinstance(node.test, ast.Constant):
            self._add(node.test, "False")
            self.generic_visit(node)
        else:
            self._each(node.body)

    def visit_comprehension(self, node: ast.comprehension) -> None:
        for test in node.ifs:
            self._both(test)
        self.generic_visit(node)

    def visit_match_case(self, node: ast.match_case) -> None:
        if node.guard is not None:
            self._both(node.guard)
            self.visit(node.guard)
        self._each(node.body)

    def _both(self, test: ast.expr) -> None:
        # What gives a name its value cannot go: every test would notice.
        if not any(isinstance(one, ast.NamedExpr) for one in ast.walk(test)):
            self._add(test, "True")
        self._add(test, "False")

    # -- expressions -----------------------------------------------------------------------

    def visit_Compare(self, node: ast.Compare) -> None:
        for i, operator in enumerate(node.ops):
            new = copy.copy(node)
            new.ops = [*node.ops]
            new.ops[i] = _COMPARISONS[type(operator)]()
            self._add(node, new)
        self.generic_visit(node)

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        new = copy.copy(node)
        new.op = ast.And() if isinstance(node.op, ast.Or) else ast.Or()
        self._add(node, new)
        self.generic_visit(node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> None:
        if isinstance(node.op, ast.Not | ast.USub | ast.Invert):
            self._add(node, node.operand)
        self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        other = _ARITHMETIC.get(type(node.op))
        type_only = isinstance(node.op, ast.BitOr) and not self._functions
        if other is not None and not type_only and not _is_text(node.left, node.right):
            new = copy.copy(node)
            new.op = other()
            self._add(node, new)
        self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        if isinstance(node.value, bool):
            self._add(node, repr(not node.value))
        elif isinstance(node.value, int):
            self._add(node, repr(node.value + 1))
        elif isinstance(node.value, float):
            self._add(node, repr(node.value * 2 or 1.0))

    def visit_Call(self, node: ast.Call) -> None:
        if is_log(node):
            return
        if isinstance(node.func, ast.Name) and node.func.id in _CALLED:
            new = copy.copy(node)
            new.func = ast.Name(_CALLED[node.func.id])
            self._add(node, new)
        self.generic_visit(node)


def _words(node: ast.AST) -> set[str]:
    """All names in it, those of annotations in quotes too."""
    return set(re.findall(r"\w+", ast.unparse(node)))


def _is_names(target: ast.expr) -> bool:
    return isinstance(target, ast.Name) and target.id in {"__all__", "__slots__"}


def _is_text(*nodes: ast.expr) -> bool:
    """A text or a list: minus would be a TypeError, which every test notices."""
    return any(
        isinstance(node, _TEXTS)
        or (isinstance(node, ast.Constant) and isinstance(node.value, str | bytes))
        or (isinstance(node, ast.BinOp) and _is_text(node.left, node.right))
        for node in nodes
    )


def _is_test(node: ast.expr) -> bool:
    """Has faults of its own that turn it round."""
    return isinstance(node, ast.Compare | ast.BoolOp) or (
        isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not)
    )


def _bracketed(node: ast.expr) -> str:
    text = ast.unparse(node)
    return text if isinstance(node, ast.Name | ast.Call | ast.Attribute) else f"({text})"


def _end_of_head(node: ast.stmt | ast.expr) -> int:
    """The last line of a statement, of one with a body the last before it."""
    bodies = [one for one in _bodies(node) if isinstance(one, ast.stmt | ast.match_case)]
    if not bodies:
        return node.end_lineno or node.lineno
    first = bodies[0]
    line = first.pattern.lineno if isinstance(first, ast.match_case) else first.lineno
    return max(node.lineno, line - 1)


def _bodies(node: ast.AST) -> Iterator[ast.AST]:
    for field in ("body", "cases"):
        inside = getattr(node, field, [])
        yield from inside if isinstance(inside, list) else []
