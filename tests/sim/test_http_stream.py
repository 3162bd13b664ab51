"""HTTP answers as servers may send them, cut at any byte."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress

import pytest

from sigmgr.sim import http_stream

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX-A:  b \r\n\r\n"


@asynccontextmanager
async def answering(raw, *, piece=1000, hold=False):
    """A server that sends these bytes to every client; yields (address, what it was asked)."""
    asked, talks = [], []

    async def talk(reader, writer):
        talks.append(asyncio.current_task())
        asked.append((await reader.readuntil(b"\r\n\r\n")).decode())
        # A client that has what it wants hangs up in the middle of a word.
        with suppress(ConnectionError):
            for i in range(0, len(raw), piece):
                writer.write(raw[i : i + piece])
                await writer.drain()
                await asyncio.sleep(0)
            if hold:
                await reader.read()
        with suppress(ConnectionError):
            writer.close()
            await writer.wait_closed()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1/stream?x=1", asked
        await asyncio.gather(*talks)


@pytest.mark.parametrize("piece", [1, 3, 1000])
@pytest.mark.parametrize(
    "raw",
    [
        CHUNKED + b"3\r\nabc\r\n4;ext=1\r\ndefg\r\n0\r\n\r\n",
        CHUNKED + b"3\r\nabc\r\n4\r\ndefg\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nabcdefg and more",
        b"HTTP/1.0 200 OK\r\n\r\nabcdefg",
    ],
)
async def test_bodies(raw, piece):
    bearer = {"Authorization": "Bearer t"}
    async with answering(raw, piece=piece) as (url, asked), http_stream.get(url, bearer) as answer:
        assert answer.status == 200
        assert await answer.body() == b"abcdefg"
    assert asked[0].startswith("GET /v1/stream?x=1 HTTP/1.1\r\nHost: 127.0.0.1:")
    assert "\r\nAuthorization: Bearer t\r\n" in asked[0]


async def test_headers_and_a_body_that_is_too_long():
    raw = CHUNKED + b"5\r\nabcde\r\n" * 9
    async with answering(raw) as (url, _), http_stream.get(url, {}) as answer:
        assert answer.headers["x-a"] == "b"
        assert await answer.body(limit=7) == b"abcdeab"


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"HTTP/1.1 200 OK\r\n",
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/1.1 2xx\r\n\r\n",
        b"HTTP/1.1\r\n\r\n",
        b"A" * 70_000,
        CHUNKED + b"zz\r\n",
        CHUNKED + b"5\r\nab",
        b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nabc",
    ],
    ids=lambda raw: str(raw[-16:]),
)
async def test_what_is_not_http(raw):
    async with answering(raw) as (url, _):
        with pytest.raises(http_stream.HttpStreamError):
            async with http_stream.get(url, {}) as answer:
                await answer.body()


async def test_silence_ends_the_stream():
    async with answering(CHUNKED + b"3\r\nabc\r\n", hold=True) as (url, _):
        with pytest.raises(http_stream.HttpStreamError, match="nothing was received"):
            async with http_stream.get(url, {}, idle=0.05) as answer:
                await answer.body()


async def test_nobody_there():
    with pytest.raises(http_stream.HttpStreamError):
        async with http_stream.get("http://127.0.0.1:1/", {}):
            raise AssertionError
