"""Reads the text of a sig strictly: its fields, or the first thing that is wrong.

Bounds and tolerance are in ``container`` and ``members``. The oldest form, plain JSON with a
wall-clock time, is not read: even its own verifier is an hour or more off (format notes, section
1.3).

One member names the format (format notes, section 0): ``TLS.ver`` is the text "2.0" in v2 and
absent in v1. Where it is absent or different and the other members are those of v2, the error says
that, since as v1 the sig would lack members that v2 never has.

What this module does not do: explain how a text was damaged; see ``diagnosis``.
"""

from __future__ import annotations

from sigmgr.model.errors import BadSig, SigReason
from sigmgr.model.usersig import members, v1, v2
from sigmgr.model.usersig.container import unpack
from sigmgr.model.usersig.decoded import Decoded

_MARK = "TLS.ver"
_MARK_IT = (
    'Whoever makes the sig must write "TLS.ver": "2.0", with the quotation marks; then have it'
    " made anew."
)
_ONLY_V2 = frozenset({"TLS.sdkappid", "TLS.expire"})
_ONLY_V1 = frozenset({"TLS.sdk_appid", "TLS.expire_after", "TLS.account_type"})


def read(text: str) -> Decoded:
    """The fields, unverified. Raises :class:`BadSig` with a structural reason."""
    found = members.parse(unpack(text), _odd)
    if found.get(_MARK) == v2.VERSION:
        return v2.decode(found)
    if _ONLY_V2 & found.keys() and not _ONLY_V1 & found.keys():
        raise _unmarked(found)
    return v1.decode(found)


def _unmarked(found: members.Members) -> BadSig:
    """The error for a document of v2 without ``TLS.ver``."""
    if _MARK not in found:
        text = 'TLS.ver is missing: the other members are those of v2, which has the text "2.0"'
        return BadSig(SigReason.MISSING_FIELD, text, _MARK_IT)
    return _badly_marked("a number" if isinstance(found[_MARK], int) else "another text")


def _odd(name: str, value: object) -> BadSig:
    if name != _MARK:
        return members.odd_value(name, value)
    kinds = {bool: "true or false", float: "a number", type(None): "null"}
    return _badly_marked(kinds.get(type(value), "no text"))


def _badly_marked(kind: str) -> BadSig:
    return BadSig(SigReason.BAD_FIELD, f'TLS.ver is {kind}; in v2 it is the text "2.0"', _MARK_IT)
