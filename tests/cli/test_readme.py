"""What the README shows of the command line is what the command line prints."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

README = (Path(__file__).parents[2] / "README.md").read_text()
BLOCKS = re.findall(r"^```console\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
#: Asked of a running service, of a network, or of chance.
ELSEWHERE = ("curl", "export", "TICKET", "sigmgr serve", "sigmgr reissue", "sigmgr show", "pip")
ELSEWHERE += ("sigmgr simulate", "python", "sigmgr db upgrade --config")


def steps() -> list[tuple[str, str]]:
    """Each command with what is shown below it."""
    found = []
    for block in BLOCKS:
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, shown = part.replace("\\\n", " ").partition("\n")
            if not command.startswith(ELSEWHERE):
                found.append((" ".join(command.split()), shown))
    return found


def alike(text: str) -> str:
    """Without what is another one each time: times, fingerprints, numbers, line ends."""
    text = re.sub(r"\b[0-9a-f]{16}\b", "FINGERPRINT", " ".join(text.split()))
    return re.sub(r"[0-9]+( d [0-9]+ h)?", "N", text.replace("N d N h", "N d"))


def run(shell, command: str, tmp_path: Path):
    """A command as the README writes it: a pipe from or into a file, a variable, a status."""
    words = re.sub(r"^TOKEN=\$\((.*)\)$", r"\1", command.partition("; echo $?")[0])
    words, _, into = words.partition(" > ")
    words, _, out_of = words.partition(" < ")
    stdin = (tmp_path / out_of).read_bytes() if out_of else b""
    done = shell(*words.split()[1:], stdin=stdin)
    out = done.out
    if into:
        (tmp_path / into).write_text(out)
    if into or words != command.partition(" < ")[0].partition("; ")[0]:
        out = ""
    return done, out + (f"{done.status}" if "$?" in command else "")


def test_the_readme_shows_what_is_printed(bare, tmp_path):
    commands = [command.split()[1] for command, _ in steps()]
    assert {"db", "app", "key", "token", "doctor", "keygen", "sig"} == {
        name.removeprefix("$(sigmgr") or "token" for name in commands
    }
    for command, shown in steps():
        done, out = run(bare, command, tmp_path)
        answer = alike(out + "\n" + done.err)
        warned_first = alike(done.err + "\n" + out)
        beginning, dots, end = alike(shown).partition(" ...")
        whole = beginning in {answer, warned_first}
        assert whole or (dots and answer.startswith(beginning) and answer.endswith(end)), command


@pytest.mark.parametrize("word", ["pip install .", "SQLite, PostgreSQL and Redis"])
def test_the_readme_describes_how_to_install_without_make(word):
    assert word in " ".join(README.split())
