"""Checks the JSON members of a sig document of unknown origin.

Rules:
1. A document is one flat object. Members may come in any order, with any whitespace and any
   escapes; unknown ones are ignored (format notes, sections 0 and 1).
2. A member appears once; otherwise two readers could see two different sigs.
3. A value is a string or a whole number. A number may be written as either, but only in the
   spelling that is signed: no sign, no leading zero, no fraction.
4. No text contains a control character: a line end could give one signed text two meanings. The
   exception is the base64 of a signature, where an old generator left CR LF; it is not part of the
   signed text.

What this module does not do: know the members of a format; see ``v1`` and ``v2``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any, NoReturn

from sigmgr.model.errors import BadSig, SigReason
from sigmgr.model.holder import MAX_UINT32
from sigmgr.model.usersig.container import from_base64

Members = dict[str, str | int]

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_NUMBER = re.compile(r"(0|[1-9][0-9]{0,9})\Z")


def odd_value(name: str, _value: object) -> BadSig:
    """The error for a member whose type no member has."""
    return bad_field(name, "is neither text nor a whole number")


def parse(document: bytes, odd: Callable[[str, object], BadSig] = odd_value) -> Members:
    """The members. Raises :class:`BadSig` with ``not-json`` or ``bad-field``; ``odd`` makes the
    error for a value that is neither text nor a whole number."""
    try:
        parsed = _DECODER.decode(document.decode("utf-8"))
    except (ValueError, RecursionError):
        raise BadSig(SigReason.NOT_JSON, "the sig holds no JSON") from None
    if not isinstance(parsed, dict):
        raise BadSig(SigReason.NOT_JSON, "the sig holds JSON that is no object")
    for name, value in parsed.items():
        if isinstance(value, bool) or not isinstance(value, str | int):
            raise odd(name, value)
    return parsed


def optional_text(members: Members, name: str) -> str | None:
    """A text member without control characters and unpaired surrogates; None where it is absent."""
    value = members.get(name)
    if value is None:
        return None
    value = str(value)
    if _CONTROL.search(value):
        raise bad_field(name, "has control characters")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise bad_field(name, "is not valid Unicode") from None
    return value


def userid(members: Members) -> str:
    """``TLS.identifier``. Any Unicode text: others sign ids that sigmgr refuses."""
    value = optional_text(members, "TLS.identifier")
    if value is None:
        raise _missing("TLS.identifier")
    if not value:
        raise bad_field("TLS.identifier", "is empty")
    return value


def number(members: Members, name: str, *, least: int = 0) -> int:
    """An unsigned 32-bit member."""
    value = members.get(name)
    if value is None:
        raise _missing(name)
    spelled = str(value)
    if not _NUMBER.match(spelled) or not least <= int(spelled) <= MAX_UINT32:
        raise bad_field(name, f"is no whole number of {least} to {MAX_UINT32}")
    return int(spelled)


def userbuf(members: Members) -> tuple[str, bytes] | tuple[None, None]:
    """The base64 of ``TLS.userbuf``, as it is signed, and its bytes."""
    value = optional_text(members, "TLS.userbuf")
    if value is None:
        return None, None
    return value, _unbase64("TLS.userbuf", value)


def signature(members: Members) -> bytes:
    """The bytes of ``TLS.sig``; line ends inside its base64 are allowed."""
    value = members.get("TLS.sig")
    if value is None:
        raise _missing("TLS.sig")
    return _unbase64("TLS.sig", str(value).replace("\r", "").replace("\n", ""))


def bad_field(name: str, what: str) -> BadSig:
    """The error for one member. Its name is not repeated if long or odd."""
    shown = name if re.match(r"[A-Za-z0-9_.]{1,32}\Z", name) else "member of the sig"
    return BadSig(SigReason.BAD_FIELD, f"{shown} {what}")


def _missing(name: str) -> BadSig:
    return BadSig(SigReason.MISSING_FIELD, f"{name} is missing")


def _unbase64(name: str, value: str) -> bytes:
    try:
        return from_base64(value.encode("ascii"))
    except ValueError:
        raise bad_field(name, "is not base64") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise BadSig(SigReason.BAD_FIELD, "a member appears more than once")
    return members


def _no_constant(_name: str) -> NoReturn:
    raise BadSig(SigReason.NOT_JSON, "the sig holds NaN or Infinity, which JSON has not")


# Not strict: the members' own rules judge raw line ends inside strings.
_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_constant, strict=False)
