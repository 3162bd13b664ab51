"""Explains a text that cannot be read as a sig: names the mistake and what to do.

Sigs are damaged in URLs, JSON, mail, shells and database columns. So every known damage is undone,
one after the other and several at once, until the rest can be read; the answer is what was undone.
Otherwise the text may be the beginning of a sig, or something else.

Rules:
1. The simplest explanation wins: one step before two, and in the order of ``STEPS``.
2. The work is bounded: at most ``MOST_TEXTS`` texts are tried, none longer than a sig may be,
   and reading one takes work that grows as its length.
3. No answer repeats the text, except single characters that no sig has.

What this module does not do: make anything valid. A damaged sig is not valid.
"""

from __future__ import annotations

import re
import zlib
from binascii import a2b_base64
from collections import Counter
from typing import Final, NamedTuple

from sigmgr.model.errors import BadSig, SigReason
from sigmgr.model.shown import credential
from sigmgr.model.usersig.container import MAX_JSON_BYTES, MAX_SIG_CHARS
from sigmgr.model.usersig.decoded import Decoded
from sigmgr.model.usersig.mangled import STEPS, Step
from sigmgr.model.usersig.reading import read

MOST_TEXTS: Final = 60
_MOST_STEPS: Final = 4
#: A sig cut within so many characters may contain none of its text yet.
_HEAD_CHARS: Final = 120
#: The beginning of a flat JSON object, cut anywhere.
_JSON_BEGINNING: Final = re.compile(
    r"""\s*(?:\{(?:\s*"[^"]*"\s*:\s*(?:"(?:[^"\\]|\\.)*"|[^",\s]+)\s*,)*"""
    r"""\s*(?:"[^"]*(?:"\s*(?::\s*+(?:"(?:[^"\\]|\\.)*\\?"?|[^",\s]*)\s*)?)?)?(?:\}\s*)?)?"""
)
#: Reasons of texts that could not be opened at all.
_UNOPENED: Final = frozenset(
    {SigReason.NOT_BASE64, SigReason.NOT_ZLIB, SigReason.TOO_LARGE, SigReason.NOT_JSON}
)
_WORTH_A_LOOK: Final = frozenset({SigReason.NOT_BASE64, SigReason.NOT_ZLIB})
#: Guesses that also fit a damaged sig.
_LIKE_A_SIG: Final = frozenset({"a sig", "a key or another secret"})
#: As the console shows a secret, perhaps in quotes.
_SECRET: Final = re.compile(r"[\s\"']*[0-9A-Fa-f]{64}[\s\"']*")
_ALPHABET: Final = frozenset("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz*-_")
_WIRE_TO_STANDARD: Final = str.maketrans("*-", "+/")

#: What may stand between a sig and other text; also nothing.
_SEPARATORS: Final = frozenset(["", *" \t\r\n&\"'`\\.,;:#?<>()[]{}=+/%"])
_MUCH: Final = re.compile(r"[0-9A-Za-z*_-]{24}")

_COPY_WHOLE: Final = (
    "Copy it whole. Where it was stored, look at the length of the column or field: some sigs"
    " have more than 500 characters."
)
_WHAT_A_SIG_IS: Final = (
    "A sig is one line of some 150 to 600 letters, digits and * - _ that begins with e; compare"
    " the text with that, and take it as it was issued."
)


class _Tried(NamedTuple):
    """A text, the steps that were undone to get it, each in words, and what the last step cut off
    at its end."""

    text: str
    steps: tuple[Step, ...] = ()
    words: tuple[str, ...] = ()
    behind: str = ""

    def after(self, step: Step, text: str) -> _Tried:
        many = len(self.text) - len(text)
        characters = "1 character that does" if many == 1 else f"{many} characters that do"
        word = step.what.replace("{characters}", characters)
        before, _, behind = self.text.partition(text)
        behind = "" if before.strip() else behind
        return _Tried(text, (*self.steps, step), (*self.words, word), behind)

    def sentence(self) -> str:
        often = Counter(self.words)
        phrases = (word if n == 1 else f"{word}, {n} times" for word, n in often.items())
        return f"the sig {', and '.join(phrases)}"


def read_or_explain(text: str) -> Decoded:
    """The fields of a sig of v1 or v2. Raises BadSig with the best explanation."""
    try:
        return read(text)
    except BadSig as error:
        refused = error
    raise diagnose(text, refused)


