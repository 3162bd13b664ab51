"""Which mutants a living function can take, and that it then does the other thing."""

from __future__ import annotations

from types import FunctionType

import pytest

from tests.mutants.mutant import exchange
from tests.mutants.operators import mutants
from tests.mutants.session import take_code

SOURCE = b"""\
LIMIT = 3

class A:
    top = 5

    def of(self, x, least=1):
        return max(x + 1, least)

def outer(f):
    def inner(y):
        if y:
            f(y)
        return y + 2
    return inner
"""


def one(what: str) -> bytes:
    [found] = [mutant for mutant in mutants("m.py", SOURCE) if mutant.what == what]
    return found.applied(SOURCE)


@pytest.mark.parametrize(
    ("what", "functions"),
    [
        ("x + 1 -> x - 1", {("A.of", 6)}),
        ("y + 2 -> y - 2", {("outer", 9), ("outer.<locals>.inner", 10)}),
        ("3 -> 4", None),
        ("5 -> 6", None),
        ("f(y) -> pass", None),
    ],
)
def test_what_living_functions_can_take(what: str, functions: set[object] | None) -> None:
    changed = exchange(SOURCE, one(what), "m.py")
    assert (changed and changed.keys()) == functions


def test_a_default_belongs_to_the_module() -> None:
    [default] = [m for m in mutants("m.py", SOURCE) if m.lines == (6, 6)]
    assert exchange(SOURCE, default.applied(SOURCE), "m.py") is None


def test_a_function_and_what_it_made_take_the_code() -> None:
    there: dict[str, FunctionType] = {}
    exec(compile(SOURCE, "m.py", "exec"), there)
    made = there["outer"](list)
    changed = exchange(SOURCE, one("y + 2 -> y - 2"), "m.py")
    assert changed is not None
    assert take_code([there["outer"], made], changed)
    assert (made(0), there["outer"](list)(0)) == (-2, -2)
    assert not take_code([take_code], changed)  # type: ignore[list-item]
