"""What goes past the send is the same on the wire, and is not written where it must not be."""

from __future__ import annotations

import asyncio
import re

import pytest

from sigmgr.push.sse import PAST_KEY
from tests.http.test_server import Running, closed

START = {"type": "http.response.start", "status": 200, "headers": []}
LINES = [b"one\n\n", b"x" * 70_000, b":\n\n"]


def part(body):
    return {"type": "http.response.body", "body": body, "more_body": True}


async def gone(receive):
    while (await receive())["type"] != "http.disconnect":
        pass


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
            await send(part(line))
        await send({"type": "http.response.body", "body": b"last"})

    async def past_it(scope, receive, send):
        await send(START)
        for line in LINES:
            while not scope[PAST_KEY].write(line):
                await asyncio.sleep(0.01)
        await send({"type": "http.response.body", "body": b"last"})

    assert await body_of(past_it) == await body_of(by_send)


async def test_an_answer_to_http_1_0_has_no_chunks():
    found = []

    async def app(scope, receive, send):
        await send(START)
        found.append(scope[PAST_KEY].chunked)
        await send({"type": "http.response.body", "body": b"ok"})

    async with Running(app) as server:
        for version in (b"1.0", b"1.1"):
            reader, writer = await server.connect()
            writer.write(b"GET / HTTP/%b\r\nhost: x\r\nconnection: close\r\n\r\n" % version)
            await asyncio.wait_for(reader.read(), 5)
            await closed(writer)
    assert found == [False, True]


async def test_who_does_not_read_is_behind_and_who_is_gone_is_not_written_to():
    said: list[bool] = []
    over = asyncio.Event()

    async def app(scope, receive, send):
        write = scope[PAST_KEY].write
        await send(START)
        while write(b"x" * 100_000):
            await asyncio.sleep(0)
        said.append(write(b"more"))
        await gone(receive)
        said.append(write(b"more"))
        over.set()

    async with Running(app) as server:
        _, writer = await server.connect()
        writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        while not said:
            await asyncio.sleep(0.01)
        writer.transport.abort()
        await asyncio.wait_for(over.wait(), 5)
    assert said == [False, True]


FIELDS = b"content-type: text/plain\r\ncache-control: no-store\r\n"
HEADERS = [(b"content-type", b"text/plain"), (b"cache-control", b"no-store")]


async def test_a_whole_answer_is_that_of_the_two_sends():
    answered = []

    async def app(scope, receive, send):
        if scope["path"] == "/past":
            answered.append(scope[PAST_KEY].answer(FIELDS, b"body"))
            answered.append(scope[PAST_KEY].answer(FIELDS, b"again"))
        else:
            length = (b"content-length", b"4")
            await send({**START, "headers": [*HEADERS, length]})
            await send({"type": "http.response.body", "body": b"body"})

    async with Running(app) as server:
        reader, writer = await server.connect()
        found = []
        for path in (b"/past", b"/send", b"/past"):
            writer.write(b"GET %b HTTP/1.1\r\nhost: x\r\n\r\n" % path)
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
            found.append((re.sub(rb"date: [^\r]*", b"date:", head), await reader.readexactly(4)))
        await closed(writer)
    assert found[0] == found[1] == found[2]
    assert b"date:" in found[0][0]
    assert answered == [True, False, True, False], "once for each request"


@pytest.mark.parametrize("head", [b"HTTP/1.1\r\nconnection: close", b"HTTP/1.0"])
async def test_what_ends_its_connection_is_left_to_the_send(head):
    answered = []

    async def app(scope, receive, send):
        answered.append(scope[PAST_KEY].answer(FIELDS, b"body"))
        await send(START)
        await send({"type": "http.response.body", "body": b"sent"})

    async with Running(app) as server:
        reader, writer = await server.connect()
        writer.write(b"GET / %b\r\nhost: x\r\n\r\n" % head)
        raw = await asyncio.wait_for(reader.read(), 5)
        await closed(writer)
    assert answered == [False]
    assert b"sent" in raw
