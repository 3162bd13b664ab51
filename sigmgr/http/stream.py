"""Routes for clients, by ticket: the current sig (with a long poll) and the ack.

The stream itself is the gateway's. A client never gets a sig older than the one it names as
held, and a wait ends with 304 where nothing newer came.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable
from typing import Annotated

from fastapi import Depends, Header, Query, Request, Response
from pydantic import BeforeValidator, WithJsonSchema
from pydantic_core import PydanticCustomError
from starlette.types import Receive, Scope, Send

from sigmgr.http import shapes
from sigmgr.http.access import PREFLIGHT, TICKET
from sigmgr.http.openapi import EVENT_STREAM
from sigmgr.http.routes import Routes
from sigmgr.http.services import GATEWAY, Services
from sigmgr.model import errors
from sigmgr.model.ticket import Ticket
from sigmgr.push.sse import TICKET_KEY

routes = Routes("client", role=GATEWAY, cross_origin=True)

MAX_WAIT = 60

_WHOLE = re.compile(r"0|[1-9][0-9]{0,9}")

_TICKET_ERRORS = (errors.TicketInvalid, errors.TicketExpired, errors.TicketRevoked)


def _whole(text: str) -> int:
    """Digits and nothing else: the framework would take 1.0, +1 and 1_0 for numbers too."""
    if not _WHOLE.fullmatch(text):
        raise PydanticCustomError("whole", "should be a whole number in digits")
    return int(text)


async def _ticket(request: Request) -> Ticket:
    ticket: Ticket = request.scope[TICKET_KEY]
    return ticket


#: Of the request, as its check has left it.
OpenedTicket = Annotated[Ticket, Depends(_ticket)]
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


def held_of(etag: str | None) -> int:
    """The issued_at in an If-None-Match header, 0 where there is none that we gave."""
    text = (etag or "").strip().removeprefix("W/").strip('"')
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 10 else 0


@routes.get(
    "/v1/stream",
    TICKET,
    raises=[
        *_TICKET_ERRORS,
        errors.NeverIssued,
        errors.TooManyStreams,
        errors.UnavailableError,
    ],
    responses=EVENT_STREAM,
    raw=True,
    direct=True,
)
def stream(services: Services, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
    """The client's stream (SSE).

    Server-sent events: at once the full current state, then every newer sig."""
    assert services.gateway is not None
    return services.gateway(scope, receive, send)


@routes.get(
    "/v1/stream/current",
    TICKET,
    raises=[
        *_TICKET_ERRORS,
        errors.NeverIssued,
        errors.TooManyStreams,
        errors.RevokePause,
        errors.StoreUnavailable,
        errors.UnavailableError,
    ],
    answers=shapes.StreamSig,
    responses={304: {"description": "The client holds the newest sig."}},
    patient=True,
)
async def current(
    services: Services, ticket: OpenedTicket, wait: Wait = 0, held: Held = None
) -> Response:
    """The current sig, or wait for a newer one.

    The object of the stream's ``sig.current``, with ``ETag: "<issued_at>"``. With
    If-None-Match and ``wait`` the answer comes when there is a newer sig, or as 304
    after that many seconds. For places where no stream can be held open."""
    assert services.polls is not None
    newer = await services.polls.newer(ticket, held_of(held), wait)
    if newer is None:
        return Response(status_code=304, headers=_headers(held_of(held)))
    return Response(newer.payload, 200, _headers(newer.issued_at), "application/json")


@routes.post(
    "/v1/stream/ack",
    TICKET,
    raises=[
        *_TICKET_ERRORS,
        errors.BadRequest,
        errors.HolderUnknown,
        errors.NeverIssued,
        errors.StoreUnavailable,
    ],
    status=204,
    patient=True,
)
async def ack(services: Services, ticket: OpenedTicket, body: shapes.Ack) -> None:
    """The client holds this sig now.

    Tells sigmgr that the sig has arrived; 204 once that is durable. An ack for a newer
    sig than the service knows of tells that its database was restored: it is taken, and a
    newer sig follows on the stream. One for a sig that can never have been is a 409."""
    await services.deliver.ack(ticket.user, ticket.issued_at, body.issued_at, services.clock())


@routes.options("/v1/stream{rest:path}", PREFLIGHT, raises=[], hidden=True, raw=True, direct=True)
def preflight(services: Services, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
    """What a page of another origin may send."""
    answer: Response = scope["route"].cors.preflight(scope)
    return answer(scope, receive, send)


def _headers(issued_at: int) -> dict[str, str]:
    return {"etag": f'"{issued_at}"', "cache-control": "no-store"}
