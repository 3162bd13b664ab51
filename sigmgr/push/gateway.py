"""The gateway: ``GET /v1/stream`` as raw ASGI, and the life of the hub behind it.

Rules:
1. A stream is authorised or refused, never degraded. One product took a lapsed token for an
   anonymous reader: its streams looked healthy and never got a private message again. Here
   whoever shows no good ticket gets a problem document with 401.
2. The stream is registered before its state is asked for, and its first message is the
   full current state.
3. A ticket that expires while its stream is open changes nothing: each message brings a
   fresh one.
4. Draining tells every client when to come back, spread over the time there is, and ends
   the responses: a server with open streams would not exit by itself.

The handler's frame lies in memory as long as the stream does, so it holds no more than it
must, and the request's headers (the ticket among them) are dropped once they are read.

What this module does not do: know what to send, parse anything but its two headers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, MutableMapping, Sequence
from typing import Any

from sigmgr.model import errors
from sigmgr.model.bearer import bearer
from sigmgr.model.event import Event
from sigmgr.model.holder import Holder
from sigmgr.model.policy import Policy
from sigmgr.model.revocation import Revocation
from sigmgr.model.sig import Current
from sigmgr.model.ticket import Ticket, Tickets
from sigmgr.ports import Clock, Draw, States, Values
from sigmgr.push import message
from sigmgr.push.hub import Hub
from sigmgr.push.lookup import trouble
from sigmgr.push.poll import News, Poll
from sigmgr.push.problem import Header, problem
from sigmgr.push.roster import Counters
from sigmgr.push.stream import Phase, Send, Stream

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
OpenTicket = Callable[[Scope, str | None, int], Ticket]

#: Where a route that has opened a ticket in another way (a single-use code) leaves it.
TICKET_KEY = "sigmgr.ticket"
#: Where a server leaves what finds the ``Chunks`` of a send; see ``stream``.
CHUNKS_KEY = "sigmgr.chunks"
#: Where a server leaves headers that every answer to this request has besides.
HEADERS_KEY = "sigmgr.headers"

_HEADERS: list[Header] = [
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
    (b"connection", b"close"),  # who was sent away holds no connection either
]
_SLICE = 0.1
#: Seconds, and up to twice as many, after which a stream comes back that went because its user
#: had opened too many: soon enough for who needs it, and no merry-go-round of the same few.
CROWDED_FOR = 60


class Gateway:
    """An ASGI app, and a :class:`sigmgr.ports.Listener`. Use ``start`` and ``aclose``, or
    ``run``; or drive it with ``tick`` and ``settle``, as tests and the simulation do.

    ``open_ticket`` opens the ticket of a request; it may count wrong ones by who shows them.
    Further keywords are those of :class:`sigmgr.push.hub.Hub`.
    """

    def __init__(
        self,
        states: States,
        tickets: Tickets,
        clock: Clock,
        draw: Draw,
        policy_of: Callable[[int], Policy],
        *,
        values: Values,
        open_ticket: OpenTicket | None = None,
        max_streams: int = 100_000,
        reconnect_within: int = 10,
        **hub: Any,
    ) -> None:
        self.hub = Hub(states, tickets, clock, draw, policy_of, values=values, **hub)
        self._states = states
        self._tickets = tickets
        self._clock = clock
        self._draw = draw
        self._open_ticket = open_ticket or self._opened
        self._max_streams = max_streams
        self._reconnect_within = reconnect_within
        self._draining = False
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def counters(self) -> Counters:
        return self.hub.counters

    # -- the listener --------------------------------------------------------------------

    def heard(self, shard: int, events: Sequence[Event], sigs: Sequence[bytes] = ()) -> None:
        self.hub.heard(shard, events, sigs)

    def missed(self, shard: int) -> None:
        self.hub.missed(shard)

    def revoked(self, revocation: Revocation) -> None:
        self.hub.revoked(revocation)

    def acked(self, user: Holder, issued_at: int) -> None:
        """A client acked to this process; others hear of it as ``sig.delivered``."""
        self.hub.acked(user, issued_at)

    # -- the ASGI app --------------------------------------------------------------------

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        stream: Stream | None = None
        try:
            stream, ticket_issued_at, held = self._admit(scope, send)
            await self._open(stream, ticket_issued_at, held, scope.get(HEADERS_KEY, ()))
            if CHUNKS_KEY in scope:
                stream.chunks = scope[CHUNKS_KEY](send)
            _strip(scope)
            while (await receive())["type"] != "http.disconnect":
                pass
        except asyncio.CancelledError:
            if stream is None or not stream.cut_off:
                raise
            if stream.refusal is not None:
                await self._refuse(scope, stream.refusal, send)
        except Exception as error:
            if stream is not None and stream.phase is not Phase.OPENING:
                raise
            await self._refuse(scope, error, send)
        finally:
            if stream is not None:
                self.hub.leave(stream)

    def _admit(self, scope: Scope, send: Send) -> tuple[Stream, int, int]:
        """Authorise and register; answers the stream, when its ticket's sig was issued, and
        when the one that its client claims to hold was."""
        self._refuse_if_draining()
        now = self._clock()
        shown = bearer(scope["headers"])
        ticket = scope.get(TICKET_KEY)
        if not isinstance(ticket, Ticket):
            ticket = self._open_ticket(scope, shown, now)
        claim = _last_event_id(scope["headers"])
        # Whether it can be is judged with the state. A sig from the future would silence the
        # stream for good where that cannot be judged, and costs one message where it can.
        believed = claim if claim <= now else 0
        self._make_room(ticket.user)
        stream = self.hub.enter(ticket.user, send, asyncio.current_task(), believed)
        return stream, ticket.issued_at, claim

    def _opened(self, scope: Scope, shown: str | None, now: int) -> Ticket:
        if not shown:
            raise errors.TicketInvalid("the request carries no ticket")
        return self._tickets.open(shown, now)

    def _make_room(self, user: Holder) -> None:
        """Raises UnavailableError where this process holds as much as it may."""
        oldest = self.hub.one_too_many(user)
        if oldest is not None:
            self.hub.send_away(oldest, CROWDED_FOR + int(self._draw() * CROWDED_FOR))
        if self.counters.open >= self._max_streams:
            retry_after = 1 + int(self._draw() * self._reconnect_within)
            raise errors.UnavailableError(
                "this gateway holds as many streams as it may", retry_after=retry_after
            )

    async def _open(
        self, stream: Stream, ticket_issued_at: int, held: int, more: Iterable[Header]
    ) -> None:
        """Ask for the state and write it. Draining may begin while we wait."""
        currents = await self._states.opened(
            stream.holder, ticket_issued_at, self._clock(), held=held
        )
        self._refuse_if_draining()
        frames = self.hub.begin(stream, currents)
        headers = [*_HEADERS, *more]
        await stream.send({"type": "http.response.start", "status": 200, "headers": headers})
        await stream.send(stream.envelope(b"".join(frames), last=False))
        self.hub.live(stream)
        if self._draining:
            self._bye(stream)

    def _refuse_if_draining(self) -> None:
        if self._draining:
            raise errors.Stopping

    def _bye(self, stream: Stream) -> None:
        self.hub.bye(stream, "drain", 1 + int(self._draw() * self._reconnect_within))

    async def _refuse(self, scope: Scope, error: Exception, send: Send) -> None:
        if not isinstance(error, errors.SigmgrError):
            trouble("open", error, "a stream could not be opened")
            error = errors.SigmgrError()
        status, headers, body = problem(error)
        headers += scope.get(HEADERS_KEY, ())
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    # -- the long poll ---------------------------------------------------------------------

    async def newer(self, ticket: Ticket, held: int, wait: int) -> News | None:
        """The user's sig if it is newer than ``held``, or as soon as there is such a one; None
        after ``wait`` seconds, and when this process drains.

        A wait takes a place among the streams. Raises what opening a stream raises
        (NeverIssued for a ``held`` that can never have been), and
        TooManyStreams where the user's newer ones take its place.
        """
        if not wait or self._draining:
            return await self._state(ticket, held)
        self._make_room(ticket.user)
        poll = Poll(ticket.user, held)
        self.hub.join(poll)
        try:
            [current] = await self._asked(ticket, held)
            if current.issued_at > held:
                return self._told(current)
            if not poll.answer.done():
                self._begin(poll, current)
            async with asyncio.timeout(wait):
                return await poll.answer or await self._ended(ticket, held)
        except TimeoutError:
            return None
        finally:
            self.hub.leave(poll)

    def _begin(self, poll: Poll, current: Current) -> None:
        """Let it wait; draining may have begun while its state was asked for."""
        self.hub.wait(poll, current)
        if self._draining:
            self.hub.cut(poll)

    async def _ended(self, ticket: Ticket, held: int) -> News | None:
        """What to say where the wait is over without news: it may be for a revocation."""
        return None if self._draining else await self._state(ticket, held)

    async def _state(self, ticket: Ticket, held: int) -> News | None:
        [current] = await self._asked(ticket, held)
        return self._told(current) if current.issued_at > held else None

    async def _asked(self, ticket: Ticket, held: int) -> list[Current]:
        user, issued_at, _ = ticket
        return await self._states.opened(user, issued_at, self._clock(), rooms=False, held=held)

    def _told(self, current: Current) -> News:
        user = current.holder
        ticket = self._tickets.issue(
            user.sdkappid, user.userid, current.issued_at, current.expires_at
        )
        return News(current.issued_at, message.current_json(current, ticket))

    # -- its life ------------------------------------------------------------------------

    def tick(self, now: int) -> None:
        """The work of the clock, once a second."""
        self.hub.tick(now)

    async def settle(self) -> None:
        """Deliver what was heard, then ask and deliver all that waits for a lookup."""
        self.hub.write_letters()
        await self.hub.lookups.work()

    def start(self) -> None:
        """Start the two tasks of the gateway: the clock and the lookups."""
        if not self._tasks:
            self._tasks = [
                asyncio.create_task(self._tick_on(), name="gateway-clock"),
                asyncio.create_task(self._look_on(), name="gateway-lookups"),
            ]

    async def run(self) -> None:
        """Work until cancelled."""
        self.start()
        try:
            await asyncio.gather(*self._tasks)
        finally:
            await self.aclose()

    async def drain(self, seconds: float) -> None:
        """Send every client elsewhere within this time; who takes no last word is cut off."""
        self._draining = True
        waiting = [s for s in self.hub.streams() if s.phase is Phase.OPEN]
        size = max(1, -(-len(waiting) // max(1, int(seconds / _SLICE) - 1)))
        for start in range(0, len(waiting), size):
            for stream in waiting[start : start + size]:
                self._bye(stream)
            await asyncio.sleep(min(_SLICE, seconds))
        for stream in list(self.hub.streams()):
            if stream.phase is Phase.ENDING:
                self.hub.finish(stream)
            self.hub.cut(stream)

    async def aclose(self) -> None:
        """Stop the tasks. Streams that are still open stay silent; drain first."""
        self._draining = True
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _tick_on(self) -> None:
        while True:
            await asyncio.sleep(1)
            try:
                self.tick(self._clock())
            except Exception as error:  # noqa: BLE001 - the clock of all streams must go on
                trouble("tick", error, "a tick of the gateway failed")

    async def _look_on(self) -> None:
        bell = self.hub.lookups.bell
        while True:
            await bell.wait()
            bell.clear()
            try:
                await self.settle()
            except Exception as error:  # noqa: BLE001 - the lookups of all streams must go on
                trouble("lookup", error, "a round of lookups failed")


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
