"""Opens tokens and tickets; who shows wrong ones is slowed, by address.

Rules:
1. A right ticket, and a token that was right when this process last looked it up, are never
   refused for the wrong ones of others, so a whole office may share an address.
2. After ``BURST`` wrong ones, one in ``EVERY`` seconds is answered as what it is; the rest are
   answered 429. What is forged or unknown counts; an expired or revoked ticket was
   right once and does not.
3. A token that this process has never found, and that comes from any address that gets 429,
   is looked up after all others of that kind, one at a time, so that guessing takes a fraction
   of the connections that others need. Who waits longer than ``PATIENCE`` is told 429, even
   with a right token: after a restart this meets the first requests of such an address.
4. The counts are of this process, and bounded (see :mod:`sigmgr.model.bucket`).
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable

from starlette.types import Scope

from sigmgr.http.auth import Auth
from sigmgr.http.peers import Peers
from sigmgr.model import errors
from sigmgr.model.app import Token
from sigmgr.model.bucket import Buckets
from sigmgr.model.ticket import Ticket, Tickets
from sigmgr.telemetry import WRONG_CREDENTIALS, get_logger

log = get_logger("sigmgr.http")

BURST = 30
EVERY = 2.0
#: Seconds that somebody waits for his turn in rule 3.
PATIENCE = 0.5
#: Seconds between two log lines about wrong credentials.
LOG_EVERY = 10.0


class Credentials:
    """``monotonic`` counts seconds."""

    def __init__(
        self, tokens: Auth, tickets: Tickets, peers: Peers, monotonic: Callable[[], float]
    ) -> None:
        self.peers = peers
        self.tokens = tokens
        self.tickets = tickets
        self._monotonic = monotonic
        self._wrong = Buckets(burst=BURST, rate=1 / EVERY)
        self._turn = asyncio.Semaphore(1)
        self._logged_at = -math.inf

    async def token(self, scope: Scope, text: str | None) -> Token:
        """Raises what :meth:`Auth.token` raises, and TooManyWrong."""
        block = self.peers.block(scope)
        try:
            blocked = self._wrong.level(block, self._monotonic()) < 1
            if not blocked or text is None or self.tokens.was_known(text):
                return await self.tokens.token(text)
            return await self._in_turn(text)
        except errors.TokenUnknown as error:
            raise self._counted(scope, block, error) from None

    def ticket(self, scope: Scope, text: str | None, now: int) -> Ticket:
        """Raises TicketInvalid, TicketExpired, TooManyWrong."""
        if not text:
            raise errors.TicketInvalid("the request has no ticket in its Authorization header")
        try:
            return self.tickets.open(text, now)
        except errors.TicketInvalid as error:
            raise self._counted(scope, self.peers.block(scope), error) from None

    async def _in_turn(self, text: str) -> Token:
        try:
            async with asyncio.timeout(PATIENCE):
                await self._turn.acquire()
        except TimeoutError:
            raise errors.TooManyWrong(retry_after=1) from None
        try:
            return await self.tokens.token(text)
        finally:
            self._turn.release()

    def _counted(self, scope: Scope, block: str, error: errors.SigmgrError) -> errors.SigmgrError:
        """The error, or that it is one too many."""
        now = self._monotonic()
        WRONG_CREDENTIALS.labels(error.code).inc()
        if self._wrong.take(block, now):
            return error
        if now - self._logged_at >= LOG_EVERY:
            self._logged_at = now
            log.warning(
                "many wrong tokens or tickets come from an address",
                action="wrong-credentials",
                address=self.peers.client(scope),
                code=error.code,
            )
        return errors.TooManyWrong(retry_after=math.ceil(self._wrong.wait(block, now)))
