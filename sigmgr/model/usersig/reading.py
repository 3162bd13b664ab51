"""From the text of a sig to its fields, or the first thing that is wrong with it.

What this module does: the one strict way through container, members and formats.
What it does not do: explain how a text came to be wrong; see ``diagnosis``.

Bounds and tolerance are in ``container`` and ``members``. Not read is the oldest form of
all, plain JSON with a wall-clock time, which even its own verifier reads an hour or more
off (format notes, section 1.3).

Which format it is, is told by one member (format notes, section 0): ``TLS.ver`` is the text
"2.0" in v2 and absent in v1. Where it is absent or another thing, and the other members are
those of v2, that is said: taken for v1, such a sig would miss members that it never had.
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
    """A document of v2 without the mark of v2."""
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
