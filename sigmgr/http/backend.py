"""Routes for backends (and, for facts, ops): parse, call one flow, shape the answer."""

from __future__ import annotations

from typing import Any

from fastapi import Response
from fastapi.responses import JSONResponse

from sigmgr.http import answers, shapes
from sigmgr.http.access import BACKEND, FACTS
from sigmgr.http.paths import SdkAppId, UserId
from sigmgr.http.routes import Routes
from sigmgr.http.services import API, Services
from sigmgr.http.sig import ISSUE_ERRORS
from sigmgr.model import errors
from sigmgr.model.holder import Holder, check_privileges, check_room
from sigmgr.model.sig import Reason
from sigmgr.model.usersig import issued_in_future

routes = Routes("backend", role=API)

_APP = "/v1/apps/{sdkappid}"
_USER = f"{_APP}/users/{{userid}}"


def reason_of(text: str) -> Reason:
    """A reason that a caller may give. Raises BadReason."""
    if text not in shapes.REISSUE_REASONS:
        raise errors.BadReason
    return Reason(text)


@routes.post(
    f"{_USER}/sig/reissue",
    BACKEND,
    raises=[
        errors.BadUserId,
        errors.BadReason,
        errors.AppUnknown,
        errors.HolderUnknown,
        errors.AlreadyReplaced,
        *ISSUE_ERRORS,
    ],
    answers=shapes.Sig,
)
async def reissue(
    services: Services,
    sdkappid: SdkAppId,
    userid: UserId,
    body: shapes.ReissueRequest | None = None,
) -> Response:
    """The user's next sig.

    Makes the next sig and pushes it to the user's streams. The old one works on
    until it expires. A second call within one second answers with the first's sig. For a
    user who never had one it takes `create`, so that a mistyped id makes nobody."""
    asked = body or shapes.ReissueRequest()
    now = services.clock()
    current = await services.issue.reissue(
        Holder(sdkappid, userid),
        now,
        reason=reason_of(asked.reason),
        replaces=asked.replaces,
        create=asked.create,
    )
    content = answers.sig_body(services, current, now)
    return Response(content, media_type="application/json")


@routes.post(
    f"{_USER}/sig/revoke",
    BACKEND,
    raises=[errors.BadUserId, errors.AppUnknown, errors.StoreUnavailable],
)
async def revoke(services: Services, sdkappid: SdkAppId, userid: UserId) -> shapes.Revoked:
    """End all sigs of the user.

    Ends the user's sig and all room keys and closes the user's streams. The next sig
    is issued once the pause is over."""
    done = await services.revoke.user(sdkappid, userid, services.clock())
    return shapes.Revoked(
        sdkappid=sdkappid, userid=userid, revoked_at=done.revoked_at, known=done.known
    )


@routes.post(
    f"{_USER}/room-keys",
    BACKEND,
    raises=[
        errors.BadRoom,
        errors.BadPrivileges,
        errors.BadTtl,
        errors.AppUnknown,
        errors.MaxRooms,
        *ISSUE_ERRORS,
    ],
    answers=shapes.RoomKey,
)
async def room_key(
    services: Services, sdkappid: SdkAppId, userid: UserId, body: shapes.RoomKeyRequest
) -> Response:
    """A privateMapKey for one room.

    The key that lets the user into one room, with these privileges in it."""
    room = check_room(body.room_id, body.room_name)
    mask = check_privileges(body.privileges)
    current = await services.room_keys.current(
        sdkappid, userid, room, privileges=mask, ttl=body.ttl, now=services.clock()
    )
    return JSONResponse(answers.room_key(current, room, mask, body.ttl))


@routes.get(
    _USER,
    FACTS,
    raises=[errors.BadUserId, errors.AppUnknown, errors.HolderUnknown, errors.StoreUnavailable],
    answers=shapes.UserFacts,
    tag="ops",
)
async def facts(services: Services, sdkappid: SdkAppId, userid: UserId) -> dict[str, Any]:
    """What is known of the user.

    Times, reasons, keys, delivery and history of each of the user's sigs; no sig."""
    await services.apps.app(sdkappid)
    found = await services.find(sdkappid, userid)
    # A row without sig and revocation was made for a lock only.
    records = [record for record in found if record.issued_at or record.revoked_at]
    if not records:
        raise errors.HolderUnknown
    return answers.user_facts(Holder(sdkappid, userid), records, services.clock())


@routes.post(
    f"{_APP}/verify",
    BACKEND,
    raises=[errors.AppUnknown, errors.NoSigningKey],
    answers=shapes.Verdict,
)
async def verify(
    services: Services, sdkappid: SdkAppId, body: shapes.VerifyRequest
) -> dict[str, Any]:
    """Is this sig valid?

    Answers 200 either way; ``valid`` and ``reason`` say which, and ``advice`` what to do
    where it is not valid."""
    await services.apps.app(sdkappid)
    now = services.clock()
    try:
        decoded = await services.verify(sdkappid, body.usersig, now=now, userid=body.userid)
    except errors.BadSig as error:
        reason = error.reason.value
        return {"valid": False, "reason": reason, "detail": error.text, "advice": error.advice}
    fields = decoded.fields()
    ahead = issued_in_future(fields["issued_at"], now)
    return {**fields, "valid": True, "reason": None, "issued_in_future": ahead}