def diagnose(text: str, refused: BadSig) -> BadSig:
    """The best error for ``text``, which was refused with ``refused``; ``refused`` itself where
    nothing better is found."""
    if refused.reason not in _WORTH_A_LOOK or len(text) > MAX_SIG_CHARS:
        return refused
    tried: list[_Tried] = []
    found = _undone(text, tried)
    return found or _cut_off(tried) or _another_thing(text) or _no_more_known(text, refused)


def _undone(text: str, tried: list[_Tried]) -> BadSig | None:
    """The error for the steps that make the text readable, if any; ``tried`` collects the texts."""
    tried.append(_Tried(text))
    seen = {text}
    for one in tried:  # grows meanwhile
        if len(one.steps) == _MOST_STEPS:
            break
        for step in STEPS:
            left = step.undo(one.text)
            if not left or left in seen or len(tried) == MOST_TEXTS:
                continue
            seen.add(left)
            tried.append(one.after(step, left))
            problem = _still_wrong_with(left)
            if problem is not None:
                return _explained(tried[-1], problem)
    return None


def _still_wrong_with(text: str) -> str | None:
    """Nothing ("") or what is wrong with its members; None where it cannot be opened."""
    try:
        read(text)
    except BadSig as error:
        return None if error.reason in _UNOPENED else error.text
    return ""


def _explained(found: _Tried, problem: str) -> BadSig:
    sentence = found.sentence()
    if problem:
        sentence += f"; and with that undone, {problem}"
    advice = " ".join(dict.fromkeys(step.advice for step in found.steps))
    return BadSig(found.steps[0].reason, sentence, advice)


def _cut_off(tried: list[_Tried]) -> BadSig | None:
    """The beginning of a sig, perhaps mangled besides."""
    for one in tried:
        rest = one.text.strip()
        if _is_beginning(rest):
            if _goes_on(one.behind):
                sentence = f"character {len(rest) + 1} of the sig is {one.behind[0]!a}"
                sentence += ", which no sig has; what is around it reads like one"
                return BadSig(SigReason.NOT_BASE64, sentence, _WHAT_A_SIG_IS)
            sentence = f"the sig is cut off: {len(rest)} characters are there and no end"
            if one.steps:
                sentence += f"; besides, {one.sentence()}"
            return BadSig(SigReason.CUT_OFF, sentence, _COPY_WHOLE)
    return None


def _goes_on(behind: str) -> bool:
    """After a character that is no separator comes what looks like the rest of the sig."""
    return behind[:1] not in _SEPARATORS and bool(_MUCH.search(behind))


def _is_beginning(text: str) -> bool:
    """It inflates without an error, to the beginning of a JSON object, and goes on."""
    body = text.rstrip("_")
    padded = body != text and len(text) % 4 == 0
    if padded or len(body) < 4 or not _ALPHABET.issuperset(body) or "_" in body:
        return False
    whole = body[: len(body) // 4 * 4].translate(_WIRE_TO_STANDARD)
    inflate = zlib.decompressobj()
    try:
        document = inflate.decompress(a2b_base64(whole), MAX_JSON_BYTES)
    except zlib.error:
        return False
    if inflate.eof:
        return False
    decoded = document.decode("utf-8", "ignore")
    plausible = decoded.replace("\n", "").replace("\t", "").replace("\r", "").isprintable()
    fits = plausible and _JSON_BEGINNING.fullmatch(decoded) is not None
    return fits and (bool(decoded) or len(body) < _HEAD_CHARS)


def _another_thing(text: str) -> BadSig | None:
    if "TLS." in text:
        sentence = "this is what a sig holds, not a sig: it is neither compressed nor in base64"
        return BadSig(SigReason.NO_SIG, sentence, _WHAT_A_SIG_IS)
    kind = "a secret" if _SECRET.fullmatch(text) else credential(text)
    if not kind or kind in _LIKE_A_SIG:
        return None
    sentence = f"this is no sig: it looks like {kind}"
    return BadSig(SigReason.NO_SIG, sentence, f"Give the usersig, not {kind}. {_WHAT_A_SIG_IS}")


def _no_more_known(text: str, refused: BadSig) -> BadSig:
    """The same reason, in as much detail as there is."""
    if not text.strip():
        return BadSig(refused.reason, "there is no sig: the text is empty", "Give the sig.")
    foreign = dict.fromkeys(char for char in text.strip() if char not in _ALPHABET)
    if foreign:
        some = " ".join(ascii(char) for char in list(foreign)[:5])
        sentence = f"{refused.text}: it has characters that no sig has ({some})"
    elif text.strip().startswith("e"):
        sentence = f"{refused.text}: it begins like one, but characters in it were changed or lost"
    else:
        sentence = refused.text
    return BadSig(refused.reason, sentence, _WHAT_A_SIG_IS)
