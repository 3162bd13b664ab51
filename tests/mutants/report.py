"""What a run found: a table of rooms, the survivors, the equivalents of this sample."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.mutants.equivalents import Equivalent
from tests.mutants.mutant import Mutant
from tests.mutants.work import Answer

#: Of the mutants that a test could notice, so many have to be noticed.
FLOOR = 0.9
HEAD = (
    f"{'room':<10}{'made':>6}{'killed':>8}{'timeout':>9}{'equivalent':>12}{'survived':>10}  score"
)


def score(answers: Sequence[Answer]) -> float:
    """1 where there was nothing to notice."""
    killed = sum(answer.killed for answer in answers)
    judged = killed + sum(answer.survived for answer in answers)
    return killed / judged if judged else 1.0


def table(answers: Sequence[Answer], equivalents: Sequence[Mutant]) -> Iterator[str]:
    rooms = sorted({a.plan.mutant.room for a in answers} | {m.room for m in equivalents})
    yield HEAD
    for room in rooms:
        here = [answer for answer in answers if answer.plan.mutant.room == room]
        yield _row(room, here, sum(mutant.room == room for mutant in equivalents))
    yield _row("all", answers, len(equivalents))


def _row(room: str, answers: Sequence[Answer], equivalent: int) -> str:
    killed = sum(answer.verdict == "killed" for answer in answers)
    late = sum(answer.verdict == "timeout" for answer in answers)
    survived = sum(answer.survived for answer in answers)
    made = len(answers) + equivalent
    return (
        f"{room:<10}{made:>6}{killed:>8}{late:>9}{equivalent:>12}{survived:>10}"
        f"  {score(answers):.1%}"
    )


def survivor(answer: Answer) -> str:
    note = "  (no test executes it)" if answer.verdict == "unexecuted" else ""
    return f"{where(answer.plan.mutant)}{note}"


def where(mutant: Mutant) -> str:
    function = mutant.function or "(module)"
    return f"{mutant.file}:{mutant.line} {function}\n    {mutant.text}\n    {mutant.what}"


def lines(
    answers: Sequence[Answer], equivalents: Sequence[tuple[Mutant, Equivalent]]
) -> Iterator[str]:
    survivors = sorted((a for a in answers if a.survived), key=lambda a: _place(a.plan.mutant))
    for answer in answers:
        if answer.verdict == "error":
            yield f"ERROR {where(answer.plan.mutant)}\n{answer.by}"
    if equivalents:
        yield "\nequivalent:"
    for mutant, entry in sorted(equivalents, key=lambda one: _place(one[0])):
        yield f"{where(mutant)}\n    {entry.reason}"
    if survivors:
        yield "\nsurvived:"
    yield from map(survivor, survivors)
    yield ""
    yield from table(answers, [mutant for mutant, _ in equivalents])


def _place(mutant: Mutant) -> tuple[str, int, str]:
    return mutant.file, mutant.line, mutant.what


def add_to(path: Path, answer: Answer) -> None:
    """A line of JSON, for who wants to sort them otherwise."""
    with path.open("a") as file:
        file.write(json.dumps(_fields(answer)) + "\n")


def _fields(answer: Answer) -> dict[str, Any]:
    mutant = answer.plan.mutant
    return {
        "file": mutant.file,
        "line": mutant.line,
        "function": mutant.function,
        "text": mutant.text,
        "what": mutant.what,
        "verdict": answer.verdict,
        "by": answer.by,
        "tests": len(answer.plan.tests),
        "swapped": answer.plan.swapped,
        "seconds": answer.seconds,
    }
