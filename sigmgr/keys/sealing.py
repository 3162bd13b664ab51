"""The master key: seals signing keys for the database and derives the service's own keys.

Rules:
1. The master key is exactly 32 bytes and has one use each: sealing, the check value and every
   derived key have their own HKDF-SHA256 purpose.
2. A sealed key opens only under the context it was sealed with, which names the app and the key id:
   a row copied to another app or id does not open.
3. Whatever does not open is :class:`errors.WrongMasterKey`: a wrong master key, a copied row and a
   damaged one cannot be distinguished, and none of them may sign.
4. The check value in the database reveals a wrong master key at start, even where there is no key
   yet. It reveals nothing about the master key.

What this module does not do: read settings, store anything, or know what a key is for.

Layout of a sealed value: version (1 byte, 1), nonce (12 bytes, random), AES-256-GCM ciphertext with
its 16-byte tag. The version is covered by the tag.
"""

from __future__ import annotations

import hmac
import re
import secrets
from base64 import b64decode

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from sigmgr.model import errors
from sigmgr.model.usersig.likeness import likeness

MASTER_KEY_BYTES = 32
_VERSION = b"\x01"
_NONCE_BYTES = 12
_TAG_BYTES = 16
_BASE64 = re.compile(r"[A-Za-z0-9+/]*={0,2}")
_HEX = re.compile(r"[0-9A-Fa-f]{64}")
_HOW_TO_MAKE_ONE = "make one with: head -c 32 /dev/urandom | base64"


def key_context(sdkappid: int, key_id: int) -> bytes:
    return f"sigmgr/key/{sdkappid}/{key_id}".encode("ascii")


class MasterKey:
    """Thirty-two secret bytes. Neither its repr nor any of its errors shows them."""

    __slots__ = ("_aead", "_secret")

    def __init__(self, secret: bytes) -> None:
        if len(secret) != MASTER_KEY_BYTES:
            raise errors.BadSettings(
                f"the master key has {len(secret)} bytes instead of {MASTER_KEY_BYTES};"
                f" {_HOW_TO_MAKE_ONE}"
            )
        self._secret = secret
        self._aead = AESGCM(self._hkdf(b"sigmgr/seal"))

    @classmethod
    def from_base64(cls, text: str) -> MasterKey:
        """From base64, standard or URL-safe, surrounding white space ignored. Raises
        :class:`errors.BadSettings`, with how to make one."""
        standard = text.strip().replace("-", "+").replace("_", "/")
        bare = standard.rstrip("=")
        if not _BASE64.fullmatch(standard) or len(bare) % 4 == 1 or _HEX.fullmatch(bare):
            raise errors.BadSettings(_no_key(text))
        return cls(b64decode(bare + "=" * (-len(bare) % 4)))

    def __repr__(self) -> str:
        return "MasterKey(...)"

    def __reduce__(self) -> str:
        raise TypeError("a master key is not pickled")

    def seal(self, plaintext: bytes, *, context: bytes) -> bytes:
        """Encrypted and bound to ``context``; two calls never give the same bytes."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return _VERSION + nonce + self._aead.encrypt(nonce, plaintext, _VERSION + context)

    def open(self, sealed: bytes, context: bytes) -> bytes:
        body = 1 + _NONCE_BYTES
        if sealed[:1] != _VERSION or len(sealed) < body + _TAG_BYTES:
            raise errors.WrongMasterKey("the sealed value is not one that this version made")
        try:
            return self._aead.decrypt(sealed[1:body], sealed[body:], _VERSION + context)
        except InvalidTag:
            raise errors.WrongMasterKey from None

    def derive(self, purpose: str) -> bytes:
        """32 bytes for this master key and purpose, such as ``tickets`` (signs stream tickets) or
        ``tokens`` (digests of bearer tokens)."""
        return self._hkdf(b"sigmgr/derive/" + purpose.encode("utf-8"))

    def check_value(self) -> str:
        """A public value to recognise the master key again."""
        return self._hkdf(b"sigmgr/check")[:16].hex()

    def matches(self, check_value: str) -> bool:
        return hmac.compare_digest(self.check_value().encode(), check_value.encode())

    def _hkdf(self, info: bytes) -> bytes:
        return HKDF(SHA256(), MASTER_KEY_BYTES, salt=None, info=info).derive(self._secret)


def _no_key(text: str) -> str:
    """What a text is that is no base64. How to make a new key is omitted where there is one."""
    if _HEX.fullmatch(text.strip()):
        return "the master key is in hex, and base64 is taken; turn it: xxd -r -p FILE | base64"
    if thing := likeness(text.encode("utf-8", "surrogateescape")):
        return f"the master key is {thing.name}; base64 alone is taken"
    return f"the master key is no base64, or cut off; {_HOW_TO_MAKE_ONE}"
