"""HMAC-SHA256 under a key that stays, for many short texts.

What this module does: RFC 2104, with the key's two hash states made once. What it does not
do: know whose key it is, or shorten a MAC.
"""

from __future__ import annotations

import hashlib
from typing import Final

_BLOCK: Final = 64


class Mac:
    """Copying the two keyed states costs half of what the standard library's HMAC costs, and
    what is signed here, sigs and tickets, is cheap enough for that to show."""

    __slots__ = ("_inner", "_outer")

    def __init__(self, key: bytes) -> None:
        if len(key) > _BLOCK:
            key = hashlib.sha256(key).digest()
        padded = key.ljust(_BLOCK, b"\0")
        self._inner = hashlib.sha256(bytes(byte ^ 0x36 for byte in padded))
        self._outer = hashlib.sha256(bytes(byte ^ 0x5C for byte in padded))

    def digest(self, text: bytes) -> bytes:
        """The 32 bytes of the MAC."""
        inner = self._inner.copy()
        inner.update(text)
        outer = self._outer.copy()
        outer.update(inner.digest())
        return outer.digest()

    def __repr__(self) -> str:
        return "<Mac>"
