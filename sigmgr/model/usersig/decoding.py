"""Reads a sig of any origin: text in, :class:`Decoded` out, for every format and generator; and for
a text that is no sig, an error with what it is and what to do.

What this module does not do: need a key, or trust the fields.
"""

from __future__ import annotations

from sigmgr.model.errors import BadSig, SigReason
from sigmgr.model.usersig.decoded import Decoded
from sigmgr.model.usersig.formats import FORMATS


def decode(text: str) -> Decoded:
    """The fields of a sig, unverified. Raises :class:`BadSig` with a structural reason: one before
    ``wrong-format`` in :class:`SigReason`."""
    for reader in FORMATS.readers():
        found = reader(text)
        if found is not None:
            return found
    raise BadSig(SigReason.NO_SIG, "no format has such a text")
