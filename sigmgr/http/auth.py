"""Bearer tokens of backends, ops and admins: who asks, and what may they reach.

Rules:
1. A token is ``smt_`` and 32 random bytes in base64url. Only a keyed digest of it is
   stored, so neither a stolen database nor a log line opens anything.
2. The hot path is one HMAC and one dict lookup: an answer of the store is used for
   ``keep`` seconds, so a revoked token works that much longer at most. Each second the look
   finds whether any token was made or revoked (:meth:`Auth.looked`): if none was, all that is
   known holds as of then. Where no look comes, a token in use is looked up again shortly
   before its time is over, behind the requests that it opens.
3. A lookup is shared by all who wait for it. Where it fails or takes longer than ``patience``
   seconds, tokens that the store knew within the last ``grace`` seconds, and after the last
   change of any, go on working at once, and one lookup a second sees whether it is back: gets
   are answered from caches then, and a database that is dead or hangs must not close them.
4. What a token may not see is denied before anything is looked up, so that the answer does
   not show whether an app exists.

Roles: ``backend`` is the app's own server, ``ops`` reads facts, ``admin`` may do all.
"""

from __future__ import annotations

import asyncio
import hmac
import math
import secrets
from base64 import urlsafe_b64encode
from collections.abc import Callable, Coroutine
from typing import Any, NamedTuple

from sigmgr.flow.limits import Lane
from sigmgr.model import errors
from sigmgr.model.app import Token
from sigmgr.model.mistaken import no_token

PREFIX = "smt_"
_SECRET_BYTES = 32
_CHARS = len(PREFIX) + 43
_NEGATIVES = 4096
_POSITIVES = 16_384
#: How long somebody waits whose token is not known, seconds.
_FIRST_WAIT = 1.8
#: From this part of ``keep`` on a token in use is looked up again.
_AHEAD = 0.8
#: Seconds between two lookups while they fail.
_PAUSE = 1.0
#: Lookups under way at a time: most connections are for other things.
_AT_ONCE = 4

Lookup = Callable[[bytes], Coroutine[Any, Any, Token | None]]


def digest_of(key: bytes, token: str) -> bytes:
    """What the store keeps of a token."""
    return hmac.digest(key, token.encode("ascii", "replace"), "sha256")


def new_token(key: bytes) -> tuple[str, bytes]:
    """A new token's text, to be shown once, and its digest, to be stored."""
    text = PREFIX + urlsafe_b64encode(secrets.token_bytes(_SECRET_BYTES)).rstrip(b"=").decode()
    return text, digest_of(key, text)


def allow(token: Token, roles: frozenset[str], sdkappid: int | None) -> None:
    """Raises RoleDenied, or AppDenied where the token is bound to another app; ``sdkappid`` is
    None where all apps are concerned."""
    if token.role not in roles:
        raise errors.RoleDenied
    if token.sdkappid and token.sdkappid != sdkappid:
        raise errors.AppDenied


class _Known(NamedTuple):
    """A token, when the lookup began that found it, and how many changes were seen by then."""

    token: Token
    at: float
    changes: int


