"""Cached sigs sealed, so that who reads Redis has no sig: fulfils ``ports.Values``.

Layout of a sealed value: the first five bytes of the value it seals (version and issued_at,
which the scripts in Redis compare) and the flags ``SEALED`` in the clear; a random nonce of
12 bytes; the rest of the value under AES-256-GCM, with its tag of 16 bytes.

Rules:
1. The clear head and the name of the Redis key are covered by the tag. The name holds shard,
   holder and the installation's prefix: a value moved to another place does not open.
2. There is a key for each shard and month of ``issued_at`` (30 days, counted from 1970), so a
   reader knows the key from the head, whatever its clock.
3. With the seal on, a value without one is no value: otherwise who can write to Redis could
   have any string handed out. It is derived again, as if Redis had been wiped.
4. With the seal off, sealed values are read all the same: both settings may run side by side.
5. What does not open is no value and no error: damaged, moved, or of another master key.
6. A tombstone holds no secret and has no seal.

How far the nonces are from their limit: random ones may seal 2^32 = 4.3e9 values under a key
(NIST SP 800-38D: two alike with a chance below 2^-32). Of 10^9 users in 64 shards each shard
has 1.6e7. A sig lives 90 days and is renewed after 60, so half of them get one in a month;
sealed ten times each, as it is told and whenever it is derived again, that makes 8e7. A room
key is made anew every 4 hours: 10^8 people in rooms day and night make 2.8e8. A mass
reissue adds 1.6e7. With fewer shards than 8 such an installation would come near.

What this does not do: talk to Redis, or judge whether a sig may still be served.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from os import urandom
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from sigmgr.model import values
from sigmgr.model.holder import Holder
from sigmgr.model.redis_layout import Layout
from sigmgr.model.sig import Current
from sigmgr.telemetry import UNREAD

MONTH: Final = 30 * 86_400

_FLAGS_AT: Final = 5
_FLAGS: Final = bytes([values.SEALED])
_NONCE_AT: Final = _FLAGS_AT + 1
_NONCE_BYTES: Final = 12
_SEALED_AT: Final = _NONCE_AT + _NONCE_BYTES
#: 2.5 kB each; 64 shards and sigs of 90 days are 320. One that is not here takes 4 us.
_KEYS_KEPT: Final = 2048


class CachedValues:
    """``derive`` is a master key's: 32 bytes for a purpose. ``layout`` says where values lie.
    ``seal`` False writes values that anybody can read."""

    def __init__(
        self, derive: Callable[[str], bytes], layout: Layout, *, seal: bool = True
    ) -> None:
        self._layout = layout
        self._seal = seal

        @lru_cache(maxsize=_KEYS_KEPT)
        def aead(shard: int, month: int) -> AESGCM:
            return AESGCM(derive(f"cached/{shard}/{month}"))

        self._aead = aead
        self._damaged = UNREAD.labels("damaged")
        self._unsealed = UNREAD.labels("unsealed")

    def encode(self, current: Current, shard: int | None = None) -> bytes:
        """Raises KeyError for a format or reason that there is none of."""
        value = values.encode(current)
        if not self._seal:
            return value
        head = value[:_FLAGS_AT] + _FLAGS
        aead, key = self._of(current.holder, current.issued_at, shard)
        nonce = urandom(_NONCE_BYTES)
        return head + nonce + aead.encrypt(nonce, value[_FLAGS_AT:], head + key)

    def decode(self, holder: Holder, value: bytes, shard: int | None = None) -> Current | None:
        """The sig in a value of this holder, or None."""
        if values.is_sealed(value):
            current = self._open(holder, value, shard)
        elif values.is_tombstone(value):
            return None
        elif self._seal:
            self._unsealed.inc()
            return None
        else:
            current = values.decode(holder, value)
        if current is None:
            self._damaged.inc()
        return current

    def _open(self, holder: Holder, value: bytes, shard: int | None) -> Current | None:
        aead, key = self._of(holder, int.from_bytes(value[1:_FLAGS_AT], "big"), shard)
        try:
            rest = aead.decrypt(
                value[_NONCE_AT:_SEALED_AT], value[_SEALED_AT:], value[:_NONCE_AT] + key
            )
        except (InvalidTag, ValueError):
            # ValueError: cut within the nonce.
            return None
        return values.decode(holder, value[:_FLAGS_AT] + rest)

    def _of(self, holder: Holder, issued_at: int, shard: int | None) -> tuple[AESGCM, bytes]:
        """The key of a value, and the name it is bound to."""
        if shard is None:
            shard = self._layout.shard(holder)
        key = self._layout.sig_key_in(shard, holder).encode()
        return self._aead(shard, issued_at // MONTH), key
