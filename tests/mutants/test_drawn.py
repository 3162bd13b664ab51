"""A sample is the same for its seed, and for what has not changed."""

from __future__ import annotations

from tests.mutants.__main__ import drawn
from tests.mutants.mutant import Mutant
from tests.mutants.operators import mutants


def of(file: str, lines: int) -> list[Mutant]:
    return mutants(file, b"x = 1 + a\n" * lines)


def test_a_seed_gives_the_same_and_another_gives_others() -> None:
    found = of("a.py", 50)
    assert drawn(found, 30, 1) == drawn(found, 30, 1)
    assert len(set(drawn(found, 30, 1))) == 30
    assert drawn(found, 30, 1) != drawn(found, 30, 2)


def test_a_change_leaves_the_sample_of_other_files_alone() -> None:
    other = of("b.py", 50)
    before = {one for one in drawn([*of("a.py", 50), *other], 60, 1) if one in other}
    after = {one for one in drawn([*of("a.py", 52), *other], 60, 1) if one in other}
    assert len(before & after) >= len(before) - 4
