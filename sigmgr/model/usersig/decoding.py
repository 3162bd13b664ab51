"""Reading a sig of any origin.

What this module does: text in, :class:`Decoded` out, whichever format and generator.
What it does not do: need a key, or believe a word of it.

Bounds and tolerance are in ``container`` and ``members``. Not read is the oldest form of
all, plain JSON with a wall-clock time, which even its own verifier reads an hour or more
off (format notes, section 1.3).
"""

from __future__ import annotations

from sigmgr.model.usersig import members, v1, v2
from sigmgr.model.usersig.container import unpack
from sigmgr.model.usersig.decoded import Decoded


def decode(text: str) -> Decoded:
    """The fields of a sig, unverified. Raises :class:`BadSig` with a structural reason:
    too-long, not-base64, not-zlib, too-large, not-json, missing-field or bad-field."""
    found = members.parse(unpack(text))
    # The one mark that tells the formats apart (format notes, section 0).
    return v2.decode(found) if found.get("TLS.ver") == v2.VERSION else v1.decode(found)
