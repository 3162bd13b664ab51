"""How errors and logs repeat a value from outside: shortly, and never a credential.

Rules:
1. A value that looks like a credential is named, not repeated: people paste tokens in place of user
   ids, and errors end up in logs and tickets.
2. Of a value of more than 64 characters only the length is shown, or what it looks like by its
   first ``MOST_READ``.
3. A repeated value is quoted, with everything unprintable escaped, so that it cannot control a
   terminal or break a log line.
4. The work grows as the length at most, whatever the text: it is done for requests without any
   right. So no form scans a stretch of the text again for each place where it could begin.

Credentials are recognised by form alone. A form that other values also have (32 hex digits may be a
user id) counts as a credential. Text without a form of its own, such as base64 without padding, is
recognised because it contains no words: names of files consist of words and numbers.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator
from typing import Final

#: Longer values are described, not repeated.
MOST_SHOWN: Final = 64
#: A credential that begins later in a text is not named.
MOST_READ: Final = 1024
_MOST_NUMBER = 10**20

#: 32 bytes in base64, as a master key is.
_PADDED = re.compile(r"(?<![0-9A-Za-z+_-])[0-9A-Za-z+/_-]{43}=(?![\w=])")
#: How keys begin in base64: a SEQUENCE, and in it a number or another SEQUENCE.
_DER = r"M(?:[A-H][0-9A-Za-z+/_-][Cw]|I[GH][0-9A-Za-z+/_-](?:Ag|M)|II)"
_UNNAMED: Final = "a key or another secret"
_KINDS = (
    (re.compile(r"smt_[\w-]{16,}"), "an API token"),
    (re.compile(r"\bt1\.[\w-]{24,}"), "a ticket"),
    (
        re.compile(r"(?<![\w-])(?>[\w-]*?\beyJ)[\w-]{8,}+\.[\w-]{8,}(\.[\w-]*)?"),
        "a JSON web token",
    ),
    (re.compile(r"\be[AJN][0-9A-Za-z*_/+=-]{46,}"), "a sig"),
    (re.compile(r"-----BEGIN.*?(-----END[^-]*-----|\Z)", re.DOTALL), "a PEM"),
    (re.compile(rf"\b(?:{_DER}|LS0tLS1CRUdJTi)[0-9A-Za-z+/_=-]{{40,}}"), "a key"),
    (re.compile(r"\bAKID[0-9A-Za-z]{12,}"), "a cloud account's SecretId"),
    (
        re.compile(r"[a-z][\w+.-]{0,30}://[^\s/@:]{0,200}:[^\s@]{1,1000}@\S*", re.IGNORECASE),
        "a URL with a password",
    ),
    (
        re.compile(r"\bbearer\s+((?=\S*[0-9])\S{8,}|\S{20,})", re.IGNORECASE),
        "an Authorization header",
    ),
    (_PADDED, _UNNAMED),
)
_RUN = re.compile(r"[0-9A-Za-z*_+/=-]{32,}")
_HEX = re.compile(r"[0-9A-Fa-f]{32,}")
_LONG = re.compile(rf"[^\s/]{{{MOST_SHOWN + 1},}}")
_DIGIT = re.compile("[0-9]")
#: Parts of names: words, acronyms, numbers, and short parts of any kind.
_WORD = re.compile(
    r"(?<![0-9A-Za-z])[0-9A-Za-z]{1,4}(?![0-9A-Za-z])"
    r"|(?<![A-Z])[A-Z]{2,}(?=[A-Z][a-z]{2}|[^A-Za-z]|\Z)|[0-9]{4,}|(?P<lower>[A-Z]?[a-z]{2,})"
)
_VOWEL = re.compile("[aeiouyAEIOUY]")
#: No name has so many characters outside of words within so many of all.
_WORDLESS, _WITHIN = 9, 32


def credential(text: str) -> str | None:
    """The kind of credential in the beginning of the text, such as ``an API token``; else None."""
    text = text[:MOST_READ]
    for form, name in _KINDS:
        if form.search(text):
            return name
    return _UNNAMED if next(_secrets(text), None) else None


def shown(value: str | int) -> str:
    """The value as an error shows it: ``'abc'``, or a description where it is not repeated."""
    if isinstance(value, int):
        return str(value) if abs(value) < _MOST_NUMBER else "a number of too many digits"
    if kind := credential(value):
        return f"what looks like {kind}"
    if len(value) > MOST_SHOWN:
        return f"a value of {len(value)} characters"
    return repr(value) if value.isprintable() else ascii(value)


def masked(text: str) -> str:
    """A text of unknown origin with ``***`` for each part that looks like a credential, and for
    each word that is too long to be shown. The parts of a path are words."""
    for form, _ in _KINDS:
        text = form.sub("***", text)
    text = _LONG.sub("***", text)
    parts, after = [], 0
    for start, end in _secrets(text):
        parts += [text[after:start], "***"]
        after = end
    return "".join([*parts, text[after:]])


def _secrets(text: str) -> Iterator[tuple[int, int]]:
    """The positions of secrets without a form of their own. They do not overlap."""
    for run in _RUN.finditer(text):
        hexes = [found.span() for found in _HEX.finditer(run[0])]
        for start, end in _joined(run[0], [*hexes, *_wordless(run[0])]):
            yield run.start() + start, run.start() + end


def _wordless(run: str) -> Iterator[tuple[int, int]]:
    """Stretches of mixed upper case, lower case and digits that contain no words."""
    alone = [run[at].isalnum() for at in range(len(run))]
    for word in _WORD.finditer(run):
        if word["lower"] is None or _VOWEL.search(word[0]):
            alone[word.start() : word.end()] = [False] * len(word[0])
    at = [index for index, is_alone in enumerate(alone) if is_alone]
    ends = zip(at, at[_WORDLESS - 1 :], strict=False)
    dense = [(start, end + 1) for start, end in ends if end - start < _WITHIN]
    for start, end in _joined(run, dense) if _DIGIT.search(run) else ():
        rest = [run[index] for index in at[bisect_left(at, start) : bisect_left(at, end)]]
        if any(map(str.isupper, rest)) and any(map(str.islower, rest)):
            yield start, end


def _joined(run: str, spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Widen each to whole parts of a path, and merge those that meet."""
    joined: list[tuple[int, int]] = []
    for first, last in sorted(spans):
        done = joined[-1][1] if joined else 0
        if last <= done:
            continue
        start, end = run.rfind("/", done, first + 1) + 1, run.find("/", last)
        if joined and start <= done:
            start, _ = joined.pop()
        joined.append((start, len(run) if end < 0 else end))
    return joined
