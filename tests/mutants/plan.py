"""Which tests are asked about a mutant, in which order."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tests.mutants.graph import Graph
from tests.mutants.moved import lines_before
from tests.mutants.mutant import Mutant, exchange
from tests.mutants.place import Place
from tests.mutants.records import Record, file_of

#: Seconds of tests for one mutant, as measured without it.
BUDGET = 20.0
#: A fresh process imports each test file that it asks: so many seconds, so many files.
BUDGET_OF_IMPORTS = 10.0
FILES_OF_IMPORTS = 8


@dataclass(frozen=True)
class Plan:
    """A mutant and its tests with their seconds. ``swapped``: its functions can take the new
    code in a process that has imported the old one."""

    mutant: Mutant
    tests: tuple[tuple[str, float], ...]
    swapped: bool

    @property
    def seconds(self) -> float:
        return sum(seconds for _, seconds in self.tests)


class Planner:
    """``records`` are by test file; ``old`` gives a source by its digest."""

    def __init__(
        self,
        place: Place,
        graph: Graph,
        records: Mapping[str, Record],
        old: Callable[[str], bytes],
    ) -> None:
        self._place = place
        self._graph = graph
        self._records = records
        self._old = cache(old)
        self._before = cache(self._lines_before)

    def plan(self, mutant: Mutant, source: bytes) -> Plan:
        swapped = mutant.inside and not self._imported(mutant, source)
        if swapped:
            path = str(self._place.root / mutant.file)
            swapped = exchange(source, mutant.applied(source), path) is not None
        tests = self._executing(mutant, source) if mutant.inside else []
        if not tests and (not mutant.inside or not swapped or self._unknown(mutant, source)):
            tests = self._near(mutant)
        return Plan(mutant, self._within(mutant, tests, swapped=swapped), swapped)

    def _lines_before(
        self, digest: str, source: bytes, function: str, lines: range
    ) -> set[int] | None:
        return lines_before(self._old(digest), source, function, lines)

    def _lines(self, record: Record, mutant: Mutant, source: bytes, lines: range) -> set[int]:
        """Where these lines were when the record was made."""
        digest = record.sources.get(mutant.file)
        if digest is None:
            return set()
        return self._before(digest, source, mutant.function, lines) or set()

    def _unknown(self, mutant: Mutant, source: bytes) -> bool:
        """Whether its function is younger than the records."""
        return all(
            self._before(digest, source, mutant.function, _lines_of(mutant.lines)) is None
            for record in self._records.values()
            if (digest := record.sources.get(mutant.file))
        )

    def _imported(self, mutant: Mutant, source: bytes) -> bool:
        """Whether it runs when modules are imported, and would be too late afterwards."""
        lines = _lines_of(mutant.statement)
        return any(
            not self._lines(record, mutant, source, lines).isdisjoint(imported)
            for record in self._records.values()
            if (imported := record.imported.get(mutant.file))
        )

    def _executing(self, mutant: Mutant, source: bytes) -> list[tuple[str, float]]:
        """Tests that execute its lines; where none is known, those of its statement."""
        for lines in (mutant.lines, mutant.statement):
            if found := self._on(mutant, source, _lines_of(lines)):
                return found
        return []

    def _on(self, mutant: Mutant, source: bytes, lines: range) -> list[tuple[str, float]]:
        found: list[tuple[str, float]] = []
        for record in self._records.values():
            executed = record.lines.get(mutant.file, {})
            before = self._lines(record, mutant, source, lines)
            numbers = {number for line in before for number in executed.get(line, ())}
            found += [one for i, one in enumerate(record.tests.items()) if i in numbers]
        return found

    def _near(self, mutant: Mutant) -> list[tuple[str, float]]:
        """For a module's own lines: tests that execute anything of it or import it."""
        found: list[tuple[str, float]] = []
        for file, record in self._records.items():
            executed = record.lines.get(mutant.file, {})
            numbers = {number for tests in executed.values() for number in tests}
            imports = self._imports(file, mutant)
            tests = enumerate(record.tests.items())
            found += [one for i, one in tests if imports or i in numbers]
        if not found:
            behind = [f for f in self._records if self._path(mutant) in self._behind(f)]
            found = [one for f in behind for one in self._records[f].tests.items()]
        return found

    def _within(
        self, mutant: Mutant, tests: Sequence[tuple[str, float]], *, swapped: bool
    ) -> tuple[tuple[str, float], ...]:
        """The tests of the module by name first, then of whom imports it; the quickest first."""
        left = BUDGET if swapped else BUDGET_OF_IMPORTS
        chosen: list[tuple[str, float]] = []
        files: set[str] = set()
        ranks = {file: self._rank(file, mutant) for file in self._records}
        for test, seconds in sorted(tests, key=lambda one: (ranks[file_of(one[0])], one[1])):
            file = file_of(test)
            room = swapped or file in files or len(files) < FILES_OF_IMPORTS
            if seconds <= left and room:
                chosen.append((test, seconds))
                files.add(file)
                left -= seconds
        return tuple(chosen)

    def _rank(self, file: str, mutant: Mutant) -> int:
        module = mutant.file.removesuffix(".py").rsplit("/", 1)[-1]
        if module in file.rsplit("/", 1)[-1]:
            return 0
        return 1 if self._imports(file, mutant) else 2

    def _path(self, mutant: Mutant) -> Path:
        return self._place.root / mutant.file

    def _imports(self, file: str, mutant: Mutant) -> bool:
        return self._path(mutant) in self._graph.direct(self._place.root / file)

    def _behind(self, file: str) -> set[Path]:
        return self._graph.behind(self._place.root / file)


def _lines_of(span: tuple[int, int]) -> range:
    return range(span[0], span[1] + 1)
