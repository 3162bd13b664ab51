"""Routes for backends (and, for facts, ops): parse, call one flow, shape the answer."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Depends, Request, Response

from sigmgr.flow.limits import Lane
from sigmgr.http import answers, shapes
from sigmgr.http.auth import BACKEND, FACTS, allow
from sigmgr.http.documents import body_of, errors_of, secured
from sigmgr.http.doors import Doors
from sigmgr.http.facts import UserFacts
from sigmgr.http.places import SdkAppId, UserId, sdkappid_of
from sigmgr.http.sig import SigRoute, batch_get
from sigmgr.model import errors
from sigmgr.model.holder import Holder, check_privileges, check_room
from sigmgr.model.sig import Reason

_REASONS = frozenset(
    {
        Reason.CLIENT_REQUESTED,
        Reason.FORCED,
        Reason.KEY_ROTATED,
        Reason.KEY_TAINTED,
        Reason.POLICY_CHANGED,
    }
)
_ISSUE_ERRORS = (
    errors.MaxHolders,
    errors.TooManyNewHolders,
    errors.RevokePause,
    errors.NoSigningKey,
    errors.StoreUnavailable,
)


#: Seconds after which a route whose story still waits for the database answers 503. The story
#: goes on: a revocation that is under way is not given up.
WITHIN = 1.8


class Handoff(Response):
    """Leaves the answer to a raw ASGI callable, for routes that the front calls directly."""

    def __init__(self, asgi: Any) -> None:
        super().__init__()
        self._asgi = asgi

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self._asgi(scope, receive, send)


def may(roles: frozenset[str]) -> Any:
    """The request's token has one of these roles and reaches the app in the path."""

    async def check(request: Request) -> None:  # async: a thread for this would cost more
        allow(request.state.token, roles, sdkappid_of(request.path_params["sdkappid"]))

    return Depends(check)


def router(doors: Doors) -> APIRouter:
    """The routes under ``/v1/apps/{sdkappid}`` that hand out and look at sigs."""
    routes = APIRouter(prefix="/v1/apps/{sdkappid}", tags=["backend"])
    for add in (_sig, _batch, _reissue, _revoke, _room_key, _facts, _verify):
        add(routes, doors)
    return routes


def reason_of(text: str) -> Reason:
    """A reason that a caller may give. Raises BadReason."""
    if text not in _REASONS:
        raise errors.BadReason
    return Reason(text)


def _sig(routes: APIRouter, doors: Doors) -> None:
    @routes.get(
        "/users/{userid}/sig",
        summary="The user's current sig",
        response_model=shapes.Sig,
        dependencies=[may(BACKEND)],
        responses=errors_of(errors.BadUserId, errors.AppUnknown, *_ISSUE_ERRORS),
        openapi_extra=secured("token"),
    )
    async def sig(sdkappid: SdkAppId, userid: UserId) -> Response:
        """The sig to sign in with; it is issued if there is none. Ask at every login."""
        return Handoff(SigRoute(doors))


def _batch(routes: APIRouter, doors: Doors) -> None:
    @routes.post(
        "/sigs/batch-get",
        summary="Current sigs of many users",
        response_model=shapes.Batch,
        dependencies=[may(BACKEND)],
        responses=errors_of(errors.BadBatch, errors.BadRequest, errors.AppUnknown),
        openapi_extra=secured("token") | body_of(shapes.BatchRequest),
    )
    async def batch(sdkappid: SdkAppId, request: Request) -> Response:
        """Up to 1,000 users at once, answered in the order asked. An id that is not valid
        gets an error in its place and does not fail the batch."""
        body = await batch_get(doors, sdkappid, await request.body(), doors.clock())
        return Response(body, media_type="application/json")


def _reissue(routes: APIRouter, doors: Doors) -> None:
    lane = Lane("reissue")

    @routes.post(
        "/users/{userid}/sig/reissue",
        summary="The user's next sig",
        response_model=shapes.Sig,
        dependencies=[may(BACKEND)],
        responses=errors_of(
            errors.BadUserId,
            errors.BadReason,
            errors.AppUnknown,
            errors.HolderUnknown,
            errors.AlreadyReplaced,
            *_ISSUE_ERRORS,
        ),
        openapi_extra=secured("token"),
    )
    async def reissue(
        sdkappid: SdkAppId, userid: UserId, body: shapes.ReissueRequest | None = None
    ) -> Response:
        """Makes the next sig and pushes it to the user's streams. The old one works on
        until it expires. A second call within one second answers with the first's sig. For a
        user who never had one it takes `create`, so that a mistyped id makes nobody."""
        asked = body or shapes.ReissueRequest()
        now = doors.clock()
        story = doors.issue.reissue(
            Holder(sdkappid, userid),
            now,
            reason=reason_of(asked.reason),
            replaces=asked.replaces,
            create=asked.create,
        )
        current = await lane.within(WITHIN, story)
        content = answers.sig_body(doors, current)
        answers.remember(doors, current, content, now)
        return Response(content, media_type="application/json")


