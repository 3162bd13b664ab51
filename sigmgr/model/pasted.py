"""Reads a pasted signing key: normalised, marked as odd, or refused.

Rules:
1. Content that is certainly something else is refused with its name.
2. Content that is merely unlikely is taken, and ``odd`` holds the reason, so that the caller can
   ask before it is sealed.
3. The key is sealed in one normal form, whatever form it was pasted in.

The formats (``usersig``) know how keys look and what is pasted in their place.

What this module does not do: seal, or ask. Sealed material is opened by its format, which takes
every key that signs; :func:`doubt` judges it.
"""

from __future__ import annotations

from sigmgr.model.errors import BadKey
from sigmgr.model.usersig import FORMATS, VerifyingKey
from sigmgr.model.usersig.formats import MAX_KEY_BYTES, Doubt, KeyKind, Pasted


def read(content: bytes, key_format: str | None = None) -> Pasted:
    """A signing key; its format follows from the content where none is given. Raises
    :class:`BadKey`, which names what the content is."""
    return _kind(content, key_format).read(content)


def read_verifier(content: bytes) -> tuple[VerifyingKey, str]:
    """A key that verifies (a public half is enough), and why it is odd. Raises BadKey."""
    return _kind(content, None).read_verifier(content)


def doubt(key_format: str, material: bytes) -> Doubt | None:
    """Judge material that is sealed already. Raises :class:`BadKey` where it is not usable."""
    return FORMATS.named(key_format).keys.doubt(material)


def _kind(content: bytes, key_format: str | None) -> KeyKind:
    """The kind that reads the content. Raises BadKey for a size that no key has, or another
    format's key."""
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
