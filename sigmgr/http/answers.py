"""Shapes of answers that routes share: a sig, a room key, a user's facts."""

from __future__ import annotations

from typing import Any

import msgspec

from sigmgr.http.services import Services
from sigmgr.model.holder import ALL_PRIVILEGES, Holder, Privilege, Room, privilege_names
from sigmgr.model.sig import Current, Record, past_of

_encode = msgspec.json.Encoder().encode

_LONGER_NOTE = (
    "This key keeps its life of {life} s, though {ttl} s were asked for: what was handed out"
    " cannot be made shorter. To end it, revoke the user; the next key may be shorter."
)
_CREATE_NOTE = (
    "This mask contains create (1), as 0xab does: its holder may open rooms. For somebody who"
    " only watches and listens use 42 (enter, receive_audio, receive_video)."
)


def sig_body(services: Services, current: Current, now: int) -> bytes:
    """The JSON of a single get, which is also one item of a batch. It is kept near, until its
    renewal time or for ``near_ttl`` seconds."""
    sdkappid, userid, _, _ = current.holder
    issued_at, expires_at = current.issued_at, current.expires_at
    body = _encode(
        {
            "sdkappid": sdkappid,
            "userid": userid,
            "usersig": current.usersig,
            "format": current.format,
            "issued_at": issued_at,
            "expires_at": expires_at,
            "renew_at": current.renew_at,
            "ticket": services.tickets.issue(sdkappid, userid, issued_at, expires_at),
            "stream_url": services.stream_url,
        }
    )
    fresh_until = min(current.renew_at, now + services.near_ttl)
    if services.near is not None and fresh_until > now:
        services.near.put(current.holder, body, issued_at, fresh_until)
    return body


def room_key(current: Current, room: Room, mask: int, ttl: int | None) -> dict[str, Any]:
    """The answer to a room-key request, with a note where the mask is a known trap, or where
    the key lives longer than was asked."""
    fields: dict[str, Any] = {
        "sdkappid": current.holder.sdkappid,
        "userid": current.holder.userid,
        **({"room_name": room.name} if room.name else {"room_id": room.id}),
        "privileges": mask,
        "privilege_names": privilege_names(mask),
        "private_map_key": current.usersig,
        "format": current.format,
        "issued_at": current.issued_at,
        "expires_at": current.expires_at,
        "renew_at": current.renew_at,
    }
    life = current.expires_at - current.issued_at
    notes = []
    if mask & Privilege.CREATE and mask != ALL_PRIVILEGES:
        notes.append(_CREATE_NOTE)
    if ttl is not None and ttl < life:
        notes.append(_LONGER_NOTE.format(ttl=ttl, life=life))
    if notes:
        fields["note"] = " ".join(notes)
    return fields


def user_facts(user: Holder, records: list[Record], now: int) -> dict[str, Any]:
    """Facts, history and delivery of every sig of a user."""
    return {
        "sdkappid": user.sdkappid,
        "userid": user.userid,
        "holders": [_holder_facts(record, now) for record in records],
    }


def _state(record: Record, now: int) -> str:
    if record.issued_at <= record.revoked_at:
        return "revoked"
    if now >= record.expires_at:
        return "expired"
    return "dormant" if record.due_at is None else "current"


def _holder_facts(record: Record, now: int) -> dict[str, Any]:
    """Of the columns, ``shapes.HolderFacts`` lets through what it names."""
    return {
        **record._asdict(),
        "state": _state(record, now),
        "delivery": {
            "acked": record.acked,
            "acked_at": record.acked_at,
            "seen_at": record.seen_at,
            "confirmed": 0 < record.issued_at <= record.acked,
        },
        "past": [
            {**past._asdict(), "expires_at": past.issued_at + past.ttl} for past in past_of(record)
        ],
    }
