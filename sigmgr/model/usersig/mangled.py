"""The known damages of sigs, and how each is undone.

Each damage has a name, a phrase, and a function that takes a text and returns it without that
damage, or None where it does not have it. A function returns no more characters than it was given,
except those that complete a base64.

What this module does not do: decide which damage it was; see ``diagnosis``.
"""

from __future__ import annotations

import html
import re
import zlib
from binascii import a2b_base64, a2b_qp
from collections.abc import Callable
from functools import partial
from typing import Final, NamedTuple
from urllib.parse import unquote

from sigmgr.model.errors import SigReason
from sigmgr.model.usersig.container import MAX_JSON_BYTES

_QUOTES: Final = " \t\r\n\"'`\\.,;:()[]{}<>\u00ab\u00bb\u2018\u2019\u201a\u201c\u201d\u201e"
#: White space, invisible characters, and line ends that a shell left as text.
_SPACE: Final = re.compile(r"[\s\u00ad\u200b-\u200f\u2060\ufeff]+|\\[rnt]")
_ESCAPED: Final = re.compile(r"(?<!\\)\\+(?=[/\"'*_-])")
_NUMBERED: Final = re.compile(r"(?<!\\)\\+(?:u00|x)([0-9A-Fa-f]{2})")
_ENTITY: Final = re.compile(r"&(?:#[0-9]{2,5}|#[xX][0-9A-Fa-f]{2,4}|[A-Za-z]{3,8});")
_MARKED: Final = re.compile(r"([*~]+)([^*~].*)", re.DOTALL)
_MAIL: Final = re.compile(r"=([ \t]*\r?\n(?!\Z)|[0-9A-F]{2})")
_HEX: Final = re.compile(r"\s*(?:[0-9A-Fa-f]{2}){50,}\s*")
#: Replacements of a sig's characters by word processors and fonts.
_TYPESET: Final = str.maketrans(
    dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2015\u2212\ufe63\uff0d", "-")
    | dict.fromkeys("\u204e\u2217\u2731\uff0a", "*")
    | {"\uff3f": "_"}
)
_ESCAPED_SLASH: Final = re.compile(r"(?<!\\)\\+/")
_STANDARD: Final = str.maketrans("+/=", "*-_")
_URL_SAFE: Final = str.maketrans("-_=", "*-_")
_WIRE_TO_STANDARD: Final = str.maketrans("*-_", "+/=")
_ANY_BASE64: Final = re.compile(r"[0-9A-Za-z+/*_-]+={0,2}")
_RUN: Final = re.compile(r"[0-9A-Za-z*_+/%-]+={0,2}")
_OWN_RUN: Final = re.compile(r"[0-9A-Za-z*_-]+")
_PADDED_RUN: Final = re.compile(r"([0-9A-Za-z*-]+)(_*)")


class Step(NamedTuple):
    """One damage. ``what`` follows "the sig"; ``{characters}`` is replaced by the number of
    superfluous characters: ``1 character that does``."""

    reason: SigReason
    what: str
    advice: str
    undo: Callable[[str], str | None]


def _without_marks(text: str) -> str | None:
    """Without a byte order mark in front; no sig begins with one."""
    found = _MARKED.fullmatch(text.strip())
    return found[2].removesuffix(found[1]) if found else None


def _out_of_mail(text: str) -> str | None:
    return _as_text(a2b_qp(text.encode("utf-8", "replace"))) if _MAIL.search(text) else None


def _as_text(content: bytes) -> str | None:
    try:
        text = content.decode("utf-8")
    except ValueError:
        return None
    return text if _SPACE.sub("", text).isprintable() else None


def _filled_up(text: str) -> str | None:
    """With the underscores at its end, which are sometimes trimmed."""
    own = text.strip()
    return own + "_" * (-len(own) % 4)


def _from_standard(text: str) -> str | None:
    """From the usual alphabet; JSON may have put a backslash before each slash."""
    plain = _ESCAPED_SLASH.sub("/", text)
    return _full(plain.translate(_STANDARD)) if set(text) & set("+/=") else None


def _from_form(text: str) -> str | None:
    """From the usual alphabet in a form or query, where a plus became a blank."""
    return _from_standard(text.strip("\t\r\n").replace(" ", "+"))


def _from_url_safe(text: str) -> str | None:
    return _full(text.translate(_URL_SAFE)) if set(text) & set("-_=") else None


def _full(text: str) -> str:
    body = text.strip().rstrip("_")
    return body + "_" * (-len(body) % 4)


def _decoded_once(text: str) -> str | None:
    """base64 of ASCII contains neither 62 nor 63, so that all alphabets are equal here."""
    if not _ANY_BASE64.fullmatch(text.strip()):
        return None
    body = text.strip().rstrip("=_")
    try:
        return _as_text(a2b_base64(body + "=" * (-len(body) % 4)))
    except ValueError:
        return None


def _first(run: re.Pattern[str], text: str) -> str | None:
    found = run.match(text.lstrip())
    return found[0] if found else None


