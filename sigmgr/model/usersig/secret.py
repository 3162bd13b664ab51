"""The keys of v2, which are secrets: a :class:`KeyKind`.

Rules:
1. v2 is HMAC-SHA256 with the *text* of the console's secret: its 64 characters, not the 32 bytes
   that they spell (format notes, section 2). A secret made here works only where both sides accept
   it (a private cloud, a test); the cloud's own come from its console.
2. Any text works as a secret. What certainly is something else is refused by name (``likeness``);
   what is merely unlikely is taken and marked as odd. A secret as the console gives it is never
   odd.
3. Neither errors nor ``repr`` show the secret. A fingerprint is over its text.
4. What is sealed is the bare secret, without surrounding text.

What this module does not do: store or seal it, know apps or states.
"""

from __future__ import annotations

import hmac
import re
from typing import Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.hmac import HMAC

from sigmgr.model.errors import BadKey
from sigmgr.model.usersig import v2
from sigmgr.model.usersig.formats import MAX_KEY_BYTES, Doubt, Draw, Pasted, fingerprint
from sigmgr.model.usersig.likeness import (
    CONSOLE_SECRET,
    likeness,
    published,
    refuse_likeness,
    without_mark,
)

_SECRET_CHARACTERS: Final = 64
_HEX = re.compile(r"[0-9A-Fa-f]+")
_MASTER_KEY = re.compile(r"[A-Za-z0-9+/_-]{43}=")
_LIKE_MASTER_KEY = " It may be 32 bytes in base64, as a master key is."
_CONSOLE = "as the Tencent console shows them"

#: Published secrets (format notes, section 7.1). Of the demo secret in every official v2 README
#: only its ends and its length are on record.
_TEST_VECTORS = "8e7511e2421b8ff4"
_DEMO_SECRET_ENDS = ("5bd2850f", "b93b5e")


class HmacKey:
    __slots__ = ("_keyed", "fingerprint")

    format = v2.NAME
    curve = ""
    public_pem = b""
    cost = 13

    def __init__(self, secret: str) -> None:
        raw = secret.encode("ascii")
        self._keyed = HMAC(raw, hashes.SHA256())
        self.fingerprint = fingerprint(raw)

    def sign(self, text: bytes) -> bytes:
        # Half the cost of copying the standard library's HMAC.
        mac = self._keyed.copy()
        mac.update(text)
        return mac.finalize()

    def verify(self, text: bytes, signature: bytes) -> bool:
        """Whether this key made that MAC over the text, in constant time."""
        return hmac.compare_digest(self.sign(text), signature)

    def __repr__(self) -> str:
        return f"<HmacKey {self.fingerprint}>"


def load_secret(text: str) -> HmacKey:
    """A v2 key from the secret as the console shows it. Raises :class:`BadKey`."""
    secret = text.strip()
    if not secret:
        raise BadKey("the secret is empty")
    if len(secret) > MAX_KEY_BYTES:
        raise BadKey(f"the secret has more than {MAX_KEY_BYTES} characters")
    if "-----BEGIN" in secret:
        raise BadKey("the text is a PEM, which belongs to format v1; v2 takes a secret string")
    if not (secret.isascii() and secret.isprintable()):
        raise BadKey("the secret has characters other than printable ASCII")
    return HmacKey(secret)


def recognises(content: bytes) -> bool:
    """Whether it is a secret as the console shows it."""
    return CONSOLE_SECRET.fullmatch(content.decode("latin-1").strip()) is not None


def read(content: bytes) -> Pasted:
    """A secret, without what editors put around it. Raises BadKey."""
    refuse_likeness(content)
    text = without_mark(content).decode("utf-8", "surrogateescape").strip()
    material = text.encode("utf-8", "surrogateescape")
    key = signer(material)
    return Pasted(v2.NAME, material, key, _oddness(key, text))


def read_verifier(content: bytes) -> tuple[HmacKey, str]:
    """As :func:`read`, since the same secret verifies. Raises BadKey."""
    found = read(content)
    return signer(found.material), found.odd


def signer(material: bytes) -> HmacKey:
    return load_secret(material.decode("ascii", "replace"))


def doubt(material: bytes) -> Doubt | None:
    key = signer(material)
    if thing := likeness(material):
        return Doubt(f"it is not a secret, but {thing.name}", certain=True)
    odd = _oddness(key, material.decode("latin-1").strip())
    return Doubt(odd, certain=False) if odd else None


def generate(draw: Draw, _curve: str | None) -> bytes:
    """A new secret in the console's form; there are no curves."""
    return draw(_SECRET_CHARACTERS // 2).hex().encode("ascii")


def is_signature(signature: bytes) -> bool:
    return len(signature) == hashes.SHA256.digest_size


def _oddness(key: HmacKey, secret: str) -> str:
    """A sentence where the key works but probably is not the intended one."""
    if key.fingerprint == _TEST_VECTORS:
        return published("the secret of published test vectors")
    size, (head, tail) = len(secret), _DEMO_SECRET_ENDS
    if CONSOLE_SECRET.fullmatch(secret):
        if secret.startswith(head) and secret.endswith(tail):
            return published("the demo secret in the READMEs of the official v2 libraries")
        same = len(set(secret)) == 1
        return "the secret is one character, repeated: was it pasted at all?" if same else ""
    if not _HEX.fullmatch(secret):
        return (
            f"the secret is not {_SECRET_CHARACTERS} hex digits, {_CONSOLE}, but {size} characters:"
            f" was it pasted whole?{_LIKE_MASTER_KEY if _MASTER_KEY.fullmatch(secret) else ''}"
        )
    if size != _SECRET_CHARACTERS:
        return (
            f"the secret has {size} hex digits instead of {_SECRET_CHARACTERS}, {_CONSOLE}: was it"
            " pasted whole?"
        )
    return f"the secret has hex digits in upper case, not {_CONSOLE}; the case counts"
