"""How errors and logs repeat a value that somebody sent: shortly, and never a credential.

Rules:
1. A value that looks like a credential is not repeated but named: people paste a token where
   a user id belongs, and errors travel further than requests, into logs and tickets.
2. A value of more than 64 characters is not repeated either; its length is told.
3. What is repeated stands in quotes, with everything unprintable escaped, so that it cannot
   steer a terminal or break a line of a log.

What looks like a credential is judged by its form alone. A form that is also that of other
things (32 hex digits are a user id somewhere) is named rather than risked.
"""

from __future__ import annotations

import re
from typing import Final

#: Longer values are described, not repeated.
MOST_SHOWN: Final = 64
_MOST_NUMBER = 10**20

_KINDS = (
    (re.compile(r"smt_[\w-]{16,}"), "an API token"),
    (re.compile(r"\bt1\.[\w-]{24,}"), "a ticket"),
    (re.compile(r"\beyJ[\w-]{8,}\.[\w-]{8,}(\.[\w-]*)?"), "a JSON web token"),
    (re.compile(r"\be[AJN][0-9A-Za-z*_/+=-]{46,}"), "a sig"),
    (re.compile(r"-----BEGIN.*", re.DOTALL), "a PEM"),
    (re.compile(r"\b(?:M[A-I]|LS0tLS1CRUdJTi)[0-9A-Za-z+/_=-]{40,}"), "a key"),
    (re.compile(r"\bAKID[0-9A-Za-z]{12,}"), "a cloud account's SecretId"),
    (re.compile(r"\b[a-z][\w+.-]*://[^\s/@]*:[^\s@]+@\S*", re.IGNORECASE), "a URL with a password"),
    (re.compile(r"\bbearer\s+\S{8,}", re.IGNORECASE), "an Authorization header"),
)
#: A run without a pause in which upper case, lower case and digits meet, or of hex digits.
_RUN = re.compile(r"[0-9A-Za-z*_+=-]{32,}")
_HEX = re.compile(r"[0-9A-Fa-f]{32,}")
_LONG = re.compile(rf"[^\s/]{{{MOST_SHOWN + 1},}}")
_MIXED = (re.compile("[a-z]"), re.compile("[A-Z]"), re.compile("[0-9]"))


def credential(text: str) -> str | None:
    """What kind of credential stands in the text, such as ``an API token``; else None."""
    for form, name in _KINDS:
        if form.search(text):
            return name
    return "a key or another secret" if any(map(_is_secret, _RUN.finditer(text))) else None


def shown(value: str | int) -> str:
    """The value as an error says it: ``'abc'``, or what it is where it is not repeated."""
    if isinstance(value, int):
        return str(value) if abs(value) < _MOST_NUMBER else "a number of too many digits"
    if kind := credential(value):
        return f"what looks like {kind}"
    if len(value) > MOST_SHOWN:
        return f"a value of {len(value)} characters"
    return repr(value) if value.isprintable() else ascii(value)


def masked(text: str) -> str:
    """A text that others wrote, about values that they were given: ``***`` for each that
    looks like a credential, and for each word that is too long to be shown. The parts of a
    path are words."""
    for form, _ in _KINDS:
        text = form.sub("***", text)
    text = _LONG.sub("***", text)
    return _RUN.sub(lambda run: "***" if _is_secret(run) else run[0], text)


def _is_secret(run: re.Match[str]) -> bool:
    return bool(_HEX.search(run[0])) or all(kind.search(run[0]) for kind in _MIXED)
