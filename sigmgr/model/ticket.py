"""Tickets: the short signed token with which a client opens its stream. Not a sig.

Rules:
1. A ticket names one user of one app and lives as long as the sig it came with, so that a client
   can reconnect after weeks.
2. It is a function of (user, issued_at, expires_at, key): the same sig gives the same ticket in
   every process, and nothing is stored.
3. A ticket has one spelling. The library's base64 accepts padding, foreign characters and stray
   last bits; they are refused, so that a limit by the ticket's text cannot be evaded.
4. A ticket from before a revocation opens nothing. The caller that has the record checks it against
   ``revoked_at``.

Layout: ``t1.`` + base64url without padding of (MAC 16 bytes, sdkappid u32, issued_at u32,
expires_at u32, userid). The MAC is keyed BLAKE2b (RFC 7693) of the rest: a third of the time of an
HMAC, and every message to a stream carries a ticket.
"""

from __future__ import annotations

import hmac
import struct
from base64 import urlsafe_b64decode
from binascii import b2a_base64
from hashlib import blake2b
from typing import NamedTuple

from sigmgr.model import errors
from sigmgr.model.holder import Holder
from sigmgr.model.mistaken import no_ticket

_PREFIX = "t1."
_MAC = 16
_HEAD = struct.Struct(">III")
_MAX_CHARS = 128
_TO_URL = bytes.maketrans(b"+/", b"-_")


class Ticket(NamedTuple):
    """An opened ticket. ``user`` is the holder of the user's own sig."""

    user: Holder
    issued_at: int
    expires_at: int


class Tickets:
    """Makes and opens tickets under one key (32 bytes, derived from the master key)."""

    def __init__(self, key: bytes) -> None:
        self._keyed = blake2b(key=key, digest_size=_MAC)

    def issue(self, sdkappid: int, userid: str, issued_at: int, expires_at: int) -> str:
        body = _HEAD.pack(sdkappid, issued_at, expires_at) + userid.encode("ascii")
        return _written(self._mac(body) + body)

    def open(self, ticket: str, now: int) -> Ticket:
        """Raises TicketInvalid (also for a foreign ticket) or TicketExpired."""
        if not ticket.startswith(_PREFIX) or len(ticket) > _MAX_CHARS:
            raise no_ticket(ticket)
        raw = _read(ticket)
        mac, body = raw[:_MAC], raw[_MAC:]
        if not hmac.compare_digest(mac, self._mac(body)):
            raise errors.TicketInvalid
        sdkappid, issued_at, expires_at = _HEAD.unpack_from(body)
        if now >= expires_at:
            raise errors.TicketExpired
        userid = body[_HEAD.size :].decode("ascii")
        return Ticket(Holder(sdkappid, userid), issued_at, expires_at)

    def _mac(self, body: bytes) -> bytes:
        keyed = self._keyed.copy()
        keyed.update(body)
        return keyed.digest()


def _written(raw: bytes) -> str:
    text = b2a_base64(raw, newline=False)
    return _PREFIX + text.translate(_TO_URL).rstrip(b"=").decode("ascii")


def _read(ticket: str) -> bytes:
    """Raises TicketInvalid for every text that :func:`_written` does not produce."""
    text = ticket[len(_PREFIX) :]
    try:
        raw = urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except ValueError:
        raise errors.TicketInvalid from None
    if _written(raw) != ticket:
        raise errors.TicketInvalid
    return raw
