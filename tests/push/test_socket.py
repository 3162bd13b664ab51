"""Over a real socket with uvicorn: in-process clients buffer a stream until it ends."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time

import pytest
import uvicorn

from sigmgr.model.event import EventType
from tests.push.fakes import NOW, House, event, parse, sig, ticket, user


class Server:
    def __init__(self, house: House) -> None:
        self.house = house
        self.sock = socket.socket()
        self.sock.bind(("127.0.0.1", 0))
        self.sock.listen(1024)
        self.port = self.sock.getsockname()[1]
        config = uvicorn.Config(
            self.app, interface="asgi3", lifespan="off", http="httptools",
            log_config=None,  # what it sets would stay for all tests after this one
            timeout_graceful_shutdown=10, access_log=False,
        )  # fmt: skip
        self.server = uvicorn.Server(config)
        self.server.capture_signals = contextlib.nullcontext  # the test keeps its signals

    async def app(self, scope, receive, send) -> None:
        await self.house.stream(scope, receive, send)

    async def __aenter__(self) -> Server:
        self.task = asyncio.ensure_future(self.server.serve(sockets=[self.sock]))
        while not self.server.started:
            await asyncio.sleep(0.01)
        self.house.gateway.start()
        return self

    async def stop(self) -> None:
        self.server.should_exit = True
        await self.task

    async def __aexit__(self, *exc: object) -> None:
        if not self.task.done():
            await self.house.gateway.drain(0)
            await self.stop()
        await self.house.gateway.aclose()


class Tap:
    """A raw client: what has come in so far, chunk framing taken off by splitting."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.raw = b""

    @classmethod
    async def open(cls, port: int, name: str, *, buffer: int | None = None) -> Tap:
        sock = socket.socket()
        if buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
        reader, writer = await asyncio.open_connection(sock=sock, limit=buffer or 65536)
        head = f"GET /v1/stream HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {ticket(name)}\r\n\r\n"
        writer.write(head.encode())
        return cls(reader, writer)

    async def until(self, mark: bytes, seconds: float = 5) -> None:
        async with asyncio.timeout(seconds):
            while mark not in self.raw:
                got = await self.reader.read(65536)
                assert got, f"closed before {mark!r}"
                self.raw += got

    async def rest(self, seconds: float = 5) -> None:
        async with asyncio.timeout(seconds):
            while got := await self.reader.read(65536):
                self.raw += got

    @property
    def events(self) -> list[dict]:
        _, _, body = self.raw.partition(b"\r\n\r\n")
        plain = b""
        while body and b"\r\n" in body:
            size, _, body = body.partition(b"\r\n")
            plain += body[: int(size, 16)]
            body = body[int(size, 16) + 2 :]
        return parse(plain)

    async def close(self) -> None:
        self.writer.close()
        with contextlib.suppress(OSError):
            await self.writer.wait_closed()


async def test_first_message_at_once_then_a_renewal_then_hang_up():
    house = House()
    house.states.put(sig(user()))
    async with Server(house) as server:
        began = time.monotonic()
        tap = await Tap.open(server.port, "ann")
        await tap.until(b"sig.current")
        house.renew(user(), NOW + 1)
        await tap.until(b"sig.renewed")
        assert time.monotonic() - began < 2
        assert [e["issued_at"] for e in tap.events] == [NOW, NOW + 1]
        await tap.close()
        for _ in range(100):
            if not house.counters.open:
                break
            await asyncio.sleep(0.01)
        assert house.counters.open == 0


async def test_three_hundred_streams_get_a_wave():
    house = House()
    names = [f"u{n}" for n in range(300)]
    house.states.put(*(sig(user(name)) for name in names))
    async with Server(house) as server:
        taps = [await Tap.open(server.port, name) for name in names]
        await asyncio.gather(*(tap.until(b"sig.current") for tap in taps))
        assert house.counters.open == 300
        for name in names:
            house.states.put(sig(user(name), NOW + 1))
        house.gateway.receive(0, [event(EventType.RENEWED, user(n), NOW + 1) for n in names])
        await asyncio.gather(*(tap.until(b"sig.renewed") for tap in taps))
        assert all(t.events[-1]["userid"] == n for t, n in zip(taps, names, strict=True))
        await asyncio.gather(*(tap.close() for tap in taps))


async def test_revocation_closes_the_connection_for_good():
    house = House()
    house.states.put(sig(user()))
    async with Server(house) as server:
        tap = await Tap.open(server.port, "ann")
        await tap.until(b"sig.current")
        house.gateway.receive(0, [event(EventType.REVOKED, user(), NOW + 1)])
        await tap.until(b"0\r\n\r\n")
        assert tap.events[-1]["type"] == "sig.revoked"
        assert house.counters.open == 0
        await tap.close()


async def test_a_client_that_does_not_read_gets_the_latest_when_it_does():
    house = House()
    big = sig(user())._replace(usersig="x" * 60_000)
    house.states.put(big)
    async with Server(house) as server:
        tap = await Tap.open(server.port, "ann", buffer=4096)
        await asyncio.sleep(0.1)
        last = NOW
        for n in range(1, 200):
            last = NOW + n
            house.states.put(big._replace(issued_at=last, expires_at=last + 7_776_000))
            house.gateway.receive(0, [event(EventType.RENEWED, user(), last)])
            await asyncio.sleep(0.002)
            if house.counters.behind and n > 150:
                break
        assert house.counters.behind == 1
        sent = house.counters.sent_total
        reading = asyncio.ensure_future(tap.until(b'"issued_at":%d' % last, 10))
        for _ in range(40):
            await asyncio.sleep(0.1)
            house.gateway.tick(house.clock.advance(1))
            if reading.done():
                break
        await reading
        assert house.counters.sent_total - sent <= 2
        assert house.counters.behind == 0
        seen = [e["issued_at"] for e in tap.events]
        assert seen == sorted(seen)
        await tap.close()


@pytest.mark.parametrize("streams", [40])
async def test_drain_lets_uvicorn_exit(streams):
    house = House()
    names = [f"u{n}" for n in range(streams)]
    house.states.put(*(sig(user(name)) for name in names))
    async with Server(house) as server:
        taps = [await Tap.open(server.port, name) for name in names]
        await asyncio.gather(*(tap.until(b"sig.current") for tap in taps))
        began = time.monotonic()
        await house.gateway.drain(1.0)
        assert time.monotonic() - began < 1.5
        await server.stop()
        assert time.monotonic() - began < 4
        await asyncio.gather(*(tap.rest() for tap in taps))
        for tap in taps:
            assert tap.events[-1]["type"] == "bye"
            assert tap.raw.endswith(b"0\r\n\r\n")
            await tap.close()