def _up_to_its_padding(text: str) -> str | None:
    found = _PADDED_RUN.match(text.lstrip())
    if found is None:
        return None
    needed = -len(found[1]) % 4
    return found[1] + "_" * needed if needed <= len(found[2]) else None


def _up_to_the_end_of_its_stream(text: str) -> str | None:
    """Text follows that looks like more of the sig, but its stream ends before."""
    found = _PADDED_RUN.match(text.lstrip())
    if found is None:
        return None
    whole = found[1][: len(found[1]) // 4 * 4]
    stream = a2b_base64(whole.translate(_WIRE_TO_STANDARD))
    inflate = zlib.decompressobj()
    try:
        inflate.decompress(stream, MAX_JSON_BYTES)
    except zlib.error:
        return None
    if not inflate.eof:
        return None
    return whole[: -(-(len(stream) - len(inflate.unused_data)) // 3) * 4]


def _longest(run: re.Pattern[str], text: str) -> str | None:
    return max(run.findall(text), key=len, default=None)


_ALONE = "Give the sig alone, from its first character, an e, to its last; nothing before or after."
_OWN_ALPHABET = (
    "Sigs have a base64 alphabet of their own: hand the sig on exactly as it was issued, or write"
)
_TAIL = (
    SigReason.HAS_TAIL,
    "is followed by {characters} not belong to it",
    "Give the sig alone: cut off what follows it, such as '&' and the next parameter of a URL.",
)
_INSIDE = (SigReason.INSIDE_TEXT, "stands inside a longer text", _ALONE)
_ALPHABET = (
    SigReason.OTHER_ALPHABET,
    "is in the standard base64 alphabet, with + / and =",
    f"{_OWN_ALPHABET} * for +, - for / and _ for =.",
)

STEPS: Final = (
    Step(
        SigReason.QUOTED,
        "has marks around it, such as quotes, brackets or commas",
        "Give what stands between them.",
        lambda text: text.strip(_QUOTES),
    ),
    Step(
        SigReason.QUOTED,
        "has backslashes in it, as JSON and shells put them before quotes and slashes",
        "Read the JSON with a parser, and take the text that it gives.",
        lambda text: _ESCAPED.sub("", text),
    ),
    Step(
        SigReason.QUOTED,
        "has characters in it that are written as numbers, such as \\u002a for *",
        "Read the JSON with a parser, and take the text that it gives.",
        lambda text: _NUMBERED.sub(lambda found: chr(int(found[1], 16)), text),
    ),
    Step(
        SigReason.QUOTED,
        "has HTML entities in it, such as &#42; for *",
        "Take it from what the page shows, or from where the page has it.",
        lambda text: _ENTITY.sub(lambda found: html.unescape(found[0]), text),
    ),
    Step(
        SigReason.QUOTED,
        "stands between marks of Markdown",
        "Give what stands between them.",
        _without_marks,
    ),
    Step(
        SigReason.WRAPPED,
        "has line ends of a mail in it, with = before each",
        "Take it out of the mail once that is decoded (quoted-printable), or send it another way.",
        _out_of_mail,
    ),
    Step(
        SigReason.WRAPPED,
        "has line ends or blanks in it, as text that was wrapped",
        "Take them out: a sig is one line. Encode without line breaks (base64 -w 0).",
        lambda text: _SPACE.sub("", text),
    ),
    Step(
        SigReason.URL_ENCODED,
        "is URL-encoded",
        "Decode it once (%2A is *); encode a sig only when it is put into a URL.",
        lambda text: unquote(text) if "%" in text else None,
    ),
    Step(
        SigReason.CUT_OFF,
        "has lost the underscores at its end",
        "Copy it whole: the underscores at the end belong to it, nothing may trim them.",
        _filled_up,
    ),
    Step(
        SigReason.ENCODED_TWICE,
        "is base64-encoded once more",
        "Decode it once, or leave that out: a sig is base64 already.",
        _decoded_once,
    ),
    Step(
        SigReason.ENCODED_TWICE,
        "is in hex",
        "Decode it: each two digits are one character.",
        lambda text: _as_text(bytes.fromhex(text)) if _HEX.fullmatch(text) else None,
    ),
    Step(
        SigReason.OTHER_ALPHABET,
        "has typeset characters in it, such as long dashes",
        "Take it from where nothing sets type: no word processor, no web page. Its characters are"
        " * - and _.",
        lambda text: text.translate(_TYPESET),
    ),
    Step(*_ALPHABET, _from_standard),
    Step(*_ALPHABET, _from_form),
    Step(
        SigReason.OTHER_ALPHABET,
        "is in the URL-safe base64 alphabet",
        f"{_OWN_ALPHABET} * for -, - for _, and _ for each = of the padding.",
        _from_url_safe,
    ),
    Step(*_TAIL, partial(_first, _OWN_RUN)),
    Step(*_TAIL, partial(_first, _RUN)),
    Step(*_TAIL, _up_to_its_padding),
    Step(*_TAIL, _up_to_the_end_of_its_stream),
    Step(*_INSIDE, partial(_longest, _RUN)),
    Step(*_INSIDE, partial(_longest, _OWN_RUN)),
)
