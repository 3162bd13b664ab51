"""Load: keep-alive requests and open streams, in as little CPU as Python allows.

The client shares the machine with what it measures. It must not be the narrow place: the
benchmarks print how busy the server was meanwhile.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from itertools import count as iter_from
from itertools import cycle
from typing import Any

_LENGTH = b"content-length: "
_DIALS = 64


class _Requests(asyncio.Protocol):
    """One connection that asks for the next as soon as it has an answer."""

    def __init__(self, requests: Any, until: float) -> None:
        self._requests = requests
        self._until = until
        self._left = 0
        self._sent_at = 0.0
        self.answered = 0
        self.bad = 0
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        transport.write(next(self._requests))

    def data_received(self, data: bytes) -> None:
        if self._left:
            self._left -= len(data)
        else:
            at = data.index(_LENGTH) + len(_LENGTH)
            length = int(data[at : data.index(b"\r", at)])
            self._left = data.index(b"\r\n\r\n") + 4 + length - len(data)
            self.bad += data[9:12] != b"200"
        if self._left:
            return
        if time.monotonic() > self._until:
            self._transport.close()
            return
        self.answered += 1
        self._transport.write(next(self._requests))

    def connection_lost(self, error: Exception | None) -> None:
        self.bad += error is not None
        if not self.done.done():
            self.done.set_result(None)


async def load(
    do: str, port: int, requests: list[str], connections: int, seconds: float
) -> dict[str, Any]:
    """Send the requests in turn over so many connections for a while; answers how many a
    second were answered."""
    raw = cycle([request.encode("ascii") for request in requests])
    loop = asyncio.get_running_loop()
    until = time.monotonic() + seconds
    made = [
        (await loop.create_connection(lambda: _Requests(raw, until), "127.0.0.1", port))[1]
        for _ in range(connections)
    ]
    async with asyncio.timeout(seconds + 30):
        await asyncio.gather(*(one.done for one in made))
    bad = sum(one.bad for one in made)
    if bad:
        raise RuntimeError(f"{bad} requests failed")
    return {"rate": sum(one.answered for one in made) / seconds}


class _Asking:
    """Gets of one kind over a few connections: how long each took, and its status."""

    def __init__(self, template: str, start: int, count: int, pause: float) -> None:
        self._template = template.encode("ascii")
        self._numbers = cycle(range(start, start + count)) if count < 10**6 else iter_from(start)
        self._left = count
        self._pause = pause
        self.ms: list[float] = []
        self.statuses: Counter[str] = Counter()

    async def over(self, port: int, until: float, *, once: bool) -> None:
        """One connection's work, opened again where the server closes it."""
        while self._goes_on(until, once=once):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                while self._goes_on(until, once=once):
                    await self._one(reader, writer)
                    await asyncio.sleep(self._pause)
            except (asyncio.IncompleteReadError, OSError):
                self.statuses["lost"] += 1
            finally:
                writer.close()

    def _goes_on(self, until: float, *, once: bool) -> bool:
        return self._left > 0 if once else time.monotonic() < until

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._left -= 1
        began = time.monotonic()
        writer.write(self._template % next(self._numbers))
        head = await reader.readuntil(b"\r\n\r\n")
        at = head.index(_LENGTH) + len(_LENGTH)
        await reader.readexactly(int(head[at : head.index(b"\r", at)]))
        self.ms.append(round((time.monotonic() - began) * 1e3, 3))
        self.statuses[head[9:12].decode()] += 1


async def ask(do: str, jobs: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Several kinds at the same time; answers the times and statuses of each."""
    asking: dict[str, _Asking] = {}
    async with asyncio.TaskGroup() as group:
        for kind, job in jobs.items():
            one = asking[kind] = _Asking(job["template"], job["start"], job["count"], job["pause"])
            until = time.monotonic() + job["seconds"]
            for _ in range(job["connections"]):
                group.create_task(one.over(job["port"], until, once=job["once"]))
    return {kind: {"ms": one.ms, "statuses": one.statuses} for kind, one in asking.items()}


class _Stream(asyncio.Protocol):
    """One open stream, which only looks for the names of two events."""

    def __init__(self, owner: Streams) -> None:
        self._owner = owner
        self.opened: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        if b"event: sig.renewed" in data:
            self._owner.got(self)
        elif not self.opened.done() and b"event: sig.current" in data:
            self.opened.set_result(len(data) - data.index(b"event: "))

    def connection_lost(self, error: Exception | None) -> None:
        self._owner.lost += 1
        if not self.opened.done():
            self.opened.set_exception(ConnectionResetError("a stream was refused"))


class Streams:
    """Many of them."""

    def __init__(self) -> None:
        self._open: list[_Stream] = []
        self._waiting: set[_Stream] = set()
        self._all: asyncio.Future[float] | None = None
        self.lost = 0

    async def handle(self, do: str, **what: Any) -> dict[str, Any]:
        if do == "open":
            return await self._dial(**what)
        if do == "arm":
            self._waiting = set(self._open)
            self._all = asyncio.get_running_loop().create_future()
            return {}
        if do == "wait":
            return await self._reported()
        self.close()
        await asyncio.sleep(0.2)
        self.lost = 0
        return {}

    def close(self) -> None:
        for stream in self._open:
            stream.transport.close()
        self._open.clear()

    def got(self, stream: _Stream) -> None:
        self._waiting.discard(stream)
        if not self._waiting and self._all is not None and not self._all.done():
            self._all.set_result(time.monotonic())

    async def _dial(self, port: int, tickets: list[str], dials: int = _DIALS) -> dict[str, Any]:
        loop, gate = asyncio.get_running_loop(), asyncio.Semaphore(dials)

        async def one(ticket: str) -> int:
            async with gate:
                transport, stream = await loop.create_connection(
                    lambda: _Stream(self), "127.0.0.1", port
                )
                self._open.append(stream)
                transport.write(
                    b"GET /v1/stream HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\n"
                    b"User-Agent: benchmark\r\nAuthorization: Bearer %b\r\n\r\n" % ticket.encode()
                )
                async with asyncio.timeout(60):
                    return await stream.opened

        sizes = await asyncio.gather(*map(one, tickets))
        return {"open": len(self._open) - self.lost, "size": sorted(sizes)[len(sizes) // 2]}

    async def _reported(self) -> dict[str, Any]:
        assert self._all is not None
        try:
            async with asyncio.timeout(30):
                return {"at": await self._all}
        except TimeoutError:
            missing = f"{len(self._waiting)} of {len(self._open)} streams got nothing"
            raise RuntimeError(f"{missing}; {self.lost} were lost") from None
