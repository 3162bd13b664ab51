"""Reading a sig of any origin.

What this module does: text in, :class:`Decoded` out, whichever format and generator; and for
a text that is none, what it is and what to do.
What it does not do: need a key, or believe a word of it.
"""

from __future__ import annotations

from sigmgr.model.errors import BadSig, SigReason
from sigmgr.model.usersig.decoded import Decoded
from sigmgr.model.usersig.formats import FORMATS


def decode(text: str) -> Decoded:
    """The fields of a sig, unverified. Raises :class:`BadSig` with a structural reason: one
    of those before ``wrong-format`` in :class:`SigReason`."""
    for reader in FORMATS.readers():
        found = reader(text)
        if found is not None:
            return found
    raise BadSig(SigReason.NO_SIG, "no format has such a text")
