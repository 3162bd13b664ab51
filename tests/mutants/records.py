"""Which test executes which line, measured once for each test file.

A record is kept under ``.mutants/`` for as long as the test file and the tests' own modules that
it imports stay as they are. The code may change: each record knows of which source its lines
are. Tests that fail, are skipped, take too long or want a server of their own are not in
it: they are asked about no mutant.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import pytest

from tests.mutants.graph import Graph
from tests.mutants.place import Place

#: A change of what is recorded makes all records new.
VERSION = "3"
#: Seconds; a slower test is asked about nothing.
SLOWEST = 10.0
#: Fixtures behind which a server starts.
SERVERS = {"postgres_server", "postgres_url", "redis_server", "redis_url"}


@dataclass
class Record:
    """Of one test file: seconds of each test, and for each file which lines it executed, as
    ``line -> numbers of tests``. ``imported``: the lines that ran before any test. ``sources``:
    the digest of each file as it was."""

    key: str = ""
    tests: dict[str, float] = field(default_factory=dict)
    lines: dict[str, dict[int, list[int]]] = field(default_factory=dict)
    imported: dict[str, list[int]] = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)


class WantsServer(Exception):
    """Raised in the place of a server."""


def _no_server(name: str, **_: Any) -> NoReturn:
    raise WantsServer(name)


class Recorder:
    """A plugin of pytest. ``coverage`` is running already, so that imports are seen."""

    def __init__(self, coverage: Any) -> None:
        self._coverage = coverage
        self._seconds: dict[str, float] = {}
        self._bad: set[str] = set()
        self._unwanted: set[str] = set()

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        for item in items:
            # Of the test alone: an alarm must not ring where the recorder itself works.
            limit = pytest.mark.timeout(SLOWEST, method="signal", func_only=True)
            item.add_marker(limit, append=False)

    @pytest.hookimpl(tryfirst=True)
    def pytest_fixture_setup(self, fixturedef: Any) -> None:
        # In its place, not here: an error of this hook leaves the fixture half set up, and the
        # next test that wants it fails for another reason.
        if fixturedef.argname in SERVERS:
            fixturedef.func = partial(_no_server, fixturedef.argname)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self._coverage.switch_context(nodeid)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._seconds[report.nodeid] = self._seconds.get(report.nodeid, 0.0) + report.duration
        if not report.passed:
            self._bad.add(report.nodeid)
        if report.skipped or re.search("Timeout|WantsServer", str(report.longrepr)):
            self._unwanted.add(report.nodeid)

    def records(self, place: Place) -> dict[str, Record]:
        """One of each test file that ran."""
        made: dict[str, Record] = {}
        numbers: dict[str, int] = {}
        for test, seconds in self._seconds.items():
            record = made.setdefault(file_of(test), Record())
            if test in self._bad:
                if test not in self._unwanted:
                    record.failed.append(test)
            elif seconds <= SLOWEST:
                numbers[test] = len(record.tests)
                record.tests[test] = round(seconds, 4)
        data = self._coverage.get_data()
        for measured in data.measured_files():
            name = place.name(Path(measured))
            for line, tests in data.contexts_by_lineno(measured).items():
                _note(made, numbers, name, line, tests)
        return made


def file_of(test: str) -> str:
    return test.split("::", 1)[0]


def _note(
    made: Mapping[str, Record], numbers: Mapping[str, int], name: str, line: int, tests: list[str]
) -> None:
    for test in tests:
        if test in numbers:
            lines = made[file_of(test)].lines.setdefault(name, {})
            lines.setdefault(line, []).append(numbers[test])
        elif not test:
            for record in made.values():
                record.imported.setdefault(name, []).append(line)


class Shelf:
    """The records that are kept."""

    def __init__(self, place: Place, graph: Graph) -> None:
        self._place = place
        self._graph = graph

    def _path(self, file: str) -> Path:
        return self._place.kept / "records" / f"{file.replace('/', '.')}.json"

    def _key(self, file: str) -> str:
        return f"{VERSION} {self._graph.key(self._place.root / file, self._place.tests)}"

    def _source(self, digest: str) -> Path:
        return self._place.kept / "sources" / digest

    def get(self, file: str) -> Record | None:
        """The record of a test file, if it still holds."""
        path = self._path(file)
        if not path.is_file():
            return None
        kept = json.loads(path.read_text())
        if kept["key"] != self._key(file):
            return None
        for lines in kept["lines"].values():
            numbered = {int(line): tests for line, tests in lines.items()}
            lines.clear()
            lines.update(numbered)
        return Record(**kept)

    def put(self, file: str, record: Record) -> None:
        path = self._path(file)
        path.parent.mkdir(parents=True, exist_ok=True)
        for name in record.lines.keys() | record.imported.keys():
            record.sources[name] = self._keep(self._place.root / name)
        path.write_text(json.dumps(asdict(record) | {"key": self._key(file)}))

    def _keep(self, file: Path) -> str:
        digest = self._graph.digest(file)
        kept = self._source(digest)
        if not kept.exists():
            kept.parent.mkdir(parents=True, exist_ok=True)
            kept.write_bytes(file.read_bytes())
        return digest

    def source(self, digest: str) -> bytes:
        """A source as it was recorded."""
        return self._source(digest).read_bytes()

    def missing(self, files: Iterable[str]) -> list[str]:
        return [file for file in files if self.get(file) is None]
