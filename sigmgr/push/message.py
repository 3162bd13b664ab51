"""What a stream says: the objects that clients read, whatever carries them.

Rules:
1. A payload is the full state of one sig, never a difference, so that any message may be
   lost, repeated or overtaken by the next one.
2. Payload and framing are apart: a transport frames. The same objects travel as SSE data and
   as the answer of the long poll.
3. Only messages that carry or confirm the user's own sig have an ``issued_at`` beside their
   payload, so that a browser's Last-Event-ID is always that of a sig it holds.
4. ``usersig`` is left out for a client that already holds it, and ``action`` is then
   ``keep``: a client with ``relogin`` would log in again at every reconnect.
5. The ticket in a message is that of the sig in it; where it brings none of the user's own,
   that of the sig which the client holds. A revocation carries no ticket: there is nothing
   left that it could open.

What this module does not do: decide who gets what and when.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import msgspec

from sigmgr.model.delivery import Bye, ClientSig, Delivery, Revoked, Write
from sigmgr.model.event import Action, Event, action_for
from sigmgr.model.holder import Holder, Room
from sigmgr.model.sig import Current, Reason
from sigmgr.model.ticket import Tickets

CURRENT = "sig.current"
RENEWED = "sig.renewed"
WILL_EXPIRE = "sig.will_expire"
REVOKED = "sig.revoked"
ROOM_RENEWED = "room.renewed"
BYE = "bye"


class Message(NamedTuple):
    """One message: its type, its JSON, and the issued_at of the user's own sig in it, else 0."""

    kind: str
    payload: bytes
    issued_at: int = 0


class Payload(msgspec.Struct, omit_defaults=True, kw_only=True, gc=False):
    """Every message's fields, in the order in which they are written."""

    type: str
    sdkappid: int
    userid: str
    room_id: int = 0
    room_name: str = ""
    issued_at: int
    expires_at: int
    usersig: str = ""
    private_map_key: str = ""
    ticket: str = ""
    reason: str
    action: str


_encode = msgspec.json.Encoder().encode


@cache
def _action(kind: str, reason: str) -> str:
    return action_for(kind, reason).value


_KEEP = Action.KEEP.value


def sig_json(kind: str, current: Current, ticket: str, *, held: bool = False) -> bytes:
    """A user's sig. ``held``: the client has said that it already holds this one."""
    holder, reason = current.holder, current.reason
    return _encode(
        Payload(
            type=kind,
            sdkappid=holder.sdkappid,
            userid=holder.userid,
            issued_at=current.issued_at,
            expires_at=current.expires_at,
            usersig="" if held else current.usersig,
            ticket=ticket,
            reason=reason,
            action=_KEEP if held else _action("user", reason),
        )
    )


def room_json(current: Current, ticket: str) -> bytes:
    """A room's privateMapKey; the client hands it to its room SDK at once."""
    holder = current.holder
    room = Room.from_scope(holder.scope)
    return _encode(
        Payload(
            type=ROOM_RENEWED,
            sdkappid=holder.sdkappid,
            userid=holder.userid,
            room_id=room.id,
            room_name=room.name,
            issued_at=current.issued_at,
            expires_at=current.expires_at,
            private_map_key=current.usersig,
            ticket=ticket,
            reason=current.reason,
            action=_action("room", current.reason),
        )
    )


def warning_json(event: Event, ticket: str) -> bytes:
    """``sig.will_expire``: the sig the client holds ends soon and is not yet replaced."""
    user, reason = event.holder, event.reason
    return _encode(
        Payload(
            type=WILL_EXPIRE,
            sdkappid=user.sdkappid,
            userid=user.userid,
            issued_at=event.issued_at,
            expires_at=event.expires_at,
            ticket=ticket,
            reason=reason,
            action=_KEEP,
        )
    )


def revoked_json(user: Holder, issued_at: int, expires_at: int) -> bytes:
    """``sig.revoked``: every sig issued in or before ``issued_at`` is dead."""
    reason = Reason.REVOKED.value
    return _encode(
        Payload(
            type=REVOKED,
            sdkappid=user.sdkappid,
            userid=user.userid,
            issued_at=issued_at,
            expires_at=expires_at,
            reason=reason,
            action=_action("user", reason),
        )
    )


class Messages:
    """The messages of a stream, each with a fresh ticket."""

    def __init__(self, tickets: Tickets) -> None:
        self._tickets = tickets

    def first(self, delivery: Delivery, write: Write, claim: int) -> Message:
        """Of the first ones, for a client that claims to hold the sig of ``claim``."""
        if write.sig is not delivery.own:
            return self._room(delivery.own, write.current)
        return self.current(write.current, claim)

    def newer(self, delivery: Delivery, write: Write, kind: str) -> Message:
        """Of a stream that is open; ``kind``: the type that brings a newer sig of the user."""
        sig, current = write
        if sig is not delivery.own:
            return self._room(delivery.own, current)
        return Message(kind, sig_json(kind, current, self._of(current)), current.issued_at)

    def current(self, current: Current, claim: int = 0) -> Message:
        """The answer of the long poll and the first message of a stream: ``sig.current``."""
        held = claim == current.issued_at
        payload = sig_json(CURRENT, current, self._of(current), held=held)
        return Message(CURRENT, payload, current.issued_at)

    def warning(self, delivery: Delivery, event: Event) -> Message:
        return Message(WILL_EXPIRE, warning_json(event, self._held(delivery.own)))

    def last(self, user: Holder, reason: Revoked | Bye) -> Message:
        if isinstance(reason, Revoked):
            return Message(REVOKED, revoked_json(user, *reason))
        return Message(BYE, _encode({"type": BYE, **reason._asdict()}))

    def _room(self, own: ClientSig, current: Current) -> Message:
        return Message(ROOM_RENEWED, room_json(current, self._held(own)))

    def _of(self, current: Current) -> str:
        user = current.holder
        return self._tickets.issue(
            user.sdkappid, user.userid, current.issued_at, current.expires_at
        )

    def _held(self, own: ClientSig) -> str:
        user = own.holder
        return self._tickets.issue(user.sdkappid, user.userid, own.sent, own.expires_at)
