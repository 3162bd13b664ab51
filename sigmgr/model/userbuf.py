"""The binary part of a privateMapKey: which room, which privileges, until when.

The layout (format notes, section 3), integers big-endian and unsigned::

    version 1 byte | account length 2 | account | sdkappid 4 | room id 4 | expires_at 4
    | privileges 4 | account type 4 [| room name length 2 | room name]

Rules:
1. Version 0 carries a room id and ends there; version 1 carries a room name, and its room id is 0.
   No byte may be missing or left over.
2. ``encode`` gets what ``usersig.claims`` has checked; the official generators silently wrap a room
   of 2**32 to 0 and mangle other characters.
3. ``decode`` checks identities and rooms by the same limits, but passes any 32 bits of privileges,
   so that people can see an unknown mask.
4. Whatever ``decode`` accepts has exactly one encoding.

What this module does not do: base64, signing, or reading the sig around it.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from sigmgr.model import errors
from sigmgr.model.errors import BadSig, SigReason
from sigmgr.model.holder import Room, check_room, check_sdkappid, check_userid

_NUMERIC_ROOM = 0
_NAMED_ROOM = 1

_HEAD = struct.Struct(">BH")
_BODY = struct.Struct(">IIIII")
_NAME = struct.Struct(">H")


class Userbuf(NamedTuple):
    """The grant of a room sig. ``expires_at`` is absolute; ``account_type`` is always 0 now."""

    userid: str
    sdkappid: int
    room: Room
    expires_at: int
    privileges: int
    account_type: int = 0


def encode(userbuf: Userbuf) -> bytes:
    userid, sdkappid, room, expires_at, privileges, account_type = userbuf
    room_id, name = room
    head = _HEAD.pack(_NAMED_ROOM if name else _NUMERIC_ROOM, len(userid)) + userid.encode("ascii")
    packed = head + _BODY.pack(sdkappid, room_id, expires_at, privileges, account_type)
    return packed + _NAME.pack(len(name)) + name.encode("ascii") if name else packed


def decode(raw: bytes) -> Userbuf:
    """The values. Raises :class:`BadSig` with ``bad-field`` for anything but one exact layout."""
    try:
        version, size = _HEAD.unpack_from(raw)
        account, rest = _cut(raw[_HEAD.size :], size)
        fixed, tail = _cut(rest, _BODY.size)
        sdkappid, room_id, expires_at, privileges, account_type = _BODY.unpack(fixed)
        return Userbuf(
            userid=check_userid(account.decode("ascii")),
            sdkappid=check_sdkappid(sdkappid),
            room=_read_room(version, room_id, tail),
            expires_at=expires_at,
            privileges=privileges,
            account_type=account_type,
        )
    except errors.InputError as error:
        raise BadSig(SigReason.BAD_FIELD, f"the userbuf is not valid: {error.text}") from None
    except (struct.error, UnicodeDecodeError):
        raise BadSig(SigReason.BAD_FIELD, "the userbuf has not the layout of one") from None


def _read_room(version: int, room_id: int, tail: bytes) -> Room:
    if version == _NUMERIC_ROOM and not tail:
        return check_room(room_id=room_id)
    if version == _NAMED_ROOM and room_id == 0:
        name, rest = _cut(tail[_NAME.size :], _NAME.unpack_from(tail)[0])
        if not rest:
            return check_room(room_name=name.decode("ascii"))
    raise errors.BadRoom("its version, room and length do not fit together")


def _cut(data: bytes, size: int) -> tuple[bytes, bytes]:
    """The first ``size`` bytes and the rest. Raises struct.error where there are fewer."""
    if len(data) < size:
        raise struct.error
    return data[:size], data[size:]
