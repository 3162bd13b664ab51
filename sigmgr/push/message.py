"""What a stream says: the objects clients read, and their framing as server-sent events.

Rules:
1. A payload is the full state of one sig, never a difference, so that any message may be
   lost, repeated or overtaken by the next one.
2. Payload and framing are apart: the same objects travel as SSE data, as WebSocket frames
   and as the answer of the long poll.
3. ``id:`` stands only on messages that carry or confirm the user's own sig, so that a
   browser's Last-Event-ID is always the ``issued_at`` of a sig it holds. Room keys,
   warnings and revocations have none.
4. ``usersig`` is left out for a client that already holds it, and ``action`` is then
   ``keep``: a client with ``relogin`` would log in again at every reconnect.
5. A revocation carries no ticket: there is nothing left that it could open.

What this module does not do: decide who gets what and when. It reads no clock and draws
nothing.
"""

from __future__ import annotations

from functools import cache

import msgspec

from sigmgr.model.event import Action, Event, action_for
from sigmgr.model.holder import Room
from sigmgr.model.sig import Current, Reason

CURRENT = "sig.current"
RENEWED = "sig.renewed"
WILL_EXPIRE = "sig.will_expire"
REVOKED = "sig.revoked"
ROOM_RENEWED = "room.renewed"
BYE = "bye"

#: A comment line: keeps proxies from closing a quiet stream, and is ignored by clients.
HEARTBEAT = b":\n\n"


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


def current_json(current: Current, ticket: str, held_issued_at: int | None = None) -> bytes:
    """The answer of the long poll and the first message of a stream: ``sig.current``."""
    return sig_json(CURRENT, current, ticket, held=held_issued_at == current.issued_at)


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
    return _encode(_of_event(WILL_EXPIRE, event, ticket, _KEEP))


def revoked_json(event: Event) -> bytes:
    """``sig.revoked``: every sig issued in or before ``issued_at`` is dead."""
    return _encode(_of_event(REVOKED, event, "", _action("user", Reason.REVOKED)))


def bye_json(reason: str, reconnect_after: int) -> bytes:
    """The stream ends, the sig does not: come back after so many seconds."""
    return _encode({"type": BYE, "reason": reason, "reconnect_after": reconnect_after})


@cache
def _head(kind: str) -> bytes:
    return b"event: %b\n" % kind.encode()


def sse(kind: str, payload: bytes, issued_at: int | None = None) -> bytes:
    """One server-sent event. JSON has no line breaks, so one ``data`` line is enough."""
    head = _head(kind)
    if issued_at is None:
        return b"%bdata: %b\n\n" % (head, payload)
    return b"%bid: %d\ndata: %b\n\n" % (head, issued_at, payload)


def sse_retry(draw: float, low: int = 1000, high: int = 5000) -> bytes:
    """How long a browser waits before it reconnects, in milliseconds, drawn per stream: with
    one value for all, a restart would bring every client back in the same second."""
    return b"retry: %d\n\n" % (low + int((high - low) * draw))


def _of_event(kind: str, event: Event, ticket: str, action: str) -> Payload:
    return Payload(
        type=kind,
        sdkappid=event.holder.sdkappid,
        userid=event.holder.userid,
        issued_at=event.issued_at,
        expires_at=event.expires_at,
        ticket=ticket,
        reason=event.reason,
        action=action,
    )
