"""Reading a sig of any origin.

What this module does: text in, :class:`Decoded` out, whichever format and generator; and for
a text that is none, what it is and what to do.
What it does not do: need a key, or believe a word of it.

Bounds and tolerance are in ``container`` and ``members``. Not read is the oldest form of
all, plain JSON with a wall-clock time, which even its own verifier reads an hour or more
off (format notes, section 1.3).
"""

from __future__ import annotations

from sigmgr.model.errors import BadSig
from sigmgr.model.usersig.decoded import Decoded
from sigmgr.model.usersig.diagnosis import diagnose
from sigmgr.model.usersig.reading import read


def decode(text: str) -> Decoded:
    """The fields of a sig, unverified. Raises :class:`BadSig` with a structural reason: one
    of those before ``wrong-format`` in :class:`SigReason`."""
    try:
        return read(text)
    except BadSig as error:
        refused = error
    raise diagnose(text, refused)
