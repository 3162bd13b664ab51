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
7. What a message on a channel brings is in one seal, under a key for each channel and month, with
   the month in the clear. The tag covers the message's events: each value belongs to its event.

Random nonces allow 2^32 = 4.3e9 values under a key (NIST SP 800-38D: a collision has a chance below
2^-32). With 10^9 users in 64 shards each shard has 1.6e7. Sigs of 90 days are renewed after 60, so
half of them get one in a month; each sealed ten times, that makes 8e7. Room keys every 4 hours for
10^8 users make 2.8e8. A mass reissue adds 1.6e7. With fewer shards than 8 such an installation
would come near the limit.

What this module does not do: talk to Redis, or judge whether a sig may still be served.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from os import urandom
from struct import Struct
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from sigmgr.model import values
from sigmgr.model.holder import Holder
from sigmgr.model.redis_layout import Layout, decode_values, encode_values
from sigmgr.model.sig import Current
from sigmgr.telemetry import UNREAD

MONTH: Final = 30 * 86_400

_FLAGS_AT: Final = 5
_FLAGS: Final = bytes([values.SEALED])
_NONCE_AT: Final = _FLAGS_AT + 1
_NONCE_BYTES: Final = 12
_SEALED_AT: Final = _NONCE_AT + _NONCE_BYTES
#: The head of what a message brings: version, month.
_MESSAGE: Final = Struct(">BI")
_MESSAGE_AT: Final = _MESSAGE.size + _NONCE_BYTES
_VERSION: Final = bytes([values.VERSION])
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
        def aead(part: int | str, month: int) -> AESGCM:
            return AESGCM(derive(f"cached/{part}/{month}"))

        self._aead = aead
        self._damaged = UNREAD.labels("damaged")
        self._unsealed = UNREAD.labels("unsealed")

    def encode(self, current: Current) -> bytes:
        """Raises KeyError for an unknown format or reason."""
        shard = self._layout.shard(current.holder)
        key = self._layout.sig_key_in(shard, current.holder).encode()
        return self.seal(shard, key, values.encode(current))

    def seal(self, shard: int, key: bytes, value: bytes) -> bytes:
        if not self._seal:
            return value
        head, nonce = value[:_FLAGS_AT] + _FLAGS, urandom(_NONCE_BYTES)
        aead = self._aead(shard, int.from_bytes(value[1:_FLAGS_AT], "big") // MONTH)
        return head + nonce + aead.encrypt(nonce, value[_FLAGS_AT:], head + key)

    def seal_message(self, shard: int, events: bytes, brought: Sequence[bytes], now: int) -> bytes:
        body = encode_values(brought)
        if not self._seal:
            return body
        head, nonce = _MESSAGE.pack(values.VERSION, now // MONTH), urandom(_NONCE_BYTES)
        aead = self._aead(self._layout.channel(shard), now // MONTH)
        return head + nonce + aead.encrypt(nonce, body, head + events)

    def open_message(self, shard: int, events: bytes, sealed: bytes) -> Sequence[bytes] | None:
        """What :meth:`seal_message` was given; None where it does not open. Raises ValueError for
        what is no list of values."""
        head, nonce = sealed[: _MESSAGE.size], sealed[_MESSAGE.size : _MESSAGE_AT]
        if sealed[:1] != _VERSION or len(nonce) < _NONCE_BYTES:
            if not self._seal:
                return decode_values(sealed)
            self._unsealed.inc()
            return None
        aead = self._aead(self._layout.channel(shard), _MESSAGE.unpack(head)[1])
        try:
            return decode_values(aead.decrypt(nonce, sealed[_MESSAGE_AT:], head + events))
        except InvalidTag:
            self._damaged.inc()
            return None

    def decode(self, holder: Holder, value: bytes) -> Current | None:
        if values.is_sealed(value):
            current = self._open(holder, value)
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

    def _open(self, holder: Holder, value: bytes) -> Current | None:
        shard = self._layout.shard(holder)
        aead = self._aead(shard, int.from_bytes(value[1:_FLAGS_AT], "big") // MONTH)
        key = self._layout.sig_key_in(shard, holder).encode()
        try:
            rest = aead.decrypt(
                value[_NONCE_AT:_SEALED_AT], value[_SEALED_AT:], value[:_NONCE_AT] + key
            )
        except (InvalidTag, ValueError):
            # ValueError: it ends within the nonce.
            return None
        return values.decode(holder, value[:_FLAGS_AT] + rest)
