"""A scripted States, and a client that speaks ASGI in process."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from typing import Any

from sigmgr.http.access import bearer
from sigmgr.model import errors, values
from sigmgr.model.event import Event, EventType
from sigmgr.model.holder import Holder
from sigmgr.model.policy import Policy
from sigmgr.model.redis_layout import Layout
from sigmgr.model.sig import Current
from sigmgr.model.ticket import Tickets
from sigmgr.ports import Answer
from sigmgr.push.admission import GatewayLimits
from sigmgr.push.gateway import Gateway
from sigmgr.push.poll import Polls
from sigmgr.push.sse import TICKET_KEY, SseStreams
from sigmgr.testing import ManualClock

NOW = 1_900_000_000
APP = 1_400_000_000
DAY = 86400
TICKETS = Tickets(b"k" * 32)
LAYOUT = Layout()


def user(name: str = "ann") -> Holder:
    return Holder(APP, name)


def room(name: str = "ann", scope: str = "id:7") -> Holder:
    return Holder(APP, name, "room", scope)


def sig(
    holder: Holder, issued_at: int = NOW, ttl: int = 90 * DAY, reason: str = "Missing"
) -> Current:
    return Current(
        holder, "v2", 1, issued_at, issued_at + ttl, issued_at + ttl * 2 // 3,
        f"sig-of-{holder.userid}-{issued_at}", reason,
    )  # fmt: skip


def event(kind: EventType, holder: Holder, issued_at: int, ttl: int = 90 * DAY) -> Event:
    return Event(kind.value, holder, issued_at, issued_at + ttl, "NearingExpiry", issued_at)


class FakeStates:
    """``now`` holds each holder's newest sig; ``before_*`` are called inside the calls."""

    def __init__(self) -> None:
        self.now: dict[Holder, Current] = {}
        self.gone: set[Holder] = set()
        self.lookups: list[list[Holder]] = []
        self.marked: list[Holder] = []
        self.openings: list[Holder] = []
        self.claims: list[int] = []
        self.fail: list[BaseException] = []
        self.bad: set[Holder] = set()
        self.unreached: set[Holder] = set()
        self.gate: asyncio.Event | None = None
        self.renews: dict[Holder, Current] = {}

    def put(self, *currents: Current) -> None:
        for current in currents:
            self.now[current.holder] = current

    async def opened(
        self, user: Holder, ticket_issued_at: int, now: int, *, rooms: bool = True, held: int = 0
    ) -> list[Current]:
        self.openings.append(user)
        self.claims.append(held)
        if self.fail:
            raise self.fail.pop(0)
        if user in self.gone:
            raise errors.TicketRevoked
        if user in self.renews:
            self.put(self.renews.pop(user))
        seen = [c for h, c in sorted(self.now.items()) if h.user == user and c.expires_at > now]
        seen.sort(key=lambda c: c.holder.kind != "user")
        if self.gate is not None:
            await self.gate.wait()
        return seen

    async def latest(self, holders: Sequence[Holder], now: int) -> list[Answer | None]:
        self.lookups.append(list(holders))
        if self.fail:
            raise self.fail.pop(0)
        if self.bad.intersection(holders):
            raise RuntimeError("bad holder")
        found = {h: c for h in holders if (c := self.now.get(h)) and c.expires_at > now}
        away = dict.fromkeys(self.unreached, errors.StoreUnavailable())
        return [away.get(h) or found.get(h) for h in holders]

    async def mark_seen(self, users: Sequence[Holder], now: int) -> None:
        self.marked += users


class MemoryTransport:
    """A client of a gateway in this process; fulfils ``push.transport.Transport``.

    ``messages``: what it took; ``blocked``: it takes nothing; ``broken``: its connection fails;
    ``ended``: it got a last message; ``was_cut``: it got none, but perhaps ``error``.
    """

    news = "sig.renewed"
    sends_bye = True

    def __init__(self) -> None:
        self.messages: list[Any] = []
        self.beats = 0
        self.blocked = self.broken = self.ended = self.was_cut = False
        self.error: Exception | None = None

    async def open(self, messages: Sequence[Any]) -> None:
        self.messages += messages

    def write(self, message: Any) -> bool:
        taken = self._taken()
        if taken:
            self.messages.append(message)
        return taken

    def beat(self) -> bool:
        taken = self._taken()
        self.beats += taken
        return taken

    def close(self, last: Any) -> bool:
        self.ended = self.write(last)
        return self.ended

    def cut(self, error: Exception | None = None) -> None:
        self.was_cut, self.error = True, error

    def _taken(self) -> bool:
        if self.broken:
            raise OSError("broken pipe")
        assert not self.ended, "written after the end"
        assert not self.was_cut, "written after it was cut"
        return not self.blocked


