"""The parameters of paths: the app and the user that a request is about.

User ids may hold any printable ASCII, so a ``/`` in one travels as ``%2F``. Paths are
therefore matched as they were sent and unquoted here, a segment at a time.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Annotated, Any
from urllib.parse import unquote_to_bytes

from fastapi import Path
from pydantic import BeforeValidator, WithJsonSchema

from sigmgr.model import errors
from sigmgr.model.holder import MAX_UINT32, check_sdkappid, check_userid

_NUMBER = re.compile(r"[1-9][0-9]{0,9}")
_BROKEN_PERCENT = re.compile(rb"%(?![0-9A-Fa-f]{2})")


@lru_cache(maxsize=1024)
def sdkappid_of(segment: str) -> int:
    """Raises BadSdkAppId."""
    if not _NUMBER.fullmatch(segment):
        raise errors.BadSdkAppId(
            "the sdkappid in the path is to be 1 to 10 digits that do not begin with 0"
        )
    return check_sdkappid(int(segment))


def userid_of(segment: str) -> str:
    """Raises BadUserId."""
    raw = segment.encode("latin-1", "replace")
    if b"%" in raw:
        if _BROKEN_PERCENT.search(raw):
            raise errors.BadUserId("the user id in the path has a % that encodes nothing")
        raw = unquote_to_bytes(raw)
    if not raw.isascii():
        if len(raw) > 32:
            raise errors.BadUserId(f"the user id has {len(raw)} bytes; 32 is the limit")
        raise errors.BadUserId("the user id has characters other than printable ASCII")
    return check_userid(raw.decode("ascii"))


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

#: What each name between braces in a path is; the names of parameters are these everywhere.
PARAMETERS: dict[str, Any] = {"sdkappid": SdkAppId, "userid": UserId}
