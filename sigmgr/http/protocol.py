"""The server's protocol: uvicorn's over httptools, with limits on what a connection may take.

Rules:
1. A request line has at most 8 KiB (414), the header fields together 32 KiB (431), and so
   much may come at a time without a body getting further: trailers and chunk extensions too.
2. A header is complete ten seconds after its first byte, a body gets further at least every
   thirty (408), and so does a client that takes an answer. A connection without a request is
   closed after ``keep_alive`` seconds; a new one after the ten that its first header has.
3. What is refused gets a problem document where nothing was answered yet, and then the
   connection is closed. What its client still sends is read and dropped for a moment: closing
   at once would reset the connection before the answer is read.
4. More connections than ``connections`` are not held. A new one takes the place of one that
   keeps its header back, else of the one that was idle longest, else of the body that takes
   longest; else it is closed at once. Who waits for an answer keeps its place.
5. HTTP/1.0 knows no chunks: an answer without a length ends with its connection.
6. No timer per request: once a second one sweep looks at the connections that wait for their
   client. Time is the number of sweeps, so a loop that stood still closes nobody.

What this module does not do: read a clock, know routes or who asks.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, NoReturn

import httptools
from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from sigmgr.http.past import Fields, Past
from sigmgr.http.problems import wire_answer
from sigmgr.model import errors
from sigmgr.model.problem import HeadersTooLarge, TooSlow, UriTooLong
from sigmgr.push.sse import PAST_KEY
from sigmgr.telemetry import CONNECTIONS_CUT, get_logger

log = get_logger("sigmgr.http")

MAX_LINE = 8 * 1024
MAX_HEADERS = 32 * 1024
#: Requests of one connection that wait for the answer to the one before. Browsers send none.
MAX_PIPELINED = 32
#: Of a body whose request is answered already, as a refused one is.
MAX_UNREAD = 512 * 1024
#: Seconds for which a refused client may go on sending, to read why.
LINGER = 2
#: Seconds between two log lines about closed connections.
LOG_EVERY = 10

_NEVER = 1 << 62


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionLimits:
    """``connections``: how many are held at a time; the rest in seconds."""

    connections: int = 50_000
    head: int = 10
    body: int = 30
    keep_alive: int = 60


class Reading(IntEnum):
    """What a connection reads: NOTHING is between two requests."""

    NOTHING = 0
    HEAD = 1
    BODY = 2


NOTHING, HEAD, BODY = Reading


class Connections:
    """All connections of one server: which wait for their client, and what was closed. ``sweep``
    is to be called once a second; ``run`` does so."""

    def __init__(self, limits: ConnectionLimits) -> None:
        self.limits = limits
        self.now = 0
        self.open = 0
        self.waiting: set[Connection] = set()
        self.cut: Counter[str] = Counter()
        self._logged: Counter[str] = Counter()
        self._logged_at = -LOG_EVERY
        self.fields = Fields()
        self._spare: list[Connection] = []
        self._spare_of = -1

    async def run(self) -> None:
        while True:
            await asyncio.sleep(1)
            try:
                self.sweep()
            except Exception:
                log.exception("a sweep of the connections failed", action="sweep-failed")

    def sweep(self) -> None:
        """A second has passed: close what is overdue, log what was closed."""
        self.now += 1
        for connection in list(self.waiting):
            if connection.due <= self.now:
                connection.overdue()
            elif connection.due == _NEVER:
                connection.watched = False
                self.waiting.discard(connection)
        self._log_cuts()

    def count(self, why: str) -> None:
        """A connection was closed for this reason."""
        self.cut[why] += 1
        CONNECTIONS_CUT.labels(why).inc()

    def make_room(self) -> bool:
        """There is room for one more, or one was closed that has kept its client waiting for
        a second at least. Those are looked for once a second."""
        if self.open <= self.limits.connections:
            return True
        if self._spare_of != self.now:
            self._spare_of = self.now
            known = [one for one in self.waiting if one.since < self.now]
            self._spare = sorted(known, key=Connection.worth, reverse=True)
        while self._spare:
            connection = self._spare.pop()
            if connection.can_go and connection.since < self.now:
                self.count("made-room")
                connection.go()
                return True
        return False

    def _log_cuts(self) -> None:
        if self.cut == self._logged or self.now - self._logged_at < LOG_EVERY:
            return
        counts = {why.replace("-", "_"): n for why, n in (self.cut - self._logged).items()}
        log.warning("connections were closed", action="connections-cut", open=self.open, **counts)
        self._logged, self._logged_at = self.cut.copy(), self.now


class Connection(HttpToolsProtocol):
    """One of them. ``due`` is the sweep by which its client must have got further, ``since``
    the one from which that counts; ``watched``: a sweep looks at it."""

    def __init__(self, connections: Connections, **uvicorn: Any) -> None:
        super().__init__(**uvicorn)
        self.all = connections
        self.due = _NEVER
        self.since = 0
        self.watched = False
        self._counted = False
        self._served = False
        self._over = False
        self._reading = NOTHING
        self._refusal: errors.SigmgrError | None = None
        self._piece = 0  # bytes read last
        self._stale = 0  # bytes since a header was complete or a body got further
        self._unread = 0  # bytes of a body that nobody wants any more
        self._unwritten = _NEVER  # bytes that the client had not taken at the last look

    # -- the connection ------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._counted = True
        self.all.open += 1
        self._wait(self.all.limits.head)
        if not self.all.make_room():
            self.all.count("too-many")
            self._over = True
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._counted:
            self._counted = False
            self.all.open -= 1
        self.all.waiting.discard(self)
        super().connection_lost(exc)

    @property
    def can_go(self) -> bool:
        """Nobody waits for an answer on it, or only who has not yet asked in full."""
        return self._counted and not self._over and (self._reading is BODY or not self._answering)

    def worth(self) -> tuple[int, int]:
        """What makes room first is lowest."""
        if self._reading is BODY:
            return 2, self.since
        return int(self._served and self._reading is NOTHING), self.since

    def go(self) -> None:
        """Close it for another one; at once, where its client takes nothing."""
        self._over = True
        if self.transport.get_write_buffer_size():
            self.transport.abort()
        else:
            self.transport.close()

    def overdue(self) -> None:
        """The client did not get further in time."""
        limits = self.all.limits
        if self._over:
            self.transport.abort()
        elif self.flow.write_paused or self.transport.is_closing():
            self._look_at_reader(limits.body)
        elif self._reading is NOTHING:
            self.transport.close()
            self._wait(limits.body)
        elif self._reading is BODY and self.flow.read_paused:
            self._wait(limits.body)  # it is we who do not read
        else:
            what = self._reading.name.lower()
            self._refuse(TooSlow(f"the request's {what} did not come in time"), f"slow-{what}")

    def _look_at_reader(self, patience: int) -> None:
        before, self._unwritten = self._unwritten, self.transport.get_write_buffer_size()
        if 0 < self._unwritten < before:
            self._wait(patience)
        else:
            self.all.count("slow-reader")
            self._over = True
            self.transport.abort()

    @property
    def _answering(self) -> bool:
        cycle: RequestResponseCycle | None = self.cycle
        return cycle is not None and not cycle.response_complete

    def _wait(self, seconds: int) -> None:
        """Its client has so many seconds from now."""
        self.since = self.all.now
        self.due = self.since + seconds
        if not self.watched and self._counted:
            self.watched = True
            self.all.waiting.add(self)

    # -- what comes ----------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        if self._over:
            return
        self._piece = len(data)
        self._stale += self._piece
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            pass  # nobody is upgraded here; the request is answered as it is
        except httptools.HttpParserError:
            error = errors.BadRequest("this is no HTTP request")
            self._refuse(self._refusal or error, "refused")
            return
        if self._stale > MAX_LINE:
            self._check_stale()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._reading = HEAD
        self._wait(self.all.limits.head)

    def on_headers_complete(self) -> None:
        if self._piece > MAX_LINE or self._stale > MAX_LINE:
            self._check_head()
        if len(self.pipeline) >= MAX_PIPELINED:
            self._give_up(errors.BadRequest("too many requests without waiting for answers"))
        self._reading = BODY
        self._stale = self._unread = 0
        self._wait(self.all.limits.body)
        super().on_headers_complete()
        self.headers = []  # trailers are no headers of the request, which has begun

    def on_body(self, body: bytes) -> None:
        self._stale = 0
        self.due = self.all.now + self.all.limits.body
        if self.cycle.response_complete:
            self._unread += len(body)
            if self._unread > MAX_UNREAD:
                self._give_up(errors.BadRequest("the request was answered before its end"))
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._reading = NOTHING
        self._stale = 0
        if self._answering:
            self.due = _NEVER
        else:
            self._wait(self.all.limits.keep_alive)
        super().on_message_complete()

    def _check_head(self) -> None:
        """The header is complete. Raises in the parser where it is too large."""
        if self._line() > MAX_LINE:
            self._give_up(UriTooLong())
        if sum(len(name) + len(value) + 4 for name, value in self.headers) > MAX_HEADERS:
            self._give_up(HeadersTooLarge())

    def _check_stale(self) -> None:
        """A header, trailers or a chunk extension is not complete and has come this far."""
        line = self._line() if self._reading is HEAD else 0
        if line > MAX_LINE:
            self._refuse(UriTooLong(), "refused")
        elif self._stale - line > MAX_HEADERS:
            self._refuse(HeadersTooLarge(), "refused")

    def _line(self) -> int:
        return len(self.parser.get_method()) + len(self.url) + len(b"  HTTP/1.1")

    def _give_up(self, error: errors.SigmgrError) -> NoReturn:
        """Stop the parser from one of its callbacks."""
        self._refusal = error
        raise error

    def _refuse(self, error: errors.SigmgrError, why: str) -> None:
        """Close; answer why, where the answer to this very request is what comes next."""
        self.all.count(why)
        self._over = True
        cycle: RequestResponseCycle = self.cycle
        if not self._answering:
            answers = self._reading is not BODY
        else:
            answers = self._reading is BODY and not self.pipeline and not cycle.response_started
            for waiting in (cycle, *(queued for queued, _ in self.pipeline)):
                waiting.disconnected = True
                waiting.message_event.set()
        if answers:
            self.transport.write(wire_answer(error, self.server_state.default_headers))
            self.transport.write_eof()
        else:
            self.transport.close()
        self._wait(LINGER)

    # -- what is answered ----------------------------------------------------------------

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        scope: dict[str, Any] = cycle.scope  # type: ignore[assignment]
        scope[PAST_KEY] = Past(self.all.fields, cycle)
        if scope["http_version"] != "1.1":
            _unframe(cycle)
        super()._start_asgi_task(cycle, app)

    def on_response_complete(self) -> None:
        # As uvicorn's, which sets a timer of its own for each request.
        self.server_state.total_requests += 1
        self._served = True
        if self.transport.is_closing():
            self._wait(self.all.limits.body)
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        elif self._reading is NOTHING:
            self._wait(self.all.limits.keep_alive)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._unwritten = _NEVER
        self._wait(self.all.limits.body)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._reading is NOTHING and self._answering:
            self.due = _NEVER
        elif self._reading is NOTHING:
            self._wait(self.all.limits.keep_alive)


def _unframe(cycle: RequestResponseCycle) -> None:
    """An answer without a length is not cut into chunks (rule 5)."""
    send, endless = cycle.send, False

    async def unframed(message: Any) -> None:
        nonlocal endless
        if message["type"] == "http.response.start":
            named = {name.lower() for name, _ in message.get("headers", ())}
            endless = b"content-length" not in named
            if endless:
                cycle.chunked_encoding = False
        elif endless:
            cycle.expected_content_length = len(message.get("body", b""))
        await send(message)

    cycle.send = unframed  # type: ignore[method-assign]