class Auth:
    """Opens tokens. ``lookup`` asks the store by digest and answers None for an unknown or
    revoked one; ``monotonic`` counts seconds; ``keep``, ``grace`` and ``patience`` are
    seconds."""

    def __init__(
        self,
        lookup: Lookup,
        key: bytes,
        monotonic: Callable[[], float],
        *,
        keep: float = 5.0,
        grace: float = 60.0,
        patience: float = 0.5,
    ) -> None:
        self._lookup = lookup
        self._key = key
        self._monotonic = monotonic
        self._keep = keep
        self._grace = grace
        self._patience = patience
        self._known: dict[bytes, _Known] = {}
        self._unknown: dict[bytes, float] = {}
        self._pending: dict[bytes, asyncio.Task[Token | None]] = {}
        self._lane = Lane("tokens", most=_AT_ONCE)
        self._turn = asyncio.Semaphore(_AT_ONCE)
        self._failing = False
        self._tried_at = -math.inf
        self._same_at = -math.inf
        self._changes = 0

    def looked(self, began: float, changed: bool) -> None:
        """A look that began then saw all tokens as the look before it did, or not. What was
        found before a change is believed no more, nor is what a lookup that is under way
        brings: it may have read before the change."""
        self._changes += changed
        self._same_at = began

    def was_known(self, text: str) -> bool:
        """It was right when it was last looked up, however long ago."""
        return digest_of(self._key, text) in self._known

    def _age(self, known: _Known, now: float) -> float:
        """Seconds since this was so."""
        if known.changes != self._changes:
            return math.inf
        return now - max(known.at, self._same_at)

    def peek(self, text: str | None) -> Token | None:
        """The token if it needs no wait; never waits, never raises."""
        if text is None:
            return None
        digest = digest_of(self._key, text)
        known = self._known.get(digest)
        if known is None:
            return None
        now = self._monotonic()
        age = self._age(known, now)
        if age > _AHEAD * self._keep:
            if age > (self._grace if self._failing else self._keep):
                return None
            if not self._failing or now - self._tried_at >= _PAUSE:
                self._look(digest, self._patience)
        return known.token

    async def token(self, text: str | None) -> Token:
        """Raises TokenMissing or TokenUnknown, StoreUnavailable where nobody knows."""
        if text is None:
            raise errors.TokenMissing
        found = self.peek(text)
        if found is None:
            found = await self._looked_up(text)
        if found is None:
            raise no_token(text)
        return found

    async def _looked_up(self, text: str) -> Token | None:
        if not text.startswith(PREFIX) or len(text) != _CHARS:
            return None
        digest = digest_of(self._key, text)
        now = self._monotonic()
        if now - self._unknown.get(digest, -math.inf) <= self._keep:
            return None
        known = self._known.get(digest)
        believed = known is not None and self._age(known, now) <= self._grace
        task = self._look(digest, self._patience if believed else _FIRST_WAIT)
        await asyncio.wait({task})
        if task.cancelled():
            raise errors.Stopping
        try:
            return task.result()
        except errors.UnavailableError:
            if known is None or not believed:
                raise
            return known.token

    def _look(self, digest: bytes, within: float) -> asyncio.Task[Token | None]:
        """The lookup of this token that is under way, or a new one."""
        task = self._pending.get(digest)
        if task is None:
            self._tried_at = self._monotonic()
            task = asyncio.create_task(self._ask_within(digest, within), name="tokens: lookup")
            self._pending[digest] = task
            task.add_done_callback(lambda task: self._finished(digest, task))
        return task

    async def _ask_within(self, digest: bytes, within: float) -> Token | None:
        try:
            return await self._lane.within(within, self._ask(digest))
        except errors.UnavailableError:
            self._failing = True
            raise

    def _finished(self, digest: bytes, task: asyncio.Task[Token | None]) -> None:
        del self._pending[digest]
        if not task.cancelled():
            # Whoever waited has it; where nobody did, the next to ask will see it again.
            task.exception()

    async def _ask(self, digest: bytes) -> Token | None:
        """Remembers the answer, however late it comes."""
        async with self._turn:
            started, changes = self._monotonic(), self._changes
            found = await self._lookup(digest)
        self._failing = False
        self._remember(digest, found, started, changes)
        return found

    def _remember(self, digest: bytes, found: Token | None, at: float, changes: int) -> None:
        known = self._known.get(digest)
        if at < max(known.at if known else at, self._unknown.get(digest, at)):
            return  # an answer that was under way for long; a later question is answered
        if found is not None:
            # Anew at the end: what was looked up the longest ago is the first to be forgotten.
            self._known.pop(digest, None)
            self._known[digest] = _Known(found, at, changes)
            self._unknown.pop(digest, None)
            if len(self._known) > _POSITIVES:
                del self._known[next(iter(self._known))]
            return
        self._known.pop(digest, None)
        if len(self._unknown) >= _NEGATIVES:
            self._unknown.clear()
        self._unknown[digest] = at
