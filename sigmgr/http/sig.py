"""``GET .../users/{userid}/sig``, and the batch beside it.

A backend asks for a sig at every login, so the single get is plain ASGI, and its way through
the near cache awaits nothing but the two sends: the token is known by its digest, and the body
lies ready. Every other way (a token not seen lately, a user not asked for lately) leads
through the flow once and leaves its answer near.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, cast

import msgspec
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from sigmgr.http import shapes
from sigmgr.http.access import BACKEND
from sigmgr.http.answers import sig_body
from sigmgr.http.paths import sdkappid_of, userid_of
from sigmgr.http.problems import SEE_DOCS
from sigmgr.http.routes import Routes
from sigmgr.http.services import API, Services
from sigmgr.model import errors
from sigmgr.model.holder import Holder, check_userid
from sigmgr.model.problem import brief, status_of
from sigmgr.model.shown import MOST_SHOWN, credential, shown
from sigmgr.model.sig import Current
from sigmgr.push.sse import PAST_KEY
from sigmgr.telemetry import get_logger

log = get_logger("sigmgr.http.sig")

routes = Routes("backend", role=API)

MAX_BATCH = 1000
ISSUE_ERRORS = (
    errors.MaxHolders,
    errors.TooManyNewHolders,
    errors.RevokePause,
    errors.NoSigningKey,
    errors.StoreUnavailable,
)


class _Asked(msgspec.Struct, forbid_unknown_fields=True):
    userids: list[str]


_decode = msgspec.json.Decoder(_Asked).decode
_encode = msgspec.json.Encoder().encode


_HEADERS = ((b"content-type", b"application/json"), (b"cache-control", b"no-store"))
_FIELDS = b"".join(b"%b: %b\r\n" % header for header in _HEADERS)


@lru_cache(maxsize=4096)
def _start(size: int) -> dict[str, Any]:
    """The response start for a body of this size; shared, nobody changes it."""
    return {
        "type": "http.response.start",
        "status": 200,
        "headers": (*_HEADERS, (b"content-length", b"%d" % size)),
    }


@routes.get(
    "/v1/apps/{sdkappid}/users/{userid}/sig",
    BACKEND,
    raises=[errors.BadUserId, errors.AppUnknown, *ISSUE_ERRORS],
    answers=shapes.Sig,
    raw=True,
)
async def sig(services: Services, scope: Scope, receive: Receive, send: Send) -> None:
    """The user's current sig.

    The sig to sign in with; it is issued if there is none. Ask at every login."""
    segments = scope["path_params"]
    holder = Holder(sdkappid_of(segments["sdkappid"]), userid_of(segments["userid"]))
    now = services.clock()
    body = services.near.get(holder, now) if services.near is not None else None
    if body is None:
        body = sig_body(services, await services.issue.current(holder, now), now)
    past = scope.get(PAST_KEY)
    if past is None or not past.answer(_FIELDS, body):
        await send(_start(len(body)))
        await send({"type": "http.response.body", "body": body})


@routes.post(
    "/v1/apps/{sdkappid}/sigs/batch-get",
    BACKEND,
    raises=[errors.BadBatch, errors.BadRequest, errors.AppUnknown],
    answers=shapes.Batch,
    body=shapes.BatchRequest,
    raw=True,
)
async def batch(services: Services, scope: Scope, receive: Receive, send: Send) -> None:
    """Current sigs of many users.

    Up to 1,000 users at once, answered in the order asked. An id that is not valid
    gets an error in its place and does not fail the batch."""
    sdkappid = sdkappid_of(scope["path_params"]["sdkappid"])
    asked = (await receive())["body"]
    body = await batch_get(services, sdkappid, asked, services.clock())
    await Response(body, media_type="application/json")(scope, receive, send)


async def batch_get(services: Services, sdkappid: int, asked: bytes, now: int) -> bytes:
    """The body of the answer to a batch. Raises BadRequest, BadBatch or AppUnknown.

    What lies near was checked when it was put there, so only the rest is looked at.
    """
    userids = _userids(asked)
    await services.apps.app(sdkappid)
    bodies: list[bytes | None] = [None] * len(userids)
    if services.near is not None:
        get = services.near.get
        bodies = [get(Holder(sdkappid, userid), now) for userid in userids]
    if None in bodies:
        missing = {
            userid: b"" for userid, body in zip(userids, bodies, strict=True) if body is None
        }
        await _fill(services, sdkappid, missing, now)
        pairs = zip(userids, bodies, strict=True)
        bodies = [missing[userid] if body is None else body for userid, body in pairs]
    return b'{"sigs":[%b]}' % b",".join(cast("list[bytes]", bodies))


async def _fill(services: Services, sdkappid: int, missing: dict[str, bytes], now: int) -> None:
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
        answers = await services.issue.many(holders, now)
        for holder, answer in zip(holders, answers, strict=True):
            missing[holder.userid] = _item(services, holder, answer, now)
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
    message = str(error)
    if not isinstance(error, msgspec.ValidationError):
        return f"the body is not valid JSON; {takes}"
    if "unknown field" in message:
        _, name, _ = message.split("`", 2)
        return f"{shown(name)} is no field of the body; {takes}"
    if "missing required field" in message:
        return f"userids is missing in the body; {takes}"
    _, _, path = message.partition("$.")
    if not path:
        return f"the body is no JSON object; {takes}"
    wanted = "a valid string" if "[" in path else "a valid list"
    return f"{path.rstrip('`')} in the body should be {wanted}"


def _item(
    services: Services, holder: Holder, answer: Current | errors.SigmgrError, now: int
) -> bytes:
    if isinstance(answer, errors.SigmgrError):
        return _failed(holder.userid, answer)
    return sig_body(services, answer, now)


def _failed(userid: str, error: errors.SigmgrError) -> bytes:
    """An id that is far too long, or looks like a credential, is not repeated: it is known by
    its place."""
    named = "..." if len(userid) > MOST_SHOWN or credential(userid) else userid
    return _encode({"userid": named, "error": brief(error)})