class Client:
    """One ASGI request. ``blocked`` makes send wait like a server whose buffer is full."""

    def __init__(self, app: SseStreams, ticket: str | None, last_event_id: bytes = b"") -> None:
        self.status = 0
        self.headers: dict[bytes, bytes] = {}
        self.body = b""
        self.ended = False
        self.blocked = False
        self.broken = False
        self._wake = asyncio.Event()
        headers = [(b"host", b"x")]
        if ticket is not None:
            headers.append((b"authorization", b"Bearer " + ticket.encode()))
        if last_event_id:
            headers.append((b"last-event-id", last_event_id))
        scope = {"type": "http", "method": "GET", "path": "/v1/stream", "headers": headers}
        self.scope = scope
        self.task = asyncio.ensure_future(app(scope, self.receive, self.send))

    async def receive(self) -> dict[str, Any]:
        await self._wake.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: dict[str, Any]) -> None:
        if self.broken:
            raise OSError("broken pipe")
        while self.blocked:
            await asyncio.sleep(0)
        assert not self.ended, "written after the end"
        if message["type"] == "http.response.start":
            assert not self.status
            self.status = message["status"]
            self.headers = dict(message["headers"])
            return
        assert self.status, "written before the start"
        self.body += message["body"]
        if not message.get("more_body"):
            self.ended = True
            self._wake.set()

    async def hang_up(self) -> None:
        self._wake.set()
        await self.task

    @property
    def events(self) -> list[dict[str, Any]]:
        return parse(self.body)

    @property
    def types(self) -> list[str]:
        return [e["type"] for e in self.events]

    @property
    def issued(self) -> list[int]:
        """The issued_at of each message that brought the user's own sig."""
        return [e["issued_at"] for e in self.events if "usersig" in e]

    @property
    def distinct(self) -> list[int]:
        """The same without repeats: what was not acked is sent again."""
        return list(dict.fromkeys(self.issued))

    @property
    def beats(self) -> int:
        return self.body.split(b"\n\n").count(b":")


def parse(body: bytes) -> list[dict[str, Any]]:
    found = []
    for block in body.decode().split("\n\n")[:-1]:
        fields = dict(line.split(": ", 1) for line in block.split("\n") if ": " in line)
        if "data" in fields:
            answer = json.loads(fields["data"])
            assert answer["type"] == fields["event"]
            found.append(answer | ({"_id": int(fields["id"])} if "id" in fields else {}))
    return found


class House:
    """A gateway with its fakes. Time moves by :meth:`pass_time` only."""

    def __init__(
        self,
        draw: float = 0.5,
        policy: Policy | None = None,
        stands: Callable[[Holder, int], bool] = lambda holder, issued_at: True,
        **limits: Any,
    ) -> None:
        self.clock = ManualClock(NOW)
        self.states = FakeStates()
        self.policy = policy or Policy()
        self.draws: list[float] = []
        self.draw = draw
        self.gateway = Gateway(
            self.states,
            TICKETS,
            self.clock,
            self._draw,
            lambda _: self.policy,
            stands=stands,
            limits=GatewayLimits(**limits),
        )
        self._stream = SseStreams(self.gateway, self._draw)
        self.polls = Polls(self.gateway, self.states, TICKETS, self.clock)

    async def stream(self, scope: Any, receive: Any, send: Any) -> None:
        """The endpoint, behind the check of its route."""
        scope[TICKET_KEY] = TICKETS.open(bearer(scope["headers"]) or "", self.clock())
        await self._stream(scope, receive, send)

    def _draw(self) -> float:
        return self.draws.pop(0) if self.draws else self.draw

    @property
    def counters(self) -> Any:
        return self.gateway.counters

    def renew(
        self,
        holder: Holder,
        issued_at: int,
        ttl: int = 90 * DAY,
        *,
        announce: bool = True,
        bring: bool = False,
    ) -> None:
        """``bring``: the event comes with the sig."""
        made = sig(holder, issued_at, ttl, "NearingExpiry")
        self.states.put(made)
        if announce:
            brought = [values.encode(made)] if bring else []
            news = event(EventType.RENEWED, holder, issued_at, ttl)
            self.gateway.receive(LAYOUT.shard(holder), [news], brought)

    async def open(self, name: str = "ann", last_event_id: bytes = b"") -> Client:
        client = self.connect(name, last_event_id)
        for _ in range(5):
            await asyncio.sleep(0)
        return client

    def connect(self, name: str = "ann", last_event_id: bytes = b"") -> Client:
        if user(name) not in self.states.now:
            self.states.put(sig(user(name)))
        return Client(self.stream, ticket(name), last_event_id)

    async def open_acked(self, name: str = "ann") -> Client:
        """A client that has acked the first sig: nothing is resent."""
        client = await self.open(name)
        self.gateway.acked(user(name), self.states.now[user(name)].issued_at)
        return client

    async def settle(self) -> None:
        await self.gateway.settle()
        for _ in range(3):
            await asyncio.sleep(0)

    async def pass_time(self, seconds: int, step: int = 1) -> None:
        for _ in range(0, seconds, step):
            self.gateway.tick(self.clock.advance(step))
            await self.settle()


def ticket(name: str = "ann", issued_at: int = NOW, ttl: int = 90 * DAY) -> str:
    return TICKETS.issue(APP, name, issued_at, issued_at + ttl)
