"""The processes that ask: so many beside each other, each with one mutant at a time."""

from __future__ import annotations

import json
import os
import shutil
import struct
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.mutants import children, session
from tests.mutants.place import Place
from tests.mutants.plan import Plan
from tests.mutants.records import Shelf

_NUMBER = struct.Struct("=I")
#: Of a message that many processes write into one pipe.
_LONGEST = 1000
#: Test files that are recorded by one process.
_FILES_AT_ONCE = 5


@dataclass(frozen=True)
class Answer:
    """``verdict`` is killed, timeout, survived, unexecuted or error. ``by``: the test that
    noticed, or what went wrong."""

    plan: Plan
    verdict: str
    by: str = ""
    seconds: float = 0.0

    @property
    def killed(self) -> bool:
        return self.verdict in {"killed", "timeout"}

    @property
    def survived(self) -> bool:
        return self.verdict in {"survived", "unexecuted"}


class Queue:
    """Numbers for many readers: whoever is free takes the next."""

    def __init__(self, numbers: Sequence[int]) -> None:
        self._file, path = tempfile.mkstemp()
        Path(path).unlink()
        os.write(self._file, b"".join(map(_NUMBER.pack, numbers)))
        # Forked readers share the place in the file.
        os.lseek(self._file, 0, os.SEEK_SET)

    def __iter__(self) -> Iterator[int]:
        while taken := os.read(self._file, _NUMBER.size):
            yield _NUMBER.unpack(taken)[0]


def record_all(place: Place, shelf: Shelf, files: Sequence[str], jobs: int) -> None:
    """Records of these test files, put on the shelf a few at a time, so that a run that is
    stopped leaves what it has. Raises RuntimeError where one fails."""
    parts = [files[i : i + _FILES_AT_ONCE] for i in range(0, len(files), _FILES_AT_ONCE)]
    queue = Queue(range(len(parts)))

    def worker(output: Path) -> int:
        for number in queue:
            record = partial(_record, place, shelf, parts[number])
            if children.wait(children.fork(record, fresh(output))):
                return 1
        return 0

    outputs = [fresh(place.kept / f"record-{i}.log") for i in range(jobs)]
    running = [children.fork(partial(worker, output), output) for output in outputs]
    codes = [children.wait(child) for child in running]
    for code, output in zip(codes, outputs, strict=True):
        if code:
            raise RuntimeError(f"recording failed:\n{tail(output)}")


def _record(place: Place, shelf: Shelf, files: Sequence[str]) -> int:
    for file, record in session.record(place, files).items():
        shelf.put(file, record)
    return 0


def fresh(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    return path


def tail(path: Path, lines: int = 30) -> str:
    text = path.read_text(errors="replace") if path.exists() else ""
    return "\n".join(text.splitlines()[-lines:])


class Asking:
    """Asks about all plans; :meth:`answers` yields as they come."""

    def __init__(self, place: Place, plans: Sequence[Plan], jobs: int) -> None:
        self._place = place
        self._plans = plans
        self._jobs = jobs
        known = [i for i, plan in enumerate(plans) if plan.tests]
        self._swapped = Queue([i for i in known if plans[i].swapped])
        self._reloaded = Queue([i for i in known if not plans[i].swapped])
        self._files = sorted(
            {t.split("::", 1)[0] for p in plans if p.swapped for t, _ in p.tests},
        )
        self._reader, self._writer = os.pipe()

    def answers(self) -> Iterator[Answer]:
        for plan in self._plans:
            if not plan.tests:
                yield Answer(plan, "unexecuted")
        waiting = {i for i, plan in enumerate(self._plans) if plan.tests}
        outputs = [fresh(self._place.kept / f"worker-{i}.log") for i in range(self._jobs)]
        workers = [children.fork(partial(self._work, output), output) for output in outputs]
        os.close(self._writer)
        with os.fdopen(self._reader) as lines:
            for line in lines:
                number, verdict, by, seconds = json.loads(line)
                waiting.discard(number)
                yield Answer(self._plans[number], verdict, by, seconds)
        for worker in workers:
            children.wait(worker)
        why = "\n".join(tail(output, 10) for output in outputs)
        for number in sorted(waiting):
            yield Answer(self._plans[number], "error", why)

    # In a worker.

    def _work(self, output: Path) -> int:
        if self._files:
            plans = ((number, self._plans[number]) for number in self._swapped)
            children.wait(children.fork(lambda: self._collected(plans), output))
        for number in self._reloaded:
            plan = self._plans[number]
            self._one(number, partial(session.run_reloaded, self._place, plan))
        return 0

    def _collected(self, plans: Iterator[tuple[int, Plan]]) -> int:
        numbers = {id(plan): i for i, plan in enumerate(self._plans)}

        def ask(plan: Plan, run: Callable[[Path], int]) -> None:
            self._one(numbers[id(plan)], run)

        return session.run_waiting(self._place, self._files, (plan for _, plan in plans), ask)

    def _one(self, number: int, run: Callable[[Path], int]) -> None:
        """Fork, wait, tell."""
        plan = self._plans[number]
        folder = Path(tempfile.mkdtemp(prefix="mutant-"))
        verdict, output = folder / "verdict.json", folder / "output"
        began = time.monotonic()

        def limited() -> int:
            children.limit_memory()
            return run(verdict)

        try:
            child = children.fork(limited, output)
            code = children.wait(child, 4 * plan.seconds + 30)
            named, by = _named(code, verdict, output)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        told = json.dumps([number, named, by, round(time.monotonic() - began, 2)])
        os.write(self._writer, told.encode() + b"\n")


def _named(code: int | None, verdict: Path, output: Path) -> tuple[str, str]:
    """What an exit code means."""
    if code is None:
        return "timeout", ""
    if code == 0:
        return "survived", ""
    if verdict.exists():
        by: str = json.loads(verdict.read_text())["test"]
        return "killed", by[:_LONGEST]
    text = tail(output, 400)
    if code == 1 and "Timeout" in text:
        return "timeout", ""
    if code < 0:
        return "killed", f"signal {-code}"
    return "error", f"exit code {code}\n{text[-_LONGEST:]}"
