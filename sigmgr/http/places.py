"""Paths: the app and the user that a request is about, taken from the path as it was sent.

User ids may hold any printable ASCII, so a ``/`` in one travels as ``%2F``. The path is
therefore split before it is unquoted, never after.
"""

from __future__ import annotations

import re
from typing import Annotated, NamedTuple
from urllib.parse import unquote_to_bytes

from fastapi import Path
from pydantic import BeforeValidator, WithJsonSchema

from sigmgr.model import errors
from sigmgr.model.holder import MAX_UINT32, check_sdkappid, check_userid

_NUMBER = re.compile(rb"[1-9][0-9]{0,9}")
_BROKEN_PERCENT = re.compile(rb"%(?![0-9A-Fa-f]{2})")


class Place(NamedTuple):
    """Which user of which app."""

    sdkappid: int
    userid: str


def sdkappid_of(segment: str | bytes) -> int:
    """Raises BadSdkAppId."""
    text = segment.encode("latin-1", "replace") if isinstance(segment, str) else segment
    if not _NUMBER.fullmatch(text):
        raise errors.BadSdkAppId(
            "the sdkappid in the path is to be 1 to 10 digits that do not begin with 0"
        )
    return check_sdkappid(int(text))


def userid_of(segment: str | bytes) -> str:
    """Raises BadUserId."""
    raw = segment.encode("latin-1", "replace") if isinstance(segment, str) else segment
    if b"%" in raw:
        if _BROKEN_PERCENT.search(raw):
            raise errors.BadUserId("the user id in the path has a % that encodes nothing")
        raw = unquote_to_bytes(raw)
    if not raw.isascii():
        if len(raw) > 32:
            raise errors.BadUserId(f"the user id has {len(raw)} bytes; 32 is the limit")
        raise errors.BadUserId("the user id has characters other than printable ASCII")
    return check_userid(raw.decode("ascii"))


def place_of_sig(raw_path: bytes) -> Place:
    """The place in ``/v1/apps/{sdkappid}/users/{userid}/sig``. Raises RouteUnknown too."""
    parts = raw_path.split(b"/")
    if len(parts) != 7 or parts[4] != b"users":
        raise errors.RouteUnknown
    return Place(sdkappid_of(parts[3]), userid_of(parts[5]))


SdkAppId = Annotated[
    int,
    BeforeValidator(sdkappid_of),
    WithJsonSchema({"type": "integer", "minimum": 1, "maximum": MAX_UINT32}),
    Path(description="The number that the Tencent console shows for the application."),
]
UserId = Annotated[
    str,
    BeforeValidator(userid_of),
    WithJsonSchema({"type": "string", "pattern": "^[ -~]{1,32}$", "minLength": 1, "maxLength": 32}),
    Path(description="1 to 32 bytes of printable ASCII, percent-encoded where a URL needs it."),
]
