"""A pytest session in this process: one that records, one that waits for mutants, one for one.

Most mutants need no import. A process collects all tests once and forks for each mutant; there
the functions that live take the new code. A mutant of what runs at import is loaded by a fresh
process, in the place of its file.
"""

from __future__ import annotations

import gc
import importlib.abc
import importlib.machinery
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings

from tests.mutants import children
from tests.mutants.mutant import Key, exchange
from tests.mutants.place import Place
from tests.mutants.plan import Plan
from tests.mutants.records import Record, Recorder

PROFILE = "mutants"
#: The same examples and the same chance for every mutant, and nothing kept.
OPTIONS = (
    "-q",
    "-x",
    "-s",
    "-p",
    "no:cacheprovider",
    f"--hypothesis-profile={PROFILE}",
    "--randomly-seed=1",
    "--randomly-dont-reorganize",
    "-Wignore::pytest.PytestAssertRewriteWarning",
)


def register_profile() -> None:
    settings.register_profile(
        PROFILE,
        max_examples=30,
        deadline=None,
        derandomize=True,
        database=None,
        # The smallest example is of no use here.
        phases=[Phase.explicit, Phase.generate, Phase.target],
        suppress_health_check=[HealthCheck.too_slow],
    )


def run_pytest(place: Place, files: Iterable[str], *plugins: object, more: str = "-x") -> int:
    """In this process, once."""
    register_profile()
    os.chdir(place.root)
    if str(place.root) != sys.path[0]:
        sys.path.insert(0, str(place.root))
    return int(pytest.main([*OPTIONS, more, *sorted(files)], plugins=list(plugins)))


# -- to record ---------------------------------------------------------------------------------


def record(place: Place, files: Sequence[str]) -> dict[str, Record]:
    """Run these test files and see what they execute."""
    from coverage import Coverage

    coverage = Coverage(
        data_file=None,
        config_file=False,
        include=[f"{place.root / place.package}/*"],
        concurrency=["thread", "greenlet"],
    )
    coverage.start()
    recorder = Recorder(coverage)
    code = run_pytest(place, files, recorder, more="--maxfail=0")
    coverage.stop()
    if code > 1:
        raise RuntimeError(f"pytest ended with {code} while it recorded")
    made = recorder.records(place)
    return {file: made.get(file, Record()) for file in files}


# -- to ask about one mutant -------------------------------------------------------------------


class Verdict:
    """A plugin of pytest that writes down which test failed first."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.failed = False

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed and not self.failed:
            self.failed = True
            self._path.write_text(json.dumps({"test": report.nodeid}))

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed and not self.failed:
            self.failed = True
            self._path.write_text(json.dumps({"test": f"{report.nodeid} (import)"}))


def limited(items: Iterable[pytest.Item], plan: Plan) -> list[pytest.Item]:
    """The plan's tests in its order, each with a limit of its own."""
    there = {item.nodeid: item for item in items}
    chosen: list[pytest.Item] = []
    for test, seconds in plan.tests:
        item = there.get(test)
        if item is not None:
            limit = pytest.mark.timeout(test_limit(seconds), method="thread")
            item.add_marker(limit, append=False)
            chosen.append(item)
    return chosen


def test_limit(seconds: float) -> float:
    return 4 * seconds + 5


class Chosen:
    """A plugin of pytest: only the tests of the plan."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = limited(items, self._plan)


class Loader(importlib.machinery.SourceFileLoader):
    """Loads one module from another source than its file's."""

    def __init__(self, module: str, path: Path, source: bytes) -> None:
        super().__init__(module, str(path))
        self._source = source

    def get_code(self, fullname: str) -> CodeType:
        code: CodeType = compile(self._source, self.path, "exec")
        return code


class Finder(importlib.abc.MetaPathFinder):
    """Finds one module, and hands it to its loader."""

    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != self._loader.name:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is not None:
            spec.loader = self._loader
        return spec


def run_reloaded(place: Place, plan: Plan, verdict: Path) -> int:
    """In this process, which has imported nothing of the package: the tests of one mutant."""
    use_folder(verdict.parent)
    path = place.root / plan.mutant.file
    source = plan.mutant.applied(path.read_bytes())
    sys.meta_path.insert(0, Finder(Loader(place.module(plan.mutant.file), path, source)))
    files = {test.split("::", 1)[0] for test, _ in plan.tests}
    code = run_pytest(place, files, Chosen(plan), Verdict(verdict))
    # An import that fails is noticed by every test.
    return 1 if code in (2, 3, 4) and verdict.exists() else code


def use_folder(folder: Path) -> None:
    """Temporary files go there."""
    os.environ["TMPDIR"] = os.environ["PYTEST_DEBUG_TEMPROOT"] = str(folder)
    tempfile.tempdir = None


# -- to ask about many -------------------------------------------------------------------------

Ask = Callable[[Plan, Callable[[Path], int]], None]


class Waiting:
    """A plugin of pytest that collects and then, in the place of running the tests, asks about
    the mutants one after the other. ``ask`` forks; its child calls what it is given."""

    def __init__(self, place: Place, plans: Iterable[Plan], ask: Ask) -> None:
        self._place = place
        self._plans = plans
        self._ask = ask
        self._functions: dict[str, list[FunctionType]] = {}

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self) -> None:
        # Before they are frozen, which takes them out of the collector's sight.
        root = str(self._place.root / self._place.package)
        for one in gc.get_objects():
            if isinstance(one, FunctionType) and one.__code__.co_filename.startswith(root):
                self._functions.setdefault(one.__code__.co_filename, []).append(one)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        if session.testsfailed:
            raise RuntimeError("a test file does not import")
        for plan in self._plans:
            self._ask(plan, partial(self._child, session, plan))
        return True

    def _child(self, session: pytest.Session, plan: Plan, verdict: Path) -> int:
        use_folder(verdict.parent)
        path = self._place.root / plan.mutant.file
        source = path.read_bytes()
        changed = exchange(source, plan.mutant.applied(source), str(path))
        if not changed or not take_code(self._functions.get(str(path), []), changed):
            raise RuntimeError(f"no function takes the code of {plan.mutant.what}")
        written = Verdict(verdict)
        session.config.pluginmanager.register(written)
        items = limited(session.items, plan)
        session.items = items
        for item, following in zip(items, [*items[1:], None], strict=True):
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
            if written.failed:
                return 1
        return 0


def take_code(functions: Iterable[FunctionType], changed: dict[Key, CodeType]) -> bool:
    """Answers whether any function has changed."""
    taken = False
    for function in functions:
        old: Any = function.__code__
        code = changed.get((old.co_qualname, old.co_firstlineno))
        if code is not None:
            function.__code__ = code
            taken = True
    return taken


def run_waiting(place: Place, files: Iterable[str], plans: Iterable[Plan], ask: Ask) -> int:
    children.limit_memory()
    return run_pytest(place, files, Waiting(place, plans, ask), more="--maxfail=1")
