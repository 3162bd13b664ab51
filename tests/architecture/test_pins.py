"""The pins are exact, whole, hashed, free of addresses, and what this venv holds."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Iterator
from importlib import metadata
from typing import Any, NamedTuple

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.architecture.sources import ROOT

FILES = ("runtime.txt", "dev.txt")
PIN = re.compile(r"[a-z0-9-]+(\[[a-z,]+\])?==[0-9][0-9a-z.]*( ; .+)?")
HASH = re.compile(r"--hash=sha256:[0-9a-f]{64}")


class Line(NamedTuple):
    """A pin with its continuation lines joined: ``name==1.2 ; marker`` and its hashes."""

    pin: str
    hashes: tuple[str, ...]


def lines(file: str) -> list[Line]:
    text = (ROOT / "requirements" / file).read_text()
    bare = "\n".join(line for line in text.splitlines() if not line.strip().startswith("#"))
    joined = re.sub(r"\s*\\\n\s*", " ", bare).splitlines()
    return [Line(HASH.sub("", line).strip(), tuple(HASH.findall(line))) for line in joined if line]


def pins() -> dict[str, Requirement]:
    """What the pins install here: a marker may leave one out."""
    found = [Requirement(line.pin) for file in FILES for line in lines(file)]
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


def applying(texts: Iterable[str]) -> list[Requirement]:
    """Those that hold on this machine."""
    found = [Requirement(text) for text in texts]
    return [need for need in found if need.marker is None or need.marker.evaluate()]


def pyproject() -> dict[str, Any]:
    with (ROOT / "pyproject.toml").open("rb") as file:
        return tomllib.load(file)


def runs_on() -> list[Requirement]:
    """What the runtime pins are made of."""
    content = pyproject()
    return applying([*content["project"]["dependencies"], *content["dependency-groups"]["build"]])


def adds() -> list[Requirement]:
    """What the other pins are made of."""
    return applying(pyproject()["dependency-groups"]["dev"])


@pytest.mark.parametrize("file", FILES)
def test_every_line_is_an_exact_pin_with_hashes_and_without_an_address(file: str) -> None:
    odd = [line.pin for line in lines(file) if not PIN.fullmatch(line.pin) or not line.hashes]
    assert lines(file)
    assert odd == []
    assert "://" not in (ROOT / "requirements" / file).read_text()


def test_nothing_is_pinned_twice() -> None:
    names = [Requirement(line.pin).name for file in FILES for line in lines(file)]
    assert len(names) == len(set(names))


def test_make_installs_nothing_from_an_index_without_its_hash() -> None:
    """Only sigmgr itself, from here, has none; and then nothing else may come along."""
    makefile = (ROOT / "Makefile").read_text()
    assert "\nPINNED := install --require-hashes --requirement\n" in makefile
    installs = re.findall(r"\$\(PIP\) (.+)", makefile)
    own = "install --no-deps --no-build-isolation --editable ."
    assert sorted(line for line in installs if not line.startswith("$(PINNED) ")) == [own]
    assert len(installs) == 1 + len(FILES)


def test_the_build_group_brings_what_the_build_asks_for() -> None:
    content = pyproject()
    assert set(content["build-system"]["requires"]) <= set(content["dependency-groups"]["build"])


def test_what_sigmgr_runs_on_is_in_the_runtime_pins() -> None:
    runtime = {canonicalize_name(Requirement(line.pin).name) for line in lines("runtime.txt")}
    missing = reachable(runs_on()) - runtime
    assert not missing


def test_the_pins_hold_all_that_is_needed_and_no_more() -> None:
    assert reachable([*runs_on(), *adds()]) == set(pins()), "run make pins"


def test_this_venv_holds_the_pinned_versions() -> None:
    held = {canonicalize_name(d.name): d.version for d in metadata.distributions()}
    other = {
        name: held.get(name, "missing")
        for name, pin in pins().items()
        if name not in held or not pin.specifier.contains(held[name], prereleases=True)
    }
    assert not other, f"not what is pinned: {other}; run make lint"
