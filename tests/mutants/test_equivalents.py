"""The list of equivalents: matched by words, and none that is past."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import pytest

from tests.mutants.equivalents import Equivalent, listed, unmatched
from tests.mutants.mutant import Mutant
from tests.mutants.operators import mutants
from tests.mutants.place import ROOT

ENTRY = """
[[equivalent]]
file = "m.py"
function = "f"
line = "return a < b"
mutation = "a < b -> a <= b"
reason = "they are never equal"
"""


def test_an_entry_is_found_whatever_its_line(tmp_path: Path) -> None:
    path = tmp_path / "equivalent.toml"
    path.write_text(ENTRY)
    [entry] = listed(path).values()
    [mutant] = mutants("m.py", b"# more\n\ndef f(a, b):\n    return a < b  \n")
    assert mutant.key == entry.key
    assert unmatched([entry], [mutant]) == []
    [moved] = mutants("m.py", b"def g(a, b):\n    return a < b\n")
    assert unmatched([entry], [moved]) == [entry]


def test_an_entry_without_a_reason_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "equivalent.toml"
    path.write_text(ENTRY.replace("reason", "because"))
    with pytest.raises(TypeError):
        listed(path)


def test_without_a_list_there_are_none(tmp_path: Path) -> None:
    assert listed(tmp_path / "equivalent.toml") == {}


def test_every_equivalent_is_still_there_and_has_a_reason() -> None:
    entries: dict[str, list[Equivalent]] = defaultdict(list)
    for entry in listed().values():
        entries[entry.file].append(entry)
        assert len(entry.reason) > 10, entry
    there: list[Mutant] = []
    for file in entries:
        there += mutants(file, (ROOT / file).read_bytes())
    assert unmatched(listed().values(), there) == []
