"""The one way in for a signing key: what somebody pasted, read, mended, doubted or refused.

Rules:
1. What certainly is another thing is refused by its name (:mod:`sigmgr.model.likeness`).
2. What merely is unlikely is taken with ``odd`` saying why, so that who seals it can ask
   first. Nothing is odd that is used as the console gives it.
3. What is sealed is the key itself in one form, whatever it was pasted in: PKCS#8 PEM, or the
   bare secret.

What this module does not do: seal, or ask. What was sealed long ago is opened by ``keys``,
which takes whatever signs; :func:`doubt` says what is to be thought of it.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from sigmgr.model import keys
from sigmgr.model.errors import BadKey
from sigmgr.model.likeness import CONSOLE_SECRET, likeness, without_mark
from sigmgr.model.pem import MAX_KEY_BYTES
from sigmgr.model.sig import Format

_HEX = re.compile(r"[0-9A-Fa-f]+")
_MASTER_KEY = re.compile(r"[A-Za-z0-9+/_-]{43}=")
_LIKE_MASTER_KEY = " It may be 32 bytes in base64, as a master key is."
_SECRET_CHARACTERS = 64
_CONSOLE = "as the Tencent console shows them"


class Pasted(NamedTuple):
    """A key that signs. ``material`` is what is sealed; ``odd`` is a sentence, or empty."""

    format: Format
    material: bytes
    key: keys.SigningKey
    odd: str


class Doubt(NamedTuple):
    """Why a key is perhaps not the one that was meant; ``certain``: it is another thing."""

    text: str
    certain: bool


def format_of(content: bytes) -> Format:
    """A PEM is for v1, anything else for v2."""
    return Format.V1 if b"-----BEGIN" in content else Format.V2


def read(content: bytes, key_format: Format | None = None) -> Pasted:
    """A signing key; its format is told from the content where none is given.

    Raises :class:`BadKey`, which names what the content is instead.
    """
    told = _checked(content, key_format)
    material = _material(content, told)
    key = keys.from_material(told, material)
    if isinstance(key, keys.EcdsaSigner):
        return Pasted(told, key.pkcs8(), key, _oddness(key, ""))
    return Pasted(told, material, key, _oddness(key, material.decode("ascii")))


def read_verifier(content: bytes) -> tuple[keys.VerifyingKey, str]:
    """A key that verifies, where a public PEM is enough, and what is odd. Raises as above."""
    told = _checked(content, None)
    material = _material(content, told)
    key = keys.verifier_from_material(told, material)
    return key, _oddness(key, material.decode("ascii") if told is Format.V2 else "")


def doubt(key_format: str, material: bytes) -> Doubt | None:
    """What is to be thought of material that is sealed already. Raises :class:`BadKey` where
    it is not usable at all."""
    key = keys.verifier_from_material(key_format, material)
    if isinstance(key, keys.HmacKey) and (thing := likeness(material)):
        return Doubt(f"it is not a secret, but {thing.name}", certain=True)
    odd = _oddness(key, material.decode("latin-1").strip())
    return Doubt(odd, certain=False) if odd else None


def _checked(content: bytes, key_format: Format | None) -> Format:
    """The format. Raises BadKey for what certainly is another thing."""
    if len(content) > MAX_KEY_BYTES:
        raise BadKey(f"the file has more than {MAX_KEY_BYTES} bytes; no key is so long")
    if not content.strip():
        raise BadKey("there is nothing in it")
    if thing := likeness(content):
        raise BadKey(f"this is {thing.name}; {thing.advice}")
    told = key_format or format_of(content)
    if told is Format.V1 and CONSOLE_SECRET.fullmatch(content.decode("latin-1").strip()):
        raise BadKey("this is a secret, which belongs to format v2; v1 takes a PEM")
    return told


def _material(content: bytes, key_format: Format) -> bytes:
    """A secret without what editors put around it; a PEM is sorted out by ``keys``."""
    if key_format is Format.V1:
        return content
    text = without_mark(content).decode("utf-8", "surrogateescape").strip()
    return text.encode("utf-8", "surrogateescape")


def _oddness(key: keys.VerifyingKey, secret: str) -> str:
    """A sentence where the key works and probably is not the one that was meant."""
    if published := keys.demo_key_warning(key):
        return published
    if not isinstance(key, keys.HmacKey):
        return ""
    size = len(secret)
    if CONSOLE_SECRET.fullmatch(secret):
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
