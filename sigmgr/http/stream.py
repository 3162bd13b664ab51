"""Routes for clients, by ticket: the current sig (with a long poll) and the ack.

The stream itself is the gateway's. A client never gets a sig older than the one it says it
holds, and a wait ends with 304 where nothing newer came.
"""

from __future__ import annotations

import re
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request, Response
from pydantic import BeforeValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

from sigmgr.http import shapes
from sigmgr.http.backend import Handoff
from sigmgr.http.documents import errors_of, secured, stream_answer
from sigmgr.http.doors import Doors, Polls
from sigmgr.model import errors
from sigmgr.model.ticket import Ticket

MAX_WAIT = 60

_WHOLE = re.compile(r"0|[1-9][0-9]{0,9}")

_TICKET_ERRORS = (errors.TicketInvalid, errors.TicketExpired, errors.TicketRevoked)


def _whole(text: str) -> int:
    """Digits and nothing else: the framework would take 1.0, +1 and 1_0 for numbers too."""
    if not _WHOLE.fullmatch(text):
        raise PydanticCustomError("whole", "should be a whole number in digits")
    return int(text)


Wait = Annotated[
    int,
    BeforeValidator(_whole),
    WithJsonSchema({"type": "integer", "minimum": 0, "maximum": MAX_WAIT}),
    Query(ge=0, le=MAX_WAIT, description="Seconds to wait for a newer sig than If-None-Match."),
]
Held = Annotated[
    str | None,
    Header(
        alias="If-None-Match",
        description='The ETag of the sig that the client holds: its issued_at, "1900000000".',
    ),
]


def router(doors: Doors) -> APIRouter:
    """``/v1/stream`` and what is under it."""
    routes = APIRouter(prefix="/v1/stream", tags=["client"])
    if doors.gateway is not None:
        _stream(routes, doors.gateway)
    if doors.polls is not None:
        _current(routes, doors.polls)
    _ack(routes, doors)
    return routes


def held_of(etag: str | None) -> int:
    """The issued_at in an If-None-Match header, 0 where there is none that we gave."""
    text = (etag or "").strip().removeprefix("W/").strip('"')
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 10 else 0


def _stream(routes: APIRouter, gateway: Any) -> None:
    @routes.get(
        "",
        summary="The client's stream (SSE)",
        response_class=Response,
        responses=stream_answer()
        | errors_of(
            *_TICKET_ERRORS, errors.NeverIssued, errors.TooManyStreams, errors.UnavailableError
        ),
        openapi_extra=secured("ticket"),
    )
    async def stream() -> Response:
        """Server-sent events: at once the full current state, then every newer sig."""
        return Handoff(gateway)


def _current(routes: APIRouter, polls: Polls) -> None:
    @routes.get(
        "/current",
        summary="The current sig, or wait for a newer one",
        response_model=shapes.StreamSig,
        responses=errors_of(
            *_TICKET_ERRORS,
            errors.NeverIssued,
            errors.TooManyStreams,
            errors.RevokePause,
            errors.StoreUnavailable,
            errors.UnavailableError,
        )
        | {304: {"description": "The client holds the newest sig."}},
        openapi_extra=secured("ticket"),
    )
    async def current(request: Request, wait: Wait = 0, held: Held = None) -> Response:
        """The object of the stream's ``sig.current``, with ``ETag: "<issued_at>"``. With
        If-None-Match and ``wait`` the answer comes when there is a newer sig, or as 304
        after that many seconds. For places where no stream can be held open."""
        newer = await polls.newer(request.state.ticket, held_of(held), wait)
        if newer is None:
            return Response(status_code=304, headers=_headers(held_of(held)))
        return Response(newer.payload, 200, _headers(newer.issued_at), "application/json")


def _ack(routes: APIRouter, doors: Doors) -> None:
    @routes.post(
        "/ack",
        summary="The client holds this sig now",
        status_code=204,
        responses=errors_of(
            *_TICKET_ERRORS,
            errors.BadRequest,
            errors.HolderUnknown,
            errors.NeverIssued,
            errors.StoreUnavailable,
        ),
        openapi_extra=secured("ticket"),
    )
    async def ack(request: Request, body: shapes.Ack) -> None:
        """Tells sigmgr that the sig has arrived; 204 once that is durable. An ack for a newer
        sig than the service knows of tells that its database was restored: it is taken, and a
        newer sig follows on the stream. One for a sig that can never have been is a 409."""
        ticket: Ticket = request.state.ticket
        await doors.deliver.ack(ticket.user, ticket.issued_at, body.issued_at, doors.clock())


def _headers(issued_at: int) -> dict[str, str]:
    return {"etag": f'"{issued_at}"', "cache-control": "no-store"}
