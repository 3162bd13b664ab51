"""The command: ``python -m tests.mutants``."""

from __future__ import annotations

import argparse
import os
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from hashlib import sha256
from pathlib import Path

from tests.mutants import report, work
from tests.mutants.equivalents import FILE, Equivalent, listed
from tests.mutants.graph import Graph
from tests.mutants.mutant import Mutant
from tests.mutants.operators import mutants
from tests.mutants.place import ROOT, Place
from tests.mutants.plan import Plan, Planner
from tests.mutants.records import Record, Shelf

SAMPLE = 600


def main() -> int:
    """0: enough were noticed; 1: too few; 2: the run itself went wrong."""
    parser = _parser()
    asked = parser.parse_args()
    place = Place(asked.root, asked.package, asked.tests)
    try:
        found, sources = _meant(place, asked)
        if asked.json and not asked.list:
            asked.json.write_text("")
    except (OSError, ValueError) as error:
        parser.error(str(error))
    entries = listed(asked.equivalents)
    equivalents = [(one, entries[one.key]) for one in found if one.key in entries]
    found = [one for one in found if one.key not in entries]
    if asked.list:
        for one in found:
            print(report.where(one))
        return 0
    began = time.monotonic()
    try:
        plans = _plans(place, found, sources, asked.jobs)
    except RuntimeError as error:
        print(error, file=sys.stderr)
        return 2
    answers = _asked(place, plans, asked.jobs, asked.json)
    return _reported(answers, equivalents, time.monotonic() - began)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.mutants", description="Small faults, each of which a test notices."
    )
    which = parser.add_mutually_exclusive_group()
    changed = "the files changed since REVISION; without one, since the last commit"
    sample = f"draw so many; without it {SAMPLE} of all rooms, and all of named files"
    which.add_argument("--changed", nargs="?", const="HEAD", metavar="REVISION", help=changed)
    which.add_argument("--files", nargs="+", type=Path, help="all mutants of these files")
    parser.add_argument("--sample", type=_count, metavar="N", help=sample)
    parser.add_argument("--seed", type=int, help="of the sample; printed where none is given")
    parser.add_argument(
        "--jobs", type=_count, default=os.cpu_count() or 1, metavar="N", help="beside each other"
    )
    parser.add_argument(
        "--json",
        type=Path,
        metavar="FILE",
        help="write each verdict there as it comes",
    )
    parser.add_argument("--list", action="store_true", help="say what they are, and run nothing")
    parser.add_argument("--root", type=Path, default=ROOT, help=argparse.SUPPRESS)
    parser.add_argument("--package", default="sigmgr", help=argparse.SUPPRESS)
    parser.add_argument("--tests", default="tests", help=argparse.SUPPRESS)
    parser.add_argument("--equivalents", type=Path, default=FILE, help=argparse.SUPPRESS)
    return parser


def _count(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 on")
    return int(text)


def _meant(place: Place, asked: argparse.Namespace) -> tuple[list[Mutant], dict[str, bytes]]:
    """The mutants that are meant, and the files they are of."""
    size = asked.sample
    if asked.files:
        files = [place.file(path) for path in asked.files]
    elif asked.changed:
        files = place.changed(asked.changed)
    else:
        files, size = place.sampled(), size or SAMPLE
    sources = {place.name(file): file.read_bytes() for file in files}
    found = [one for name, source in sources.items() for one in mutants(name, source)]
    print(f"{len(found)} mutants in {len(files)} files", end="")
    if size and size < len(found):
        seed = random.randrange(1_000_000) if asked.seed is None else asked.seed
        found = drawn(found, size, seed)
        print(f"; {size} drawn with --seed {seed}", end="")
    print(flush=True)
    return found, sources


def drawn(found: Sequence[Mutant], size: int, seed: int) -> list[Mutant]:
    """By a hash of each, so that a change in one file leaves the sample of the others alone."""
    ranked = {sha256(repr((seed, one.key, i)).encode()).digest(): one for i, one in _again(found)}
    return [ranked[rank] for rank in sorted(ranked)[:size]]


def _again(found: Sequence[Mutant]) -> Iterator[tuple[int, Mutant]]:
    """Each with the number of those before it that have the same words."""
    seen: Counter[tuple[str, ...]] = Counter()
    for one in found:
        yield seen[one.key], one
        seen[one.key] += 1


def _plans(
    place: Place, found: Sequence[Mutant], sources: dict[str, bytes], jobs: int
) -> list[Plan]:
    graph = Graph(place.root)
    shelf = Shelf(place, graph)
    meant = {place.root / one.file for one in found}
    files = [place.name(f) for f in place.test_files() if meant & graph.behind(f)]
    missing = shelf.missing(files)
    if missing:
        print(f"recording what {len(missing)} of {len(files)} test files execute", flush=True)
        work.record_all(place, shelf, missing, jobs)
    records: dict[str, Record] = {}
    for file in files:
        records[file] = shelf.get(file) or Record()
        for test in records[file].failed:
            print(f"left out, since it fails without a mutant: {test}")
    planner = Planner(place, graph, records, shelf.source)
    return [planner.plan(one, sources[one.file]) for one in found]


def _asked(
    place: Place, plans: Sequence[Plan], jobs: int, written: Path | None
) -> list[work.Answer]:
    answers: list[work.Answer] = []
    shown = time.monotonic()
    for answer in work.Asking(place, plans, jobs).answers():
        answers.append(answer)
        if written:
            report.add_to(written, answer)
        if time.monotonic() - shown > 15 or len(answers) == len(plans):
            shown = time.monotonic()
            print(f"{len(answers)} of {len(plans)}, {report.score(answers):.1%}", flush=True)
    return answers


def _reported(
    answers: Sequence[work.Answer],
    equivalents: Sequence[tuple[Mutant, Equivalent]],
    seconds: float,
) -> int:
    for line in report.lines(answers, equivalents):
        print(line)
    score = report.score(answers)
    print(f"{score:.1%} noticed, {report.FLOOR:.0%} are wanted; {seconds:.0f} s")
    if any(answer.verdict == "error" for answer in answers):
        return 2
    return int(score < report.FLOOR)


if __name__ == "__main__":
    sys.exit(main())
