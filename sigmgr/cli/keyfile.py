"""Keys and sigs of the stateless commands, from files and standard input.

Rules:
1. An error of a key file contains the file's name and nothing of its content.
2. ``-`` is standard input, which can be read once: two values cannot come from it.
3. A secret in place of a file name is a likely mistake. It is not repeated.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from sigmgr.cli import output
from sigmgr.model.shown import credential

if TYPE_CHECKING:
    from sigmgr.model.usersig import VerifyingKey
    from sigmgr.model.usersig.formats import Pasted

STDIN = "-"
#: More than any key or sig has; a longer input is refused later, by its size.
_MOST_BYTES = 65536


def one_from_stdin(*sources: str) -> None:
    """Raises Misuse where standard input is asked for twice."""
    if sources.count(STDIN) > 1:
        raise output.Misuse(
            "standard input can be read once, and - is given twice",
            "Put one of the two into a file.",
        )


def signing_key(source: str, key_format: str | None, option: str = "--key") -> Pasted:
    """A signing key, of the given format or of the one it looks like. Raises BadKey or Misuse."""
    from sigmgr.model import pasted

    content = read(source, option)
    with named(source):
        return pasted.read(content, key_format)


def verifying_keys(sources: Sequence[str]) -> list[VerifyingKey]:
    """Verifying keys of the formats they look like, with a warning for an odd one. Raises as
    above."""
    from sigmgr.model import pasted

    found = []
    for source in sources:
        content = read(source)
        with named(source):
            key, odd = pasted.read_verifier(content)
        if odd:
            output.warn(f"{name(source)}: {odd}")
        found.append(key)
    return found


def sig_text(given: str) -> str:
    """The sig itself; ``-`` is standard input."""
    if given != STDIN:
        return given
    return sys.stdin.buffer.read(_MOST_BYTES).decode("utf-8", "replace").strip()


def read(source: str, option: str = "--key") -> bytes:
    """The content of the file of ``option``. Raises Misuse."""
    if source == STDIN:
        return sys.stdin.buffer.read(_MOST_BYTES)
    try:
        with Path(source).open("rb") as file:
            return file.read(_MOST_BYTES)
    except (OSError, ValueError) as error:
        if kind := credential(source):
            text = f"{option} takes the name of a file; what is given looks like {kind}"
            is_key = kind in {"a key", "a PEM", "a key or another secret"}
            hint = "Put the key into a file with mode 0600." if is_key else "Name the key's file."
            raise output.Misuse(text, hint) from None
        why = error.strerror if isinstance(error, OSError) else "no file has such a name"
        raise output.Misuse(
            f"the key file {source} cannot be read: {why}", "Name a file that you may read."
        ) from None


@contextmanager
def named(source: str) -> Iterator[None]:
    from sigmgr.model import errors

    try:
        yield
    except errors.BadKey as error:
        raise errors.BadKey(f"{name(source)}: {error.text}") from None


def name(source: str) -> str:
    return "standard input" if source == STDIN else source
