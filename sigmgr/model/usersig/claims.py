"""The checked claims of a sig, in the bytes that both formats write.

Rules:
1. Everything is checked here, whatever callers have checked: the formats cannot escape a line end
   in a user id, and the official generators wrap numbers silently.
2. A number is exactly an int; a bool or a float would be written differently.
3. A sig of kind ``room`` carries a userbuf with the same expiry as the sig itself.

What this module does not do: judge policy (lifetime, key), sign, or know a format.
"""

from __future__ import annotations

import functools
from binascii import b2a_base64
from collections.abc import Callable
from typing import NamedTuple

from sigmgr.model import errors
from sigmgr.model import userbuf as userbufs
from sigmgr.model.holder import (
    MAX_UINT32,
    Kind,
    Room,
    check_privileges,
    check_sdkappid,
    check_userid,
)
from sigmgr.model.policy import check_ttl
from sigmgr.model.shown import shown
from sigmgr.model.sig import SigFacts
from sigmgr.model.ttl import MAX_TTL, MIN_TTL

_WITHOUT_ROOM = frozenset({Kind.USER.value, Kind.ADMIN.value})


class Claims(NamedTuple):
    """``quoted`` is the user id inside the quotes of JSON; ``userbuf`` is base64 or None."""

    userid: bytes
    quoted: bytes
    sdkappid: int
    issued_at: int
    ttl: int
    userbuf: bytes | None


class Layout:
    """How a format arranges claims: templates of its signed text and of its JSON, each up to the
    place where a userbuf comes."""

    def __init__(self, text: bytes, json: bytes) -> None:
        self._plain = text, json + b',"TLS.sig":"%b"}'
        self._with_userbuf = (
            text + b"TLS.userbuf:%b\n",
            json + b',"TLS.userbuf":"%b","TLS.sig":"%b"}',
        )

    def document(self, claims: Claims, sign: Callable[[bytes], bytes]) -> bytes:
        userid, quoted, sdkappid, issued_at, ttl, userbuf = claims
        text, json = self._plain if userbuf is None else self._with_userbuf
        last = () if userbuf is None else (userbuf,)
        signature = sign(text % (userid, sdkappid, issued_at, ttl, *last))
        mark = b2a_base64(signature, newline=False)
        return json % (quoted, sdkappid, ttl, issued_at, *last, mark)


def claims(facts: SigFacts) -> Claims:
    """The claims. Raises an :class:`errors.InputError` for a fact that no format can carry."""
    sdkappid, userid, kind, scope = facts.holder
    issued_at, ttl = facts.issued_at, facts.ttl
    if type(sdkappid) is not int:
        raise errors.BadSdkAppId("the sdkappid is no whole number")
    check_sdkappid(sdkappid)
    raw = quoted = check_userid(userid).encode("ascii")
    if b'"' in raw or b"\\" in raw:
        quoted = raw.replace(b"\\", b"\\\\").replace(b'"', b'\\"')
    whole = type(issued_at) is int and type(ttl) is int
    if not whole or not MIN_TTL <= ttl <= MAX_TTL or not 0 < issued_at <= MAX_UINT32 - ttl:
        raise _bad_times(issued_at, ttl)
    userbuf = None
    if kind not in _WITHOUT_ROOM:
        userbuf = _userbuf(facts)
    elif scope:
        raise errors.BadRoom(f"a sig of kind {kind} is bound to no room")
    return Claims(raw, quoted, sdkappid, issued_at, ttl, userbuf)


def _bad_times(issued_at: int, ttl: int) -> errors.InputError:
    if type(ttl) is not int:
        return errors.BadTtl("the lifetime is no whole number")
    check_ttl(ttl)
    if type(issued_at) is not int or issued_at < 1:
        return errors.BadTime("the time of issue is no whole number of Unix seconds")
    return errors.BadTime(f"the expiry {issued_at + ttl} does not fit into 32 bits")


def _userbuf(facts: SigFacts) -> bytes:
    """The base64 of a room sig's grant; user, app and times are already checked."""
    sdkappid, userid, kind, scope = facts.holder
    if kind != Kind.ROOM.value:
        raise errors.BadRequest(f"{shown(kind)} is no kind of sig: user, admin and room are")
    expires_at = facts.issued_at + facts.ttl
    privileges = check_privileges(facts.privileges)
    grant = userbufs.Userbuf(userid, sdkappid, _room(scope), expires_at, privileges)
    return b2a_base64(userbufs.encode(grant), newline=False)


@functools.lru_cache(maxsize=1024)
def _room(scope: str) -> Room:
    """Cached, since the users of one room come together."""
    room = Room.from_scope(scope)
    if room.scope != scope:
        # Two spellings of one room would be two holders.
        raise errors.BadRoom(f"{shown(scope)} is not how {shown(room.scope)} is written")
    return room
