"""Seals cached sigs, so that a reader of Redis has no sig; fulfils ``ports.Values``.

Layout of a sealed value: in the clear the first five bytes of the value (version and issued_at,
which the scripts in Redis compare) and the flags ``SEALED``; a random nonce of 12 bytes; the rest
of the value under AES-256-GCM, with its tag of 16 bytes.

Rules:
1. The tag covers the clear head and the name of the Redis key, which contains shard, holder and the
   installation's prefix: a value copied to another key does not open.
2. There is a key for each shard and month of ``issued_at`` (30 days, counted from 1970), which a
   reader finds from the head, whatever its clock.
3. With the seal on, an unsealed value counts as none: otherwise a writer of Redis could have any
   string served. It is derived again.
4. With the seal off, sealed values are still read, so that both settings may run side by side.
5. What does not open (damaged, copied, of another master key) counts as no value, without an error.
6. A tombstone holds no secret and is not sealed.

Random nonces allow 2^32 = 4.3e9 values under a key (NIST SP 800-38D: a collision has a chance below
2^-32). With 10^9 users in 64 shards each shard has 1.6e7. Sigs of 90 days are renewed after 60, so
half of them get one in a month; each sealed ten times, that makes 8e7. Room keys every 4 hours for
10^8 users make 2.8e8. A mass reissue adds 1.6e7. With fewer shards than 8 such an installation
would come near the limit.

What this module does not do: talk to Redis, or judge whether a sig may still be served.
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
#: 2.5 kB each; 64 shards and sigs of 90 days need 320. Deriving one takes 4 us.
_KEYS_KEPT: Final = 2048


class CachedValues:
    """``derive`` is a master key's: 32 bytes for a purpose. ``layout`` names the Redis keys.
    ``seal`` False writes values in the clear."""

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

    def encode(self, current: Current, shard: int | None = None, key: bytes | None = None) -> bytes:
        """Raises KeyError for an unknown format or reason."""
        value = values.encode(current)
        if not self._seal:
            return value
        head = value[:_FLAGS_AT] + _FLAGS
        aead, key = self._of(current.holder, current.issued_at, shard, key)
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
            # ValueError: it ends within the nonce.
            return None
        return values.decode(holder, value[:_FLAGS_AT] + rest)

    def _of(
        self, holder: Holder, issued_at: int, shard: int | None, key: bytes | None = None
    ) -> tuple[AESGCM, bytes]:
        """The key of a value, and the name it is bound to."""
        if shard is None:
            shard = self._layout.shard(holder)
        if key is None:
            key = self._layout.sig_key_in(shard, holder).encode()
        return self._aead(shard, issued_at // MONTH), key
