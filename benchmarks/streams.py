"""Open streams: what an idle one costs in memory, and how long a message to all takes.

Ours: ``sigmgr serve --role gateway`` on PostgreSQL and Valkey; each stream authorised by its
ticket, its state read from the database, its sig derived. Bare: a raw ASGI endpoint that
sends one message of the same size and waits for the end. Both on uvicorn with the same
options, a process each, with the same client in a process of its own.

Memory: the growth of the process's proportional resident memory from 100 streams that were
opened and closed again to all open and idle, divided by their number.

Wave: ours is a mass renewal as gateways see it: ``announce`` of a new sig for every
user, begun by another process, to Valkey, shard channels, lookups of the sigs, tickets,
messages, until the last client has its own. Bare: one POST that makes the process send a message to
every stream. The policy here does not spread waves (splay 0), nor repeat what is not acked.
"""

from __future__ import annotations

import asyncio
import functools
import socket
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from statistics import median
from typing import NamedTuple

import uvloop

from benchmarks.cached import made
from benchmarks.children import Child
from benchmarks.rows import Options, Row, alternate_async
from benchmarks.stage import MASTER_KEY, SDKAPPID, House, build, redis_over, valkey
from sigmgr.cache.announcer import RedisAnnouncer
from sigmgr.cache.client import open_redis
from sigmgr.keys.sealing import MasterKey
from sigmgr.model.event import Event, EventType
from sigmgr.model.sig import Current
from sigmgr.model.ticket import Tickets
from sigmgr.ports import Announcement

STREAMS = 5000
WARM = 100
ROUNDS = 2
WAVES = 5
IDLE_SECONDS = 2.0

Begin = Callable[[Callable[[], object]], Awaitable[float]]


class Found(NamedTuple):
    """Medians of both sides: bytes per stream, seconds per wave and their ratio in turns."""

    our_bytes: float
    bare_bytes: float
    our_wave: float
    bare_wave: float
    wave_ratio: float


def stream_memory(options: Options) -> Row:
    """Bare bytes / our bytes."""
    found = _measured(options.run)
    return Row(
        "stream-memory",
        found.bare_bytes / found.our_bytes,
        f"bare / ours: {found.our_bytes / 1024:.1f} KiB,"
        f" bare {found.bare_bytes / 1024:.1f} KiB a stream; {STREAMS:,} open",
    )


def wave(options: Options) -> Row:
    """Bare seconds / our seconds."""
    found = _measured(options.run)
    return Row(
        "wave",
        1 / found.wave_ratio,
        f"bare / ours: {found.our_wave * 1e3:.0f} ms from announcing to the last of {STREAMS:,},"
        f" bare {found.bare_wave * 1e3:.0f} ms; not splayed",
    )


@functools.cache
def _measured(run: int) -> Found:
    """Both rows of a run from the same streams: opening them is most of the time."""
    del run
    house = build()
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            rounds = [runner.run(_round(house)) for _ in range(ROUNDS)]
    finally:
        house.drop()
    return Found(*(median(values) for values in zip(*rounds, strict=True)))


async def _round(house: House) -> Found:
    house.seed(STREAMS, due=False)
    valkey().wipe()
    tickets = tickets_of(house)
    with ExitStack() as stack:
        gateway = {"settings": house.settings, "roles": ["gateway"]}
        ours = _Side(stack, Child("service", **gateway), tickets)
        bare = _Side(stack, Child("bare_stream", size=ours.message_size), tickets)
        our_bytes, bare_bytes = ours.grow(), bare.grow()
        redis = await open_redis(
            valkey().url, monotonic=time.monotonic, total_timeout=30, socket_timeout=30
        )
        try:
            _, announcer = redis_over(redis)
            renewals = _Renewals(announcer)
            found = await alternate_async(
                WAVES, lambda: ours.wave(renewals), lambda: bare.wave(bare.post)
            )
        finally:
            await redis.aclose()
    return Found(our_bytes, bare_bytes, *found)


class _Side:
    """A server with all its streams open, held by a client of its own."""

    def __init__(self, stack: ExitStack, server: Child, tickets: list[str]) -> None:
        self._server = stack.enter_context(server)
        self._client = stack.enter_context(Child("listener"))
        self._tickets = tickets
        self.port: int = self._server.ready["port"]
        opened = self._client.ask("open", port=self.port, tickets=tickets[:WARM])
        self.message_size: int = opened["size"]
        self._client.ask("close")

    def grow(self) -> float:
        """Open them all; bytes of memory for each."""
        time.sleep(IDLE_SECONDS)
        before = self._server.resident_bytes()
        answer = self._client.ask("open", port=self.port, tickets=self._tickets)
        if answer["open"] != STREAMS:
            raise RuntimeError(f"{answer['open']} of {STREAMS} streams are open")
        time.sleep(IDLE_SECONDS)
        return (self._server.resident_bytes() - before) / STREAMS

    async def wave(self, begin: Begin) -> float:
        """Seconds from ``begin`` to the last receipt."""
        started = await begin(lambda: self._client.ask("arm"))
        return float(self._client.ask("wait")["at"]) - started

    async def post(self, arm: Callable[[], object]) -> float:
        """Tell the bare server to send. Not async on purpose: it writes and goes on."""
        arm()
        with socket.create_connection(("127.0.0.1", self.port)) as connection:
            started = time.monotonic()
            connection.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
            connection.recv(1000)
        return started


class _Renewals:
    """Mass renewals, each with sigs that are a second newer."""

    def __init__(self, announcer: RedisAnnouncer) -> None:
        self._announcer = announcer
        # In the past, and newer than those of the database.
        self._issued_at = int(time.time()) - 3600

    async def __call__(self, arm: Callable[[], object]) -> float:
        self._issued_at += 1
        batch = [_announcement(one) for one in made(self._issued_at, STREAMS)]
        now = int(time.time())
        arm()
        started = time.monotonic()
        await self._announcer.announce(batch, now)
        return started


def _announcement(current: Current) -> Announcement:
    event = Event(
        EventType.RENEWED.value,
        current.holder,
        current.issued_at,
        current.expires_at,
        current.reason,
        current.issued_at,
    )
    return Announcement(event, current)


def tickets_of(house: House) -> list[str]:
    """As a get would hand them out, for the sigs in the database."""
    tickets = Tickets(MasterKey.from_base64(MASTER_KEY).derive("tickets"))
    with house.connect() as connection:
        rows = connection.execute(
            "SELECT userid, issued_at, expires_at FROM holders ORDER BY userid"
        ).fetchall()
    return [tickets.issue(SDKAPPID, *row) for row in rows]
