"""UserSigs and privateMapKeys: encode, decode and verify.

``sign(facts, key)``       the strict encoder; the same facts and key give the same sig
``decode(text)``           the tolerant reader; needs no key and trusts nothing
``verify(text, keys, ...)``  decode, then every check in a fixed order
``sign_checked(facts, key)``  as ``sign``, and whether a cheap check proves the result right
``FORMATS``                the registered formats; ``formats`` describes how to add one

Not all of a string is signed: two strings of one sig may differ in every byte, so compare facts,
never strings (format notes, section 0).

What this package does not do: pick keys, read clocks, know policies or revocations.
"""

from sigmgr.model.usersig.formats import (
    FORMATS,
    SigningKey,
    VerifyingKey,
    decode,
    sign,
    sign_checked,
)
from sigmgr.model.usersig.tencent import V1, V2
from sigmgr.model.usersig.verifying import MAX_AHEAD, issued_in_future, verify

FORMATS.register(V1())
FORMATS.register(V2(), fallback=True)

__all__ = [
    "FORMATS",
    "MAX_AHEAD",
    "SigningKey",
    "VerifyingKey",
    "decode",
    "issued_in_future",
    "sign",
    "sign_checked",
    "verify",
]
