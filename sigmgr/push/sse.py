"""``GET /v1/stream``: server-sent events over ASGI.

Rules:
1. A stream is authorised or refused, never degraded. One product took a lapsed token for an
   anonymous reader: its streams looked healthy and never got a private message again. Here
   the route opens the ticket first, and whoever shows no good one gets a problem with 401.
2. A write never waits. It goes past the send where the server offers a way; else the send is
   run for one step, and where that would wait, the client is behind, the step is closed and
   the message dropped. (uvicorn waits before it writes, so a closed step has written nothing.)
3. Nothing is written before the response has started, or after it has ended.
4. ``id:`` is the ``issued_at`` of the user's own sig in the message.

The endpoint's frame lies in memory as long as the stream does, so it holds no more than it
must, and the request's headers (the ticket among them) are dropped once they are read.

What this module does not do: know what is written, parse anything but its two headers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, MutableMapping, Sequence
from functools import cache
from typing import Any, NamedTuple, Protocol

from sigmgr.model import errors
from sigmgr.model.problem import Header, problem
from sigmgr.model.ticket import Ticket
from sigmgr.ports import Draw
from sigmgr.push.gateway import Gateway
from sigmgr.push.logs import log_unexpected
from sigmgr.push.message import RENEWED, Message
from sigmgr.push.table import Stream

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

#: Of the one route that this is; what problems name as their instance.
PATH = "/v1/stream"
#: Where the route leaves the ticket that it has opened.
TICKET_KEY = "sigmgr.ticket"
#: Where a server leaves headers that every answer to this request has besides.
HEADERS_KEY = "sigmgr.headers"
#: Where a server leaves the request's :class:`Past`.
PAST_KEY = "sigmgr.past"

#: A comment line: keeps proxies from closing a quiet stream, and is ignored by clients.
HEARTBEAT = b":\n\n"

_HEADERS: list[Header] = [
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
    (b"connection", b"close"),  # who was sent away holds no connection either
]


@cache
def _head(kind: str) -> bytes:
    return b"event: %b\n" % kind.encode()


def frame(message: Message) -> bytes:
    """One server-sent event. JSON has no line breaks, so one ``data`` line is enough."""
    kind, payload, issued_at = message
    if issued_at:
        return b"%bid: %d\ndata: %b\n\n" % (_head(kind), issued_at, payload)
    return b"%bdata: %b\n\n" % (_head(kind), payload)


def retry(draw: float, low: int = 1000, high: int = 5000) -> bytes:
    """How long a browser waits before it reconnects, in milliseconds, drawn per stream: with
    one value for all, a restart would bring every client back in the same second."""
    return b"retry: %d\n\n" % (low + int((high - low) * draw))


class Past(Protocol):
    """What a server offers past the send, for a response that has begun and is not over."""

    @property
    def chunked(self) -> bool:
        """It is sent in chunks, so that :meth:`write` may be used."""
        ...

    def write(self, body: bytes) -> bool:
        """A part of the body, at once; False where the client is behind."""
        ...

    def cut(self) -> None:
        """End the connection in the middle, which is no fault of the handler."""
        ...


class Beginning(NamedTuple):
    """What only the start of a response needs: its headers, its first bytes, and the way past the
    send, which is open from then on."""

    headers: Sequence[Header]
    body: bytes
    past: Past | None


class SseTransport:
    """Fulfils :class:`sigmgr.push.transport.Transport`. ``task`` is the endpoint's: to cut the
    client off is to cancel it."""

    __slots__ = ("_beginning", "_past", "_send", "_task", "_write", "refusal")

    news = RENEWED
    sends_bye = True

    def __init__(self, send: Send, task: asyncio.Task[Any] | None, beginning: Beginning) -> None:
        self._send = send
        self._task = task
        self._beginning: Beginning | None = beginning
        self._past: Past | None = None
        self._write: Callable[[bytes], bool] | None = None
        self.refusal: errors.SigmgrError | None = None

    @property
    def started(self) -> bool:
        """The response has begun, so it is too late for an error."""
        return self._beginning is None

    @property
    def was_cut(self) -> bool:
        return self._task is None

    async def open(self, messages: Sequence[Message]) -> None:
        assert self._beginning is not None
        headers, body, past = self._beginning
        self._past = past
        self._beginning = None
        await self._send({"type": "http.response.start", "status": 200, "headers": headers})
        body += b"".join(map(frame, messages))
        await self._send({"type": "http.response.body", "body": body, "more_body": True})
        if past is not None and past.chunked:
            self._write = past.write

    def write(self, message: Message) -> bool:
        return self._put(frame(message))

    def beat(self) -> bool:
        return self._put(HEARTBEAT)

    def close(self, last: Message) -> bool:
        return self._step(frame(last), more=False)

    def cut(self, error: errors.SigmgrError | None = None) -> None:
        if not self.started:
            self.refusal = error
        elif self._past is not None:
            self._past.cut()
        task, self._task = self._task, None
        if task is not None:
            task.cancel()

    def _put(self, body: bytes) -> bool:
        write = self._write
        return write(body) if write is not None else self._step(body)

    def _step(self, body: bytes, *, more: bool = True) -> bool:
        step: Any = self._send({"type": "http.response.body", "body": body, "more_body": more})
        try:
            step.send(None)
        except StopIteration:
            return True
        step.close()
        return False


class SseStreams:
    """The endpoint, an ASGI app, for requests whose ticket the route has opened."""

    def __init__(self, gateway: Gateway, draw: Draw) -> None:
        self._gateway = gateway
        self._draw = draw

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        transport: SseTransport | None = None
        stream: Stream | None = None
        try:
            ticket_issued_at, claim, transport, stream = self._admit(scope, send)
            await self._gateway.open(stream, ticket_issued_at, claim)
            _strip(scope)
            while (await receive())["type"] != "http.disconnect":
                pass
        except asyncio.CancelledError:
            if transport is None or not transport.was_cut:
                raise
            if transport.refusal is not None:
                await self._refuse(scope, transport.refusal, send)
        except Exception as error:
            if transport is not None and transport.started:
                raise
            await self._refuse(scope, error, send)
        finally:
            if stream is not None:
                self._gateway.leave(stream)

    def _admit(self, scope: Scope, send: Send) -> tuple[int, int, SseTransport, Stream]:
        """Answers also the seconds of the ticket's sig and of the one its client claims to hold."""
        ticket: Ticket = scope[TICKET_KEY]
        headers = [*_HEADERS, *scope.get(HEADERS_KEY, ())]
        beginning = Beginning(headers, retry(self._draw()), scope.get(PAST_KEY))
        transport = SseTransport(send, asyncio.current_task(), beginning)
        claim = _last_event_id(scope["headers"])
        stream = self._gateway.enter(ticket.user, transport, claim)
        return ticket.issued_at, claim, transport, stream

    async def _refuse(self, scope: Scope, error: Exception, send: Send) -> None:
        if not isinstance(error, errors.SigmgrError):
            log_unexpected("open", error, "a stream could not be opened")
            error = errors.SigmgrError()
        status, headers, body = problem(error, PATH)
        headers += scope.get(HEADERS_KEY, ())
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})


def _last_event_id(headers: Iterable[Header]) -> int:
    """0 where there is none, or where it is not a number of ours."""
    for name, value in headers:
        if name == b"last-event-id" and len(value) <= 10 and value.isdigit():
            return int(value)
    return 0


def _strip(scope: Scope) -> None:
    """The server keeps the scope as long as the stream; its headers are of no use by now."""
    headers = scope["headers"]
    if isinstance(headers, list):
        headers.clear()