def _revoke(routes: APIRouter, doors: Doors) -> None:
    lane = Lane("revoke")

    @routes.post(
        "/users/{userid}/sig/revoke",
        summary="End all sigs of the user",
        dependencies=[may(BACKEND)],
        responses=errors_of(errors.BadUserId, errors.AppUnknown, errors.StoreUnavailable),
        openapi_extra=secured("token"),
    )
    async def revoke(sdkappid: SdkAppId, userid: UserId) -> shapes.Revoked:
        """Ends the user's sig and all room keys and closes the user's streams. The next sig
        is issued once the pause is over."""
        now = doors.clock()
        done = await lane.within(WITHIN, doors.revoke.user(sdkappid, userid, now))
        return shapes.Revoked(
            sdkappid=sdkappid, userid=userid, revoked_at=done.revoked_at, known=done.known
        )


def _room_key(routes: APIRouter, doors: Doors) -> None:
    lane = Lane("room-keys")

    @routes.post(
        "/users/{userid}/room-keys",
        summary="A privateMapKey for one room",
        response_model=shapes.RoomKey,
        response_model_exclude_none=True,
        dependencies=[may(BACKEND)],
        responses=errors_of(
            errors.BadRoom,
            errors.BadPrivileges,
            errors.BadTtl,
            errors.AppUnknown,
            errors.MaxRooms,
            *_ISSUE_ERRORS,
        ),
        openapi_extra=secured("token"),
    )
    async def room_key(
        sdkappid: SdkAppId, userid: UserId, body: shapes.RoomKeyRequest
    ) -> dict[str, Any]:
        """The key that lets the user into one room, with these privileges in it."""
        room = check_room(body.room_id, body.room_name)
        mask = check_privileges(body.privileges)
        story = doors.room_keys.current(
            sdkappid, userid, room, privileges=mask, ttl=body.ttl, now=doors.clock()
        )
        current = await lane.within(WITHIN, story)
        return answers.room_key(current, room, mask, body.ttl)


def _facts(routes: APIRouter, doors: Doors) -> None:
    lane = Lane("facts")

    @routes.get(
        "/users/{userid}",
        summary="What is known of the user",
        tags=["ops"],
        response_model=UserFacts,
        dependencies=[may(FACTS)],
        responses=errors_of(
            errors.BadUserId, errors.AppUnknown, errors.HolderUnknown, errors.StoreUnavailable
        ),
        openapi_extra=secured("token"),
    )
    async def facts(sdkappid: SdkAppId, userid: UserId) -> dict[str, Any]:
        """Times, reasons, keys, delivery and history of each of the user's sigs; no sig."""
        await doors.apps.app(sdkappid)
        found = await lane.within(WITHIN, doors.find(sdkappid, userid))
        records = [record for record in found if answers.was_issued(record)]
        if not records:
            raise errors.HolderUnknown
        return answers.user_facts(Holder(sdkappid, userid), records, doors.clock())


def _verify(routes: APIRouter, doors: Doors) -> None:
    lane = Lane("verify")

    @routes.post(
        "/verify",
        summary="Is this sig valid?",
        response_model=shapes.Verdict,
        dependencies=[may(BACKEND)],
        responses=errors_of(errors.AppUnknown, errors.NoSigningKey),
        openapi_extra=secured("token"),
    )
    async def verify(sdkappid: SdkAppId, body: shapes.VerifyRequest) -> dict[str, Any]:
        """Answers 200 either way; ``valid`` and ``reason`` say which, and ``advice`` what to do
        where it is not valid."""
        await doors.apps.app(sdkappid)
        now = doors.clock()
        try:
            story = doors.verify(sdkappid, body.usersig, now=now, userid=body.userid)
            decoded = await lane.within(WITHIN, story)
        except errors.BadSig as error:
            return answers.not_valid(error)
        return answers.valid(decoded.fields(), now)
