"""What the documents say is so: examples load, commands exist, links lead somewhere."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from sigmgr import settings
from sigmgr.cli import frame
from sigmgr.settings import Section, Settings
from tests.architecture.sources import ROOT, name

README = ROOT / "README.md"
EXAMPLES = sorted((ROOT / "config").glob("*.toml"))
DECISIONS = sorted((ROOT / "docs" / "decisions").glob("*.md"))
BESIDE = [ROOT / "CHANGELOG.md", ROOT / "SECURITY.md"]
DOCUMENTS = [README, *BESIDE, *sorted((ROOT / "docs").rglob("*.md"))]

FENCE = re.compile(r"^```\w*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`(sigmgr [^`]+)`")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)

each_example = pytest.mark.parametrize("path", EXAMPLES, ids=name)
each_document = pytest.mark.parametrize("path", DOCUMENTS, ids=name)


# The examples of settings


@each_example
def test_an_example_of_settings_loads(path: Path) -> None:
    settings.load(str(path), {})


@each_example
def test_an_example_of_settings_holds_no_secret(path: Path) -> None:
    loaded = settings.load(str(path), {})
    assert not loaded.master_key.get_secret_value()
    for url in (loaded.database.url, loaded.redis.url):
        assert not re.search(r"://[^/]*:[^/]*@", url.get_secret_value())


def test_the_production_example_names_every_setting() -> None:
    loaded = settings.load(str(ROOT / "config" / "production.toml"), {})
    assert set(leaves(Settings())) - set(leaves(loaded, given=True)) == {"master_key"}


def leaves(section: Section, above: str = "", *, given: bool = False) -> Iterator[str]:
    """The dotted names of a tree; ``given``: only those that the file sets."""
    for key in section.model_fields_set if given else type(section).model_fields:
        value = getattr(section, key)
        if isinstance(value, Section):
            yield from leaves(value, f"{above}{key}.", given=given)
        else:
            yield f"{above}{key}"


# The commands


def commands(text: str) -> Iterator[list[str]]:
    """Every ``sigmgr ...`` of the code blocks and between backquotes, as words."""
    for block in FENCE.findall(text):
        for line in block.replace("\\\n", " ").splitlines():
            if found := re.match(r"\$ (?:\w+=\$\()?(sigmgr [^;|<>&)]*)", line):
                yield shlex.split(found[1])
    for found in INLINE.findall(FENCE.sub("", text)):
        yield shlex.split(" ".join(found.split()))


def options_of(words: list[str]) -> set[str]:
    """What the command takes. Fails where there is no such command."""
    command = frame.LazyGroup(name="sigmgr").get_command(None, words[1])
    assert command is not None, f"there is no sigmgr {words[1]}"
    if hasattr(command, "commands"):
        assert len(words) > 2, f"{words} names no command"
        assert words[2] in command.commands, f"there is no {' '.join(words[:3])}"
        command = command.commands[words[2]]
    return {"--help", *(option for one in command.params for option in one.opts)}


@each_document
def test_every_command_exists_with_its_options(path: Path) -> None:
    for words in commands(path.read_text()):
        if len(words) > 1 and words[1] != "...":
            given = {word.partition("=")[0] for word in words if word.startswith("--")}
            assert given <= options_of(words), words


def test_the_readme_shows_the_commands_that_a_newcomer_needs() -> None:
    shown = {" ".join(words[1:3]) for words in commands(README.read_text())}
    assert {"db upgrade", "key generate", "token create", "sig verify"} <= shown


def test_the_readme_begins_with_the_two_commands() -> None:
    text = README.read_text()
    assert re.findall(r"^    (make \w+)$", text, re.MULTILINE) == ["make demo", "make test"]
    demo, test = text.index("make demo"), text.index("make test")
    others = [found.start() for found in re.finditer(r"^\$ |```|^## ", text, re.MULTILINE)]
    assert demo < test < min(others)


# The text itself


@each_document
def test_links_lead_somewhere(path: Path) -> None:
    for link in LINK.findall(FENCE.sub("", path.read_text())):
        if link.startswith(("https://", "http://")):
            continue
        place, _, anchor = link.partition("#")
        target = path.parent / place if place else path
        assert target.exists(), f"{name(path)}: {link}"
        if anchor:
            assert anchor in map(slug, HEADING.findall(target.read_text())), link


def slug(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@each_document
def test_no_document_shows_a_whole_secret_or_somebodys_machine(path: Path) -> None:
    text = path.read_text()
    secrets = r"\beJ[\w*-]{40,}|\bt1\.[\w-]{40,}|\bsmt_[\w-]{20,}|-----BEGIN"
    assert not re.findall(secrets, text)
    assert not re.findall(r"(?:^|[\s(\"'`=])/(?:root|home|tmp|work)/\S*", text)


@pytest.mark.parametrize("path", DECISIONS, ids=name)
def test_a_decision_has_its_number_and_parts(path: Path) -> None:
    assert path.name[:5] == f"{DECISIONS.index(path) + 1:04}-"
    text = path.read_text()
    assert text.startswith(f"# {path.name[:4]}: ")
    assert HEADING.findall(text)[1:] == ["Context", "Decision", "Consequences"]
