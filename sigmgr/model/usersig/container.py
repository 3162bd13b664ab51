"""The outer encoding of both formats: JSON bytes, zlib, base64 in an alphabet of its own.

Rules:
1. ``+ / =`` are written ``* - _``. Here ``-`` stands for ``/``, in the usual URL-safe base64 for
   ``+``, so no ready-made decoder fits (format notes, section 1).
2. A text longer than 4096 characters is refused, and nothing inflates beyond 16 KiB; the largest
   known sigs have under 400 characters.
3. Any compression level is read, stored blocks included. Bytes after the stream are refused.
4. base64 has one spelling: full padding and no stray bits in its last character.
5. zlib-ng writes, at its quickest level; zlib takes as long as all the rest of a v2 sig. Two
   releases of it may write other bytes for one document, so sig texts are never compared.

What this module does not do: read the JSON.
"""

from __future__ import annotations

import binascii
import zlib

from zlib_ng import zlib_ng

from sigmgr.model.errors import BadSig, SigReason

MAX_SIG_CHARS = 4096
MAX_JSON_BYTES = 16384

_TO_WIRE = bytes.maketrans(b"+/=", b"*-_")
# The standard signs map to one that is no base64, so that there is one alphabet only.
_FROM_WIRE = bytes.maketrans(b"*-_+/=", b"+/=!!!")

_LEVEL = 1


def pack(document: bytes) -> str:
    stream = zlib_ng.compress(document, _LEVEL)
    return binascii.b2a_base64(stream, newline=False).translate(_TO_WIRE).decode("ascii")


def unpack(text: str) -> bytes:
    """The JSON document of a sig text; whitespace around it is allowed. Raises :class:`BadSig`."""
    if len(text) > MAX_SIG_CHARS:
        raise BadSig(SigReason.TOO_LONG, f"the sig has more than {MAX_SIG_CHARS} characters")
    try:
        stream = from_base64(text.strip().encode("ascii").translate(_FROM_WIRE))
    except ValueError:
        raise BadSig(SigReason.NOT_BASE64, "the sig is not in the base64 of sigs") from None
    inflate = zlib.decompressobj()
    try:
        document = inflate.decompress(stream, MAX_JSON_BYTES + 1)
    except zlib.error:
        raise BadSig(SigReason.NOT_ZLIB, "the sig holds no zlib stream") from None
    if len(document) > MAX_JSON_BYTES:
        raise BadSig(SigReason.TOO_LARGE, f"the sig inflates to more than {MAX_JSON_BYTES} bytes")
    if not inflate.eof:
        raise BadSig(SigReason.NOT_ZLIB, "the sig is cut off: its zlib stream does not end")
    if inflate.unused_data:
        raise BadSig(SigReason.NOT_ZLIB, "the sig has bytes after its zlib stream")
    return document


def from_base64(text: bytes) -> bytes:
    """Standard base64 in its one canonical spelling. Raises ValueError."""
    raw = binascii.a2b_base64(text)
    if binascii.b2a_base64(raw, newline=False) != text:
        raise ValueError("not the canonical base64 of these bytes")
    return raw
