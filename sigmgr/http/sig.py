"""The hot route, ``GET .../users/{userid}/sig``, in raw ASGI, and the batch beside it.

A backend asks for a sig at every login, so the way through the near cache awaits nothing
but the two sends: the path is split as it came, the token is known by its digest, and the
body lies ready. Every other way (a token not seen lately, a user not asked for lately)
leads through the flow once and leaves its answer near.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, cast

import msgspec
from starlette.types import Receive, Scope, Send

from sigmgr.http.answers import remember, sig_body
from sigmgr.http.auth import BACKEND, allow
from sigmgr.http.doors import Doors
from sigmgr.http.places import place_of_sig
from sigmgr.http.problems import SEE_DOCS, brief, status_of
from sigmgr.model import errors
from sigmgr.model.bearer import bearer
from sigmgr.model.holder import Holder, check_userid
from sigmgr.model.shown import MOST_SHOWN, credential, shown
from sigmgr.model.sig import Current
from sigmgr.telemetry import get_logger

log = get_logger("sigmgr.http.sig")

MAX_BATCH = 1000


class _Asked(msgspec.Struct, forbid_unknown_fields=True):
    userids: list[str]


_decode = msgspec.json.Decoder(_Asked).decode
_encode = msgspec.json.Encoder().encode


@lru_cache(maxsize=4096)
def _start(size: int) -> dict[str, Any]:
    """The response start for a body of this size; shared, nobody changes it."""
    return {
        "type": "http.response.start",
        "status": 200,
        "headers": (
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % size),
            (b"cache-control", b"no-store"),
        ),
    }


class SigRoute:
    """``GET /v1/apps/{sdkappid}/users/{userid}/sig`` as an ASGI callable."""

    def __init__(self, doors: Doors) -> None:
        self._doors = doors
        self._near = doors.near
        self._clock = doors.clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        text = bearer(scope["headers"])
        credentials = self._doors.credentials
        token = credentials.peek(text) or await credentials.token(scope, text)
        sdkappid, userid = place_of_sig(scope["raw_path"])
        allow(token, BACKEND, sdkappid)
        holder = Holder(sdkappid, userid)
        now = self._clock()
        body = self._near.get(holder, now) if self._near is not None else None
        if body is None:
            body = await self._from_flow(holder, now)
        await send(_start(len(body)))
        await send({"type": "http.response.body", "body": body})

    async def _from_flow(self, holder: Holder, now: int) -> bytes:
        current = await self._doors.issue.current(holder, now)
        body = sig_body(self._doors, current)
        remember(self._doors, current, body, now)
        return body


async def batch_get(doors: Doors, sdkappid: int, asked: bytes, now: int) -> bytes:
    """The body of the answer to a batch. Raises BadRequest, BadBatch or AppUnknown.

    What lies near was checked when it was put there, so only the rest is looked at.
    """
    userids = _userids(asked)
    await doors.apps.app(sdkappid)
    bodies: list[bytes | None] = [None] * len(userids)
    if doors.near is not None:
        get = doors.near.get
        bodies = [get(Holder(sdkappid, userid), now) for userid in userids]
    if None in bodies:
        missing = {
            userid: b"" for userid, body in zip(userids, bodies, strict=True) if body is None
        }
        await _fill(doors, sdkappid, missing, now)
        pairs = zip(userids, bodies, strict=True)
        bodies = [missing[userid] if body is None else body for userid, body in pairs]
    return b'{"sigs":[%b]}' % b",".join(cast("list[bytes]", bodies))


async def _fill(doors: Doors, sdkappid: int, missing: dict[str, bytes], now: int) -> None:
    """A sig or an error for each, through the flow, once for an id asked twice."""
    holders: list[Holder] = []
    refused: list[errors.SigmgrError] = []
    for userid in missing:
        try:
            holders.append(Holder(sdkappid, check_userid(userid)))
        except errors.BadUserId as error:
            missing[userid] = _failed(userid, error)
            refused.append(error)
    if holders:
        answers = await doors.issue.many(holders, now)
        for holder, answer in zip(holders, answers, strict=True):
            missing[holder.userid] = _item(doors, holder, answer, now)
            if isinstance(answer, errors.SigmgrError):
                refused.append(answer)
    if refused:
        _log_refused(sdkappid, len(missing), refused)


def _log_refused(sdkappid: int, looked_up: int, refused: Sequence[errors.SigmgrError]) -> None:
    """One line for a batch, however many of it were refused; as with single requests it is a
    warning where the fault is on this side."""
    ours = any(status_of(error) >= 500 for error in refused)
    (log.warning if ours else log.info)(
        "users of a batch were refused",
        action="batch-refused",
        app=sdkappid,
        looked_up=looked_up,
        refused=dict(Counter(error.code for error in refused)),
    )


def _userids(asked: bytes) -> list[str]:
    try:
        userids = _decode(asked).userids
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise errors.BadRequest(_sentence(error), advice=SEE_DOCS) from None
    if not 1 <= len(userids) <= MAX_BATCH:
        raise errors.BadBatch(f"the batch has {len(userids)} user ids; 1 to {MAX_BATCH} may be")
    return userids


def _sentence(error: Exception) -> str:
    """In the words of ``fields``, from what the decoder says."""
    takes = "the body takes the one field userids (needed)"
    said = str(error)
    if not isinstance(error, msgspec.ValidationError):
        return f"the body is not valid JSON; {takes}"
    if "unknown field" in said:
        _, name, _ = said.split("`", 2)
        return f"{shown(name)} is no field of the body; {takes}"
    if "missing required field" in said:
        return f"userids is missing in the body; {takes}"
    _, _, place = said.partition("$.")
    if not place:
        return f"the body is no JSON object; {takes}"
    wanted = "a valid string" if "[" in place else "a valid list"
    return f"{place.rstrip('`')} in the body should be {wanted}"


def _item(doors: Doors, holder: Holder, answer: Current | errors.SigmgrError, now: int) -> bytes:
    if isinstance(answer, errors.SigmgrError):
        return _failed(holder.userid, answer)
    body = sig_body(doors, answer)
    remember(doors, answer, body, now)
    return body


def _failed(userid: str, error: errors.SigmgrError) -> bytes:
    """An id that is far too long, or looks like a credential, is not repeated: it is known by
    its place."""
    named = "..." if credential(userid) or len(userid) > MOST_SHOWN else userid
    return _encode({"userid": named, "error": brief(error)})
