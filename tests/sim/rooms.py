"""The TRTC part of the emulated cloud: rooms under advanced permission control.

Rules:
1. Every user needs a privateMapKey to enter; it is bound to one room.
2. A room is created when its first user enters, which needs the create bit.
3. The key is checked on entry and again when an audience member becomes an anchor; if it has
   expired by then the user is removed from the room.
4. ``update_private_map_key`` passes a newer key ahead of that second check.
5. A room ends with its last member. An established seat is not ended when a sig expires.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

from sigmgr.sim.cloud import Cloud, LoginError
from sigmgr.sim.verifier import AppKeys, Code, Grant, Rejected, check_room_key

CREATE, ENTER, SEND_VIDEO = 1, 2, 16


class RoomCode(IntEnum):
    """Answers of the room service; codes of the account service come negated."""

    CHECK_FAILED = -100006
    EXPIRED = -102004
    NO_RIGHT_TO_CREATE = -102010
    NO_RIGHT_TO_ENTER = -102011
    NO_RIGHT_TO_SEND_VIDEO = -102013
    NOT_IN_ROOM = -3301


class RoomError(Exception):
    """The room service refuses. ``removed``: the user was removed from the room."""

    def __init__(self, code: int, text: str, *, removed: bool = False) -> None:
        self.code = code
        self.text = text
        self.removed = removed
        super().__init__(f"{int(code)}: {text}")


class RoomRef(NamedTuple):
    """A room of an app: a number, or a name; 123 and "123" are different rooms."""

    sdkappid: int
    room: int | str


@dataclass(slots=True)
class Seat:
    room: RoomRef
    role: str
    private_map_key: str


class Rooms:
    """All seats. ``keys_of`` answers an app's keys or raises Rejected."""

    def __init__(self, keys_of: Callable[[int], AppKeys]) -> None:
        self._keys_of = keys_of
        self._members: dict[RoomRef, set[str]] = {}
        self._seats: dict[tuple[int, str], Seat] = {}
        self.removed = 0

    def seat(self, sdkappid: int, userid: str) -> Seat | None:
        return self._seats.get((sdkappid, userid))

    def enter(
        self, sdkappid: int, userid: str, room: int | str, private_map_key: str, now: int
    ) -> Seat:
        """Enter as audience. Raises :class:`RoomError`."""
        ref = RoomRef(sdkappid, room)
        grant = self._grant(ref, userid, private_map_key, now)
        if not grant.privileges & ENTER:
            raise RoomError(RoomCode.NO_RIGHT_TO_ENTER, "the key does not allow to enter")
        if ref not in self._members and not grant.privileges & CREATE:
            raise RoomError(RoomCode.NO_RIGHT_TO_CREATE, "the key does not allow to create")
        self.leave(sdkappid, userid)
        self._members.setdefault(ref, set()).add(userid)
        seat = self._seats[sdkappid, userid] = Seat(ref, "audience", private_map_key)
        return seat

    def update_private_map_key(
        self, sdkappid: int, userid: str, private_map_key: str, now: int
    ) -> None:
        """Pass a newer key for the user's present room. Raises :class:`RoomError`."""
        seat = self._seated(sdkappid, userid)
        self._grant(seat.room, userid, private_map_key, now)
        seat.private_map_key = private_map_key

    def switch_role(
        self, sdkappid: int, userid: str, role: str, now: int, private_map_key: str | None = None
    ) -> Seat:
        """Become ``anchor`` or ``audience``. Raises :class:`RoomError`, see rule 3."""
        seat = self._seated(sdkappid, userid)
        if role == "anchor":
            key = private_map_key or seat.private_map_key
            try:
                grant = self._grant(seat.room, userid, key, now)
            except RoomError as error:
                self.leave(sdkappid, userid)
                self.removed += 1
                raise RoomError(error.code, error.text, removed=True) from None
            if not grant.privileges & SEND_VIDEO:
                raise RoomError(RoomCode.NO_RIGHT_TO_SEND_VIDEO, "the key does not allow to send")
            seat.private_map_key = key
        seat.role = role
        return seat

    def leave(self, sdkappid: int, userid: str) -> None:
        seat = self._seats.pop((sdkappid, userid), None)
        if seat is None:
            return
        members = self._members[seat.room]
        members.discard(userid)
        if not members:
            del self._members[seat.room]

    def _seated(self, sdkappid: int, userid: str) -> Seat:
        seat = self._seats.get((sdkappid, userid))
        if seat is None:
            raise RoomError(RoomCode.NOT_IN_ROOM, "the user is in no room")
        return seat

    def _grant(self, ref: RoomRef, userid: str, private_map_key: str, now: int) -> Grant:
        try:
            _, grant = check_room_key(
                private_map_key,
                sdkappid=ref.sdkappid,
                userid=userid,
                keys=self._keys_of(ref.sdkappid),
                now=now,
            )
        except Rejected as error:
            expired = error.code == Code.EXPIRED
            code = RoomCode.EXPIRED if expired else RoomCode.CHECK_FAILED
            raise RoomError(code, error.text) from None
        granted: int | str = grant.room_name or grant.room_id
        if granted != ref.room:
            raise RoomError(RoomCode.CHECK_FAILED, "the key is for another room")
        return grant


class RoomCloud(Cloud):
    """A cloud with rooms."""

    def __init__(self) -> None:
        super().__init__()
        self.rooms = Rooms(self.keys_of)

    def enter_room(
        self,
        sdkappid: int,
        userid: str,
        room: int | str,
        *,
        usersig: str,
        private_map_key: str,
        now: int,
    ) -> Seat:
        """Enter a TRTC room, which needs both a UserSig and a privateMapKey.

        Raises :class:`RoomError`; a refused UserSig has the account service's code, negated.
        """
        try:
            self._accept(sdkappid, userid, usersig, now)
        except LoginError as error:
            raise RoomError(-error.code, error.text) from None
        return self.rooms.enter(sdkappid, userid, room, private_map_key, now)

    def switch_role(
        self, sdkappid: int, userid: str, role: str, now: int, private_map_key: str | None = None
    ) -> Seat:
        return self.rooms.switch_role(sdkappid, userid, role, now, private_map_key)
