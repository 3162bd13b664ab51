"""The pins are exact, whole, free of addresses, and what this venv holds."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from importlib import metadata

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.architecture.sources import ROOT

FILES = ("runtime.txt", "dev.txt")
PIN = re.compile(r"[a-z0-9-]+(\[[a-z,]+\])?==[0-9][0-9a-z.]*( ; .+)?")


def lines(file: str) -> list[str]:
    text = (ROOT / "requirements" / file).read_text()
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def pins() -> dict[str, Requirement]:
    """What the pins install here: a marker may leave one out."""
    found = [Requirement(line) for file in FILES for line in lines(file) if "==" in line]
    return {
        canonicalize_name(pin.name): pin
        for pin in found
        if pin.marker is None or pin.marker.evaluate()
    }


def needs(requirement: Requirement) -> Iterator[Requirement]:
    """What the installed distribution asks for, here, with the extras asked of it."""
    for text in metadata.requires(requirement.name) or []:
        need = Requirement(text)
        extras = requirement.extras or {""}
        if need.marker is None or any(need.marker.evaluate({"extra": e}) for e in {*extras, ""}):
            yield need


def reachable(roots: list[Requirement]) -> set[str]:
    """Every distribution that the roots need, themselves included; wrong pins fail at once."""
    pinned, seen, todo = pins(), set[tuple[str, frozenset[str]]](), list(roots)
    while todo:
        need = todo.pop()
        name = canonicalize_name(need.name)
        if (name, frozenset(need.extras)) in seen:
            continue
        assert name in pinned, f"{need} is not pinned"
        version = str(pinned[name].specifier).removeprefix("==")
        assert need.specifier.contains(version, prereleases=True), f"{need}, pinned to {version}"
        seen.add((name, frozenset(need.extras)))
        todo += needs(need)
    return {name for name, _ in seen}


def project() -> list[Requirement]:
    with (ROOT / "pyproject.toml").open("rb") as file:
        content = tomllib.load(file)
    wanted = [*content["project"]["dependencies"], *content["build-system"]["requires"]]
    wanted.append("editables")  # hatchling asks for it only while it makes an editable wheel
    found = [Requirement(text) for text in wanted]
    return [need for need in found if need.marker is None or need.marker.evaluate()]


def asked_for() -> list[Requirement]:
    """The first group of dev.txt; the second is what the first needs."""
    text = (ROOT / "requirements" / "dev.txt").read_text()
    first = text.partition("# Asked for.")[2].partition("# Needed by these.")[0]
    found = [Requirement(line) for line in first.splitlines() if "==" in line]
    return [need for need in found if need.marker is None or need.marker.evaluate()]


@pytest.mark.parametrize("file", FILES)
def test_every_line_is_an_exact_pin_without_an_address(file: str) -> None:
    odd = [line for line in lines(file) if not PIN.fullmatch(line) and line != "-r runtime.txt"]
    assert odd == []
    assert "://" not in (ROOT / "requirements" / file).read_text()


def test_what_sigmgr_runs_on_is_in_the_runtime_pins() -> None:
    runtime = {canonicalize_name(Requirement(line).name) for line in lines("runtime.txt")}
    missing = reachable(project()) - runtime
    assert not missing


def test_the_pins_hold_all_that_is_needed_and_no_more() -> None:
    assert reachable([*project(), *asked_for()]) == set(pins())


def test_this_venv_holds_the_pinned_versions() -> None:
    held = {canonicalize_name(d.name): d.version for d in metadata.distributions()}
    other = {
        name: held.get(name, "missing")
        for name, pin in pins().items()
        if name not in held or not pin.specifier.contains(held[name], prereleases=True)
    }
    assert not other, f"not what is pinned: {other}; run make lint"
