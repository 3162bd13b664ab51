"""The error tree is whole: stable codes, advice, and a drawing that shows every class."""

from __future__ import annotations

import inspect
import re
from collections import Counter

import pytest

from sigmgr.model import errors
from sigmgr.model.errors import SigmgrError

CLASSES = [
    found
    for found in vars(errors).values()
    if inspect.isclass(found) and issubclass(found, SigmgrError)
]
each_class = pytest.mark.parametrize("error", CLASSES, ids=lambda error: error.__name__)


@each_class
def test_an_error_names_what_is_wrong_and_what_to_do(error: type[SigmgrError]) -> None:
    assert (vars(error).get("__doc__") or "").strip().endswith(".")
    assert error.advice.strip()


@each_class
def test_a_code_is_a_stable_word(error: type[SigmgrError]) -> None:
    assert re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", error.code)


@each_class
def test_an_error_is_made_anew_with_all_that_it_says(error: type[SigmgrError]) -> None:
    one = error.__new__(error, "said")
    SigmgrError.__init__(one, "said", retry_after=7, advice="Do this.")
    other = one.anew()
    assert other is not one
    assert type(other) is error
    assert (vars(other), other.args) == (vars(one), one.args)


def test_a_code_has_one_owner() -> None:
    owners = Counter(error.code for error in CLASSES if "code" in vars(error))
    assert [code for code, times in owners.items() if times > 1] == []


def test_the_drawing_shows_every_class_and_no_other() -> None:
    drawn: set[str] = set()
    for line in (errors.__doc__ or "").splitlines():
        names = re.split(r"\s{2,}", line.strip("│├└─ "))[0].strip(", ")
        if line.startswith(("SigmgrError", "│", "├", "└", " ")):
            drawn.update(names.split(", "))
    assert drawn == {error.__name__ for error in CLASSES}
