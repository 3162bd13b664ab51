"""A chunk past the send is the same on the wire, and is not written where it must not be."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest

from sigmgr.http.chunks import chunks_of
from tests.http.test_server import Running, closed

START = {"type": "http.response.start", "status": 200, "headers": []}
LINES = [b"one\n\n", b"x" * 70_000, b":\n\n"]


async def gone(receive):
    while (await receive())["type"] != "http.disconnect":
        pass


def end(send, body=b""):
    return send({"type": "http.response.body", "body": body})


async def body_of(app):
    async with Running(app) as server:
        reader, writer = await server.connect()
        writer.write(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        raw = await asyncio.wait_for(reader.read(), 5)
        await closed(writer)
    return raw.partition(b"\r\n\r\n")[2]


async def test_the_bytes_are_those_of_the_send():
    async def by_send(scope, receive, send):
        await send(START)
        for line in LINES:
            await send({"type": "http.response.body", "body": line, "more_body": True})
        await end(send, b"last")

    async def by_chunks(scope, receive, send):
        await send(START)
        chunks = chunks_of(send)
        assert chunks is not None
        for line in LINES:
            while not chunks.write(line):
                await asyncio.sleep(0.01)
        await end(send, b"last")

    assert await body_of(by_chunks) == await body_of(by_send)


async def test_only_an_open_chunked_response_has_them():
    found = []

    async def app(scope, receive, send):
        found.append(chunks_of(send))
        await send(START)
        found.append(chunks_of(send))
        await end(send)
        found.append(chunks_of(send))

    await body_of(app)
    assert [one is not None for one in found] == [False, True, False]


async def test_a_response_of_known_length_has_none():
    found = []

    async def app(scope, receive, send):
        await send({**START, "headers": [(b"content-length", b"2")]})
        found.append(chunks_of(send))
        await end(send, b"ok")

    assert await body_of(app) == b"ok"
    assert found == [None]


@pytest.mark.parametrize("send", [print, lambda message: None, asyncio.Event().set])
def test_a_send_of_another_server_has_none(send):
    assert chunks_of(send) is None


async def test_who_does_not_read_is_behind_and_who_is_gone_is_not_written_to():
    said: list[bool] = []
    over = asyncio.Event()

    async def app(scope, receive, send):
        await send(START)
        chunks = chunks_of(send)
        assert chunks is not None
        while chunks.write(b"x" * 100_000):
            await asyncio.sleep(0)
        said.append(chunks.write(b"more"))
        await gone(receive)
        # A transport that is closed shrugs; this one would not.
        real = chunks._transport
        chunks._transport = SimpleNamespace(
            is_closing=real.is_closing, get_write_buffer_size=real.get_write_buffer_size
        )
        said.append(chunks.write(b"more"))
        over.set()

    async with Running(app) as server:
        _, writer = await server.connect()
        writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        while not said:
            await asyncio.sleep(0.01)
        writer.transport.abort()
        await asyncio.wait_for(over.wait(), 5)
    assert said == [False, True]
