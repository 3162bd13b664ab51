"""Holders: whose sig it is, the room it may be bound to, and its privileges.

Limits (format notes, constraints table):
1. sdkappid is an unsigned 32-bit number and not 0.
2. A user id is 1 to 32 bytes of printable ASCII (0x20 to 0x7e).
3. A numeric room is 1 to 4294967294; a room name is 1 to 64 bytes of a fixed alphabet. Room 123 and
   the room named "123" are different rooms.
4. Privileges are eight bits; bit 0 (create) is part of 0xab, the mask often called "watch".

What this module does not do: anything with times, keys or strings of sigs.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable
from enum import IntFlag, StrEnum
from typing import NamedTuple

from sigmgr.model import errors
from sigmgr.model.shown import shown

MAX_UINT32 = 0xFFFFFFFF
MAX_ROOM_ID = 4294967294
MAX_USERID_BYTES = 32

_USERID = re.compile(r"[\x20-\x7e]{1,32}\Z")
_ROOM_ID = re.compile(r"[1-9][0-9]{0,9}\Z")
#: A regular expression that works in any dialect, for documents.
ROOM_NAME_PATTERN = r"^[A-Za-z0-9 !#$%&()+\-:;<=.>?@\[\]^_{}|~,]{1,64}$"
_ROOM_NAME = re.compile(ROOM_NAME_PATTERN.removesuffix("$") + r"\Z")


class Kind(StrEnum):
    USER = "user"
    ADMIN = "admin"
    ROOM = "room"


class Holder(NamedTuple):
    """Whose sig it is: (sdkappid, userid, kind, scope). Scope is the room for kind ``room``.

    A tuple so that it sorts: every batch locks its holders in this order.
    """

    sdkappid: int
    userid: str
    kind: str = Kind.USER.value
    scope: str = ""

    @property
    def subject(self) -> str:
        """The CloudEvents subject: ``apps/{sdkappid}/users/{userid}``."""
        return f"apps/{self.sdkappid}/users/{self.userid}"

    @property
    def user(self) -> Holder:
        """The holder of the same user's UserSig; streams and tickets belong to this one."""
        return Holder(self.sdkappid, self.userid)


def shard_of(sdkappid: int, userid: str, shards: int) -> int:
    """Shard number, 0 to ``shards`` - 1. All holders of one user share a shard."""
    return zlib.crc32(f"{sdkappid}/{userid}".encode()) % shards


class Room(NamedTuple):
    """A TRTC room, numeric (``id``) or named (``name``); exactly one of them is set."""

    id: int = 0
    name: str = ""

    @property
    def scope(self) -> str:
        """How the room is written in a holder: ``id:10000`` or ``name:lobby``."""
        return f"name:{self.name}" if self.name else f"id:{self.id}"

    @classmethod
    def from_scope(cls, scope: str) -> Room:
        """The reverse of :attr:`scope`. Raises :class:`errors.BadRoom`."""
        label, _, value = scope.partition(":")
        if label == "name":
            return check_room(room_name=value)
        if label == "id" and _ROOM_ID.match(value):
            return check_room(room_id=int(value))
        raise errors.BadRoom(f"{shown(scope)} is not a room scope")


class Privilege(IntFlag):
    """The eight privilege bits of a privateMapKey (UPB_* in Tencent's sources)."""

    CREATE = 1
    ENTER = 2
    SEND_AUDIO = 4
    RECEIVE_AUDIO = 8
    SEND_VIDEO = 16
    RECEIVE_VIDEO = 32
    SEND_SCREEN = 64
    RECEIVE_SCREEN = 128


_PRIVILEGES = {bit.name.lower(): bit.value for bit in Privilege if bit.name}
ALL_PRIVILEGES = 255


def check_sdkappid(sdkappid: int) -> int:
    """Return it, or raise :class:`errors.BadSdkAppId`."""
    if isinstance(sdkappid, bool) or not 1 <= sdkappid <= MAX_UINT32:
        raise errors.BadSdkAppId(f"sdkappid {shown(sdkappid)} is outside 1 to {MAX_UINT32}")
    return sdkappid


def check_userid(userid: str) -> str:
    """Return it, or raise :class:`errors.BadUserId` with the reason."""
    if _USERID.match(userid):
        return userid
    if not userid:
        raise errors.BadUserId("the user id is empty")
    size = len(userid.encode("utf-8", "surrogatepass"))
    if size > MAX_USERID_BYTES:
        raise errors.BadUserId(f"the user id has {size} bytes; {MAX_USERID_BYTES} is the limit")
    raise errors.BadUserId("the user id has characters other than printable ASCII")


def check_room(room_id: int | None = None, room_name: str | None = None) -> Room:
    """The room given by id or by name. Raises :class:`errors.BadRoom`."""
    if (room_id is None) == (room_name is None):
        raise errors.BadRoom("give exactly one of room_id and room_name")
    if room_id is not None:
        if isinstance(room_id, bool) or not 1 <= room_id <= MAX_ROOM_ID:
            raise errors.BadRoom(f"room_id {shown(room_id)} is outside 1 to {MAX_ROOM_ID}")
        return Room(id=room_id)
    assert room_name is not None
    if not _ROOM_NAME.match(room_name):
        raise errors.BadRoom(
            "a room_name has 1 to 64 bytes of letters, digits, space"
            " and ! # $ % & ( ) + - : ; < = . > ? @ [ ] ^ _ { } | ~ ,"
        )
    return Room(name=room_name)


def check_privileges(privileges: int | Iterable[str]) -> int:
    """A mask of 1 to 255 from a number or from names in lower case, such as ``enter``. Raises
    :class:`errors.BadPrivileges`."""
    if isinstance(privileges, int):
        if isinstance(privileges, bool) or not 1 <= privileges <= ALL_PRIVILEGES:
            raise errors.BadPrivileges(
                f"privileges {shown(privileges)} is outside 1 to {ALL_PRIVILEGES}"
            )
        return privileges
    mask = 0
    for name in privileges:
        if name not in _PRIVILEGES:
            raise errors.BadPrivileges(f"{shown(name)} is no privilege")
        mask |= _PRIVILEGES[name]
    if mask == 0:
        raise errors.BadPrivileges("no privilege is given")
    return mask


def privilege_names(mask: int) -> list[str]:
    """The names of the bits that are set, lowest bit first."""
    return [p.name.lower() for p in Privilege if mask & p and p.name]
