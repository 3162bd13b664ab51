"""Each kind of fault on a snippet, and what is left alone."""

from __future__ import annotations

import ast
import textwrap

import pytest

from tests.mutants.operators import mutants


def made(source: str) -> set[str]:
    return {one.what for one in mutants("m.py", textwrap.dedent(source).encode())}


@pytest.mark.parametrize(
    ("source", "faults"),
    [
        ("x = a < b <= c", {"a < b <= c -> a <= b <= c", "a < b <= c -> a < b < c"}),
        ("x = a is None", {"a is None -> a is not None"}),
        ("x = a in b", {"a in b -> a not in b"}),
        ("x = a and b or c", {"a and b or c -> (a and b) and c", "a and b -> a or b"}),
        ("x = not a", {"not a -> a"}),
        ("x = a + b", {"a + b -> a - b"}),
        ("x = -a", {"-a -> a"}),
        ("x += a", {"x += a -> x -= a"}),
        ("x = 7", {"7 -> 8"}),
        ("x = 0.5", {"0.5 -> 1.0"}),
        ("x = 0.0", {"0.0 -> 1.0"}),
        ("x = True", {"True -> False"}),
        ("x = min(a)", {"min(a) -> max(a)"}),
        ("x = any(a)", {"any(a) -> all(a)"}),
        ("x = a if b else c", {"b -> True", "b -> False"}),
        ("x = [a for a in b if c]", {"c -> True", "c -> False"}),
        ("if a: b = c", {"a -> True", "a -> False"}),
        ("if a := b: c = a", {"(a := b) -> False"}),
        ("while a: b = c", {"a -> False"}),
        ("while True: break", {"break -> continue"}),
        ("for a in b: continue", {"continue -> break"}),
        ("f(a)", {"f(a) -> pass"}),
        ("async def f(): await g()", {"await g() -> pass"}),
        ("raise Gone", {"raise Gone -> pass"}),
        ("del a[b]", {"del a[b] -> pass"}),
        ("a.b = c", {"a.b = c -> pass"}),
        ("a[b]: int = c", {"a[b]: int = c -> pass"}),
        ("def f(a=1): pass", {"1 -> 2"}),
        ("def f(*, a=True): pass", {"True -> False"}),
        ("def f() -> int | None: return a", {"a -> None"}),
        ("def f() -> bool: return g()", {"g() -> not g()"}),
        ("match a:\n    case 1 if b: c = a", {"b -> True", "b -> False"}),
    ],
)
def test_a_fault_of_its_kind(source: str, faults: set[str]) -> None:
    assert made(source) == faults


@pytest.mark.parametrize(
    "source",
    [
        '"""Words."""',
        '__all__ = ["a"]',
        "import a",
        "x: Literal[1, 2]",
        "X = A | B",
        "x = a + 'text'",
        "x = f'{a + 1}'",
        "assert a < b",
        "raise NotImplementedError",
        "log.info('said', count=1)",
        "self._log.error(1 + 2)",
        "log_unexpected(1)",
        "if a: log.info(b)",
        "if TYPE_CHECKING: x = 1",
        "class A(Protocol):\n    def f(self, a=1): ...",
        "@dataclass(frozen=True)\nclass A: b: int",
        "def f(a: Literal[1]) -> A | B: return a",
        "def f() -> int: return a",
        "def f() -> int | None: return None",
        "class A:\n    def __init__(self): self.a = b",
    ],
)
def test_left_alone(source: str) -> None:
    assert made(source) == set()


SPREAD = """\
def f(größe, other):
    # 'ö' has two bytes
    if größe < 1 and (
        other
        > 2
    ):
        g(
            größe,
        )
    return größe
"""


def test_every_fault_parses_and_keeps_the_lines() -> None:
    source = SPREAD.encode()
    found = mutants("m.py", source)
    assert len(found) == 8
    for one in found:
        changed = one.applied(source)
        assert changed.count(b"\n") == source.count(b"\n")
        assert ast.dump(ast.parse(changed)) != ast.dump(ast.parse(source))
        assert changed.endswith("return größe\n".encode())


def test_a_fault_says_where_it_is() -> None:
    source = "class A:\n    async def f(self):\n        x = (1 if self.a\n             else b)\n"
    [true, *_] = [
        one for one in mutants("sigmgr/model/m.py", source.encode()) if "True" in one.what
    ]
    assert (true.function, true.text, true.room) == ("A.f", "x = (1 if self.a", "model")
    assert (true.lines, true.statement, true.inside) == ((3, 3), (3, 4), True)


def test_the_statement_of_a_test_is_its_head() -> None:
    source = "def f():\n    if (a and\n            b):\n        c = d\n        e = 1\n"
    found = {one.what: one.statement for one in mutants("m.py", source.encode())}
    assert found["a and b -> a or b"] == (2, 3)
    assert found["1 -> 2"] == (5, 5)
