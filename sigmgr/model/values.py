"""The bytes of a cached sig: a head of 19 bytes, then the sig, compactly.

Layout, big-endian: version u8, issued_at u32, flags u8, expires_at u32, renew_at u32, key_id u32,
reason u8, sig. The scripts in Redis read the first five bytes only.

Rules:
1. A sig string is base64 in Tencent's alphabet (``*`` ``-`` ``_`` for ``+`` ``/`` ``=``); its
   decoded bytes are stored, which saves a quarter. A string that would not decode to itself is
   stored as text.
2. A tombstone is a head alone: the holder's sigs issued in or before its issued_at are revoked.
3. An unknown version or damaged bytes give ``None``, never an error.
4. A sealed value (made by ``keys/cached``) has the same first five bytes, then the flags
   ``SEALED``, a format that no sig has. So a reader without the key finds no value, and the scripts
   compare it like any other.

What this module does not do: judge whether the sig may still be served.
"""

from __future__ import annotations

import binascii
from functools import partial
from struct import Struct
from typing import Final

from sigmgr.model.holder import Holder
from sigmgr.model.sig import Current, Reason
from sigmgr.model.usersig import FORMATS

VERSION: Final = 1

_HEAD: Final = Struct(">BIBIIIB")
_FLAGS_AT: Final = 5
#: A format's code where it is 1 or 2 (0: no sig has a format). With all bits set, the upper half of
#: the flags has the code of another format, less 2; if that half is 0, the value is sealed.
_FORMAT_MASK: Final = 0b0011
_OTHER_FORMAT: Final = 0b0011
_UPPER_BITS: Final = 4
SEALED: Final = 0b0011
_TOMBSTONE: Final = 0b0100
_TEXT: Final = 0b1000
#: Their numbers are stored in Redis.
_REASONS: Final = ("", *(reason.value for reason in Reason))
_REASON_CODES: Final = {name: code for code, name in enumerate(_REASONS)}
# Twice as fast as a call of the class, where a thousand values are read at once.
_current: Final = partial(tuple.__new__, Current)
# The standard signs become one that is no base64, since they would not decode to themselves.
_TO_BASE64: Final = bytes.maketrans(b"*-_+/=", b"+/=!!!")
_FROM_BASE64: Final = bytes.maketrans(b"+/=", b"*-_")


def encode(current: Current) -> bytes:
    """The value for one sig. Raises KeyError for an unknown format or reason."""
    flags = _format_flags(current.format)
    body = _pack_sig(current.usersig)
    if body is None:
        flags |= _TEXT
        body = current.usersig.encode()
    head = _HEAD.pack(
        VERSION,
        current.issued_at,
        flags,
        current.expires_at,
        current.renew_at,
        current.key_id,
        _REASON_CODES[current.reason],
    )
    return head + body


def tombstone(issued_at: int) -> bytes:
    return _HEAD.pack(VERSION, issued_at, _TOMBSTONE, 0, 0, 0, 0)


def is_tombstone(value: bytes) -> bool:
    return len(value) == _HEAD.size and value[0] == VERSION and bool(value[_FLAGS_AT] & _TOMBSTONE)


def is_sealed(value: bytes) -> bool:
    return len(value) > _FLAGS_AT and value[0] == VERSION and value[_FLAGS_AT] == SEALED


def decode(holder: Holder, value: bytes) -> Current | None:
    """The sig in a value; None for a tombstone, a sealed value and anything unreadable."""
    if len(value) <= _HEAD.size or value[0] != VERSION:
        return None
    _, issued_at, flags, expires_at, renew_at, key_id, reason = _HEAD.unpack_from(value)
    body = value[_HEAD.size :]
    try:
        sig = body.decode() if flags & _TEXT else _unpack_sig(body)
        format_ = _format_of(flags)
        return _current(
            (holder, format_, key_id, issued_at, expires_at, renew_at, sig, _REASONS[reason])
        )
    except (ValueError, LookupError):
        return None


def _format_flags(name: str) -> int:
    code = FORMATS.code(name) if name else 0
    return code if code < _OTHER_FORMAT else _OTHER_FORMAT | (code - 2) << _UPPER_BITS


def _format_of(flags: int) -> str:
    """Raises KeyError for an unknown code, and for a sealed value."""
    code, upper = flags & _FORMAT_MASK, flags >> _UPPER_BITS
    if code == _OTHER_FORMAT:
        return FORMATS.coded(2 + upper if upper else 0)
    return FORMATS.coded(code) if code else ""


def _pack_sig(sig: str) -> bytes | None:
    """The bytes behind a sig string, or None where they do not encode to the same string."""
    try:
        raw = binascii.a2b_base64(sig.encode("ascii").translate(_TO_BASE64), strict_mode=True)
    except ValueError:
        return None
    # Strict, so only the bits that fill up the last character can differ.
    whole = not len(raw) % 3 or _unpack_sig(raw[-(len(raw) % 3) :]) == sig[-4:]
    return raw if raw and whole else None


def _unpack_sig(raw: bytes) -> str:
    return binascii.b2a_base64(raw, newline=False).translate(_FROM_BASE64).decode("ascii")
