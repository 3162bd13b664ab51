"""Makes sig strings from facts, strictly.

The same facts and key give the same signed text and signature: v2 by nature, v1 by RFC 6979.
Another zlib-ng may compress to other bytes; the sig is the same one (format notes, section 0).

What this module does not do: decide whether a sig is made, by which key, or for how long.
"""

from __future__ import annotations

from sigmgr.model import errors
from sigmgr.model.shown import shown
from sigmgr.model.sig import SigFacts
from sigmgr.model.usersig.claims import claims
from sigmgr.model.usersig.formats import FORMATS, SigFormat, SigningKey


def sign(facts: SigFacts, key: SigningKey) -> str:
    """The sig. Raises an :class:`errors.InputError` that names what does not fit.

    ``facts.key_id`` is ignored, and so are privileges where the holder is no room holder.
    """
    return _format_of(facts, key).write(claims(facts), key)


def sign_checked(facts: SigFacts, key: SigningKey) -> tuple[str, bool]:
    """As :func:`sign`; True beside it where the sig is read back and proves to be that of these
    facts and this key, at half the cost of ``verify``. False proves nothing; ``verify`` does."""
    format_, signed = _format_of(facts, key), claims(facts)
    text = format_.write(signed, key)
    return text, format_.holds(text, signed, key)


def _format_of(facts: SigFacts, key: SigningKey) -> SigFormat:
    if key.format != facts.format:
        raise errors.BadKey(f"a {key.format} key cannot make a sig of format {shown(facts.format)}")
    return FORMATS.named(facts.format)
