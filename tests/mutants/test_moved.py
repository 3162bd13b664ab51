"""Where a line was before the file changed."""

from __future__ import annotations

from tests.mutants.moved import lines_before

OLD = b"""\
class A:
    def f(self):
        x = 1
        return x

    def g(self):
        return 2
"""
MOVED = b"# more\n# and more\n" + OLD
CHANGED = OLD.replace(b"x = 1", b"x = 1 + 1\n        x += 1")


def test_the_same_source_has_its_lines() -> None:
    assert lines_before(OLD, OLD, "A.f", [3]) == {3}


def test_a_function_that_moved_has_its_lines_elsewhere() -> None:
    assert lines_before(OLD, MOVED, "A.f", [5, 6]) == {3, 4}
    assert lines_before(OLD, CHANGED, "A.g", [8]) == {7}


def test_of_a_function_that_changed_all_lines_are_meant() -> None:
    assert lines_before(OLD, CHANGED, "A.f", [4]) == {3, 4}


def test_a_function_that_is_new_has_none() -> None:
    assert lines_before(OLD, OLD.replace(b"def g", b"def h"), "A.h", [7]) is None
