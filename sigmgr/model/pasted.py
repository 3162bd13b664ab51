"""The one way in for a signing key: what somebody pasted, read, mended, doubted or refused.

Rules:
1. What certainly is another thing is refused by its name.
2. What merely is unlikely is taken with ``odd`` saying why, so that who seals it can ask
   first.
3. What is sealed is the key itself in one form, whatever it was pasted in.

How a key looks, and what is pasted in its place, is its format's to know (``usersig``).

What this module does not do: seal, or ask. What was sealed long ago is opened by the format,
which takes whatever signs; :func:`doubt` says what is to be thought of it.
"""

from __future__ import annotations

from sigmgr.model.errors import BadKey
from sigmgr.model.usersig import FORMATS, VerifyingKey
from sigmgr.model.usersig.formats import MAX_KEY_BYTES, Doubt, KeyKind, Pasted


def read(content: bytes, key_format: str | None = None) -> Pasted:
    """A signing key; its format is told from the content where none is given.

    Raises :class:`BadKey`, which names what the content is instead.
    """
    return _kind(content, key_format).read(content)


def read_verifier(content: bytes) -> tuple[VerifyingKey, str]:
    """A key that verifies, where a public half is enough, and what is odd. Raises as above."""
    return _kind(content, None).read_verifier(content)


def doubt(key_format: str, material: bytes) -> Doubt | None:
    """What is to be thought of material that is sealed already. Raises :class:`BadKey` where
    it is not usable at all."""
    return FORMATS.named(key_format).keys.doubt(material)


def _kind(content: bytes, key_format: str | None) -> KeyKind:
    """Who reads it. Raises BadKey where it is no key's size, or another format's key."""
    if len(content) > MAX_KEY_BYTES:
        raise BadKey(f"the file has more than {MAX_KEY_BYTES} bytes; no key is so long")
    if not content.strip():
        raise BadKey("there is nothing in it")
    looks = FORMATS.of_key(content)
    wanted = looks if key_format is None else FORMATS.named(key_format)
    if looks is not wanted and looks.keys.recognises(content):
        raise BadKey(
            f"this is a {looks.hints.noun}, which belongs to format {looks.name};"
            f" {wanted.name} takes a {wanted.hints.noun}"
        )
    return wanted.keys
