"""UserSigs and privateMapKeys: facts to string, string to fields, string to yes or no.

``sign(facts, key)``       the strict encoder; the same facts and key give the same sig
``decode(text)``           the tolerant reader; needs no key and trusts nothing
``verify(text, keys, ...)``  decode, then every check in a fixed order
``holds(text, facts, key)``  the cheap check of a v2 sig that was just made

Two formats share one container (format notes, sections 1 and 2): v1 signs with ECDSA, v2
with HMAC. What is signed is a text of ``name:value`` lines, never the JSON around it, so two
strings of one sig may differ in every byte: compare facts, never strings.

What this package does not do: pick keys, read clocks, know policies or revocations.
"""

from sigmgr.model.usersig.container import MAX_JSON_BYTES, MAX_SIG_CHARS
from sigmgr.model.usersig.decoded import Decoded
from sigmgr.model.usersig.decoding import decode
from sigmgr.model.usersig.signing import holds, sign
from sigmgr.model.usersig.verifying import MAX_AHEAD, issued_in_future, verify

__all__ = [
    "MAX_AHEAD",
    "MAX_JSON_BYTES",
    "MAX_SIG_CHARS",
    "Decoded",
    "decode",
    "holds",
    "issued_in_future",
    "sign",
    "verify",
]
