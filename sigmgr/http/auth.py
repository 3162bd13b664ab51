"""Bearer tokens of backends, ops and admins: who asks, and what may they reach.

Rules:
1. A token is ``smt_`` and 32 random bytes in base64url. Only a keyed digest of it is
   stored, so neither a stolen database nor a log line opens anything.
2. The hot path is one HMAC and one dict lookup: what the store said is believed for
   ``keep`` seconds, so a revoked token works that much longer at most.
3. While the store is away, a token it knew within the last ``grace`` seconds goes on
   working: gets are answered from caches then, and a dead database must not close them.
4. What a token may not see is denied before anything is looked up, so that the answer does
   not tell whether an app exists.

Roles: ``backend`` is the app's own server, ``ops`` reads facts, ``admin`` may do all.
"""

from __future__ import annotations

import hmac
import secrets
from base64 import urlsafe_b64encode
from collections.abc import Awaitable, Callable, Iterable

from sigmgr.model import errors
from sigmgr.model.app import Token

PREFIX = "smt_"
_SECRET_BYTES = 32
_CHARS = len(PREFIX) + 43
_NEGATIVES = 4096

BACKEND = frozenset({"backend", "admin"})
FACTS = frozenset({"backend", "ops", "admin"})

Lookup = Callable[[bytes], Awaitable[Token | None]]


def digest_of(key: bytes, token: str) -> bytes:
    """What the store keeps of a token."""
    return hmac.digest(key, token.encode("ascii", "replace"), "sha256")


def new_token(key: bytes) -> tuple[str, bytes]:
    """A new token's text, to be shown once, and its digest, to be stored."""
    text = PREFIX + urlsafe_b64encode(secrets.token_bytes(_SECRET_BYTES)).rstrip(b"=").decode()
    return text, digest_of(key, text)


def bearer(headers: Iterable[tuple[bytes, bytes]]) -> str | None:
    """The credential of the Authorization header; None where there is no bearer one."""
    for name, value in headers:
        if name == b"authorization":
            if value[:7].lower() != b"bearer ":
                return None
            return value[7:].strip().decode("latin-1") or None
    return None


def allow(token: Token, roles: frozenset[str], sdkappid: int | None = None) -> None:
    """Raises RoleDenied, or AppDenied where the token is bound to another app."""
    if token.role not in roles:
        raise errors.RoleDenied
    if token.sdkappid and sdkappid is not None and token.sdkappid != sdkappid:
        raise errors.AppDenied


class Auth:
    """Opens tokens. ``lookup`` asks the store by digest and answers None for an unknown or
    revoked one; ``monotonic`` counts seconds."""

    def __init__(
        self,
        lookup: Lookup,
        key: bytes,
        monotonic: Callable[[], float],
        *,
        keep: float = 5.0,
        grace: float = 300.0,
    ) -> None:
        self._lookup = lookup
        self._key = key
        self._monotonic = monotonic
        self._keep = keep
        self._grace = grace
        self._known: dict[bytes, tuple[Token, float]] = {}
        self._unknown: dict[bytes, float] = {}

    def peek(self, text: str | None) -> Token | None:
        """The token if it was looked up a moment ago; never waits, never raises."""
        if text is None:
            return None
        hit = self._known.get(digest_of(self._key, text))
        if hit is None or self._monotonic() - hit[1] > self._keep:
            return None
        return hit[0]

    async def token(self, text: str | None) -> Token:
        """Raises TokenMissing or TokenUnknown."""
        if text is None:
            raise errors.TokenMissing
        found = self.peek(text)
        if found is None:
            found = await self._looked_up(text)
        if found is None:
            raise errors.TokenUnknown
        return found

    async def _looked_up(self, text: str) -> Token | None:
        if not text.startswith(PREFIX) or len(text) != _CHARS:
            return None
        digest = digest_of(self._key, text)
        now = self._monotonic()
        if now - self._unknown.get(digest, -self._keep - 1) <= self._keep:
            return None
        try:
            found = await self._lookup(digest)
        except errors.UnavailableError:
            old = self._known.get(digest)
            if old is None or now - old[1] > self._grace:
                raise
            return old[0]
        self._remember(digest, found, now)
        return found

    def _remember(self, digest: bytes, found: Token | None, now: float) -> None:
        if found is not None:
            self._known[digest] = (found, now)
            self._unknown.pop(digest, None)
            return
        self._known.pop(digest, None)
        if len(self._unknown) >= _NEGATIVES:
            self._unknown.clear()
        self._unknown[digest] = now
