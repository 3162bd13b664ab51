"""What a connection may take: sizes, seconds, numbers; on real sockets, the seconds by hand."""

from __future__ import annotations

import asyncio
import json

import pytest
from structlog.testing import capture_logs

from sigmgr.http.protocol import (
    LINGER,
    MAX_HEADERS,
    MAX_LINE,
    MAX_PIPELINED,
    MAX_UNREAD,
    ConnectionLimits,
    Connections,
)
from tests.http.test_server import Running, closed

OK = b"HTTP/1.1 200 OK\r\n"


class App:
    """Answers when it may, with what it was sent; ``asked`` are the scopes that came."""

    def __init__(self):
        self.asked = []
        self.bodies = []
        self.gone = 0
        self.may = asyncio.Event()
        self.may.set()
        self.length = True
        self.size = 2

    async def __call__(self, scope, receive, send):
        self.asked.append(scope)
        body = b""
        if scope["path"] != "/unread":
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    self.gone += 1
                    return
                body += message["body"]
                if not message["more_body"]:
                    break
        self.bodies.append(body)
        await self.may.wait()
        answer = b"o" * self.size
        headers = [(b"content-length", b"%d" % self.size)] if self.length else []
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": answer[:1], "more_body": True})
        await send({"type": "http.response.body", "body": answer[1:]})


class House:
    """A server with one app and the connections in hand."""

    def __init__(self, **limits):
        self.app = App()
        self.connections = Connections(ConnectionLimits(**limits))
        self.server = Running(self.app, connections=self.connections, graceful=1.0)

    async def __aenter__(self):
        await self.server.__aenter__()
        return self

    async def __aexit__(self, *exc):
        self.app.may.set()
        await self.server.__aexit__(*exc)

    async def open(self, output=b""):
        reader, writer = await self.server.connect()
        writer.write(output)
        return reader, writer

    def reading(self, what):
        """How many connections have begun with this."""
        return sum(one._reading.name == what for one in self.connections.waiting)

    def pass_seconds(self, seconds):
        for _ in range(seconds):
            self.connections.sweep()

    async def until(self, met):
        async with asyncio.timeout(5):
            while not met():
                await asyncio.sleep(0.001)


async def rest(reader):
    """Everything until the end, which may be a reset."""
    got = b""
    async with asyncio.timeout(5):
        try:
            while piece := await reader.read(65536):
                got += piece
        except ConnectionError:
            pass
    return got


def problem(raw, status, code):
    head, _, body = raw.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status), raw[:200]
    assert b"content-type: application/problem+json" in head
    assert b"connection: close" in head
    output = json.loads(body)
    assert (output["status"], output["code"]) == (status, code)
    assert output["advice"]
    return output


def get(path="/", *headers, version="1.1"):
    lines = [f"GET {path} HTTP/{version}", "host: x", *headers]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def path_of_line(size):
    """A path whose request line is as long as this."""
    return "/" + "a" * (size - len("GET / HTTP/1.1"))


def header_of(size):
    """A header that makes all of them as large as this."""
    return "x: " + "a" * (size - len("host: x\r\n") - len("x: \r\n"))


async def written(writer, raw):
    try:
        writer.write(raw)
        await writer.drain()
    except ConnectionError:
        pass


# -- sizes -------------------------------------------------------------------------------


@pytest.mark.parametrize("pieces", [1, 7])
async def test_the_largest_that_is_taken_is_taken(pieces):
    async with House() as house:
        reader, writer = await house.open()
        raw = get(path_of_line(MAX_LINE), header_of(MAX_HEADERS))
        size = -(-len(raw) // pieces)
        for start in range(0, len(raw), size):
            await written(writer, raw[start : start + size])
            await asyncio.sleep(0.01)
        assert (await reader.readline()) == OK
        await closed(writer)
    assert not house.connections.cut


@pytest.mark.parametrize("pieces", [1, 7])
@pytest.mark.parametrize(
    ("raw", "status", "code"),
    [
        (get(path_of_line(MAX_LINE + 1)), 414, "uri-too-long"),
        (get("/", header_of(MAX_HEADERS + 1)), 431, "headers-too-large"),
        (get("/", *["a: b"] * 6000), 431, "headers-too-large"),
        (get("/", "a: " + " " * 200_000 + "b"), 431, "headers-too-large"),
        (get("/", "a" * 200_000 + ": b"), 431, "headers-too-large"),
    ],
    ids=["line", "one more", "many", "blanks", "name"],
)
async def test_what_is_larger_is_refused(raw, status, code, pieces):
    async with House() as house:
        reader, writer = await house.open()
        size = -(-len(raw) // pieces)
        for start in range(0, len(raw), size):
            await written(writer, raw[start : start + size])
            await asyncio.sleep(0.01)
        await house.until(lambda: house.connections.cut)
        writer.write_eof()
        problem(await rest(reader), status, code)
        await closed(writer)
    assert house.app.asked == []
    assert house.connections.cut == {"refused": 1}


@pytest.mark.parametrize("start", [b"GET /", b"GET / HTTP/1.1\r\na: ", b"GET / HTTP/1.1\r\na"])
async def test_a_header_without_end_is_refused_early_and_its_client_reads_why(start):
    """Sixteen megabytes are sent: the answer must not be lost in a reset."""
    async with House() as house:
        reader, writer = await house.open(start)
        for _ in range(16):
            await written(writer, b"x" * 2**20)
        code = {b"/": (414, "uri-too-long")}.get(start[-1:], (431, "headers-too-large"))
        writer.write_eof()
        problem(await rest(reader), *code)
        await closed(writer)


@pytest.mark.parametrize(
    "endless", [b"0\r\n" + b"a: b\r\n" * 8000, b"1;" + b"a" * 40_000], ids=["trailers", "extension"]
)
async def test_a_body_that_ends_in_something_else_without_end(endless):
    async with House() as house:
        chunked = b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n"
        reader, writer = await house.open(chunked)
        await house.until(lambda: house.app.asked)
        await written(writer, endless)
        await house.until(lambda: house.connections.cut)
        writer.write_eof()
        problem(await rest(reader), 431, "headers-too-large")
        await closed(writer)
    assert (house.app.gone, house.app.bodies) == (1, [])


async def test_trailers_are_no_headers_of_the_request():
    async with House() as house:
        raw = b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\n"
        reader, writer = await house.open(raw + b"authorization: Bearer x\r\n\r\n")
        assert (await reader.readline()) == OK
        await closed(writer)
    assert b"authorization" not in dict(house.app.asked[0]["headers"])


async def test_requests_that_wait_for_no_answer_are_not_piled_up():
    async with House() as house:
        house.app.may.clear()
        _, writer = await house.open(get() * (MAX_PIPELINED + 2))
        await house.until(lambda: house.connections.cut)
        assert house.connections.cut == {"refused": 1}
        await house.until(lambda: not house.connections.open)
        await closed(writer)
    assert len(house.app.asked) == 1


async def test_a_few_requests_at_once_are_answered_in_order():
    async with House() as house:
        reader, writer = await house.open(b"".join(get(f"/{n}") for n in range(MAX_PIPELINED)))
        for _ in range(MAX_PIPELINED):
            await reader.readuntil(b"\r\n\r\noo")
        await closed(writer)
    assert [scope["path"] for scope in house.app.asked] == [f"/{n}" for n in range(MAX_PIPELINED)]


async def test_a_body_that_was_answered_already_is_read_for_a_while_only():
    async with House() as house:
        head = b"POST /unread HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999\r\n\r\n"
        reader, writer = await house.open(head)
        await reader.readuntil(b"\r\n\r\noo")
        sent = 0
        while house.connections.open and sent < 64 * 2**20:
            await written(writer, b"x" * 2**16)
            sent += 2**16
            await asyncio.sleep(0)
        # Nothing but the one answer was sent.
        assert await rest(reader) == b""
        assert house.connections.cut == {"refused": 1}
        assert MAX_UNREAD <= sent < 64 * 2**20
        await closed(writer)


# -- seconds -----------------------------------------------------------------------------


async def test_a_header_in_drips_has_its_time_from_the_first_byte():
    async with House(head=10, keep_alive=60) as house:
        reader, writer = await house.open(b"GET / HTTP/1.1\r\n")
        await house.until(lambda: house.reading("HEAD"))
        connection = next(iter(house.connections.waiting))
        for n in range(9):
            writer.write(b"a: b\r\n")
            stale = connection._stale
            await house.until(lambda before=stale: connection._stale > before)
            house.pass_seconds(1)
            assert not house.connections.cut, n
        house.pass_seconds(1)
        problem(await rest(reader), 408, "request-timeout")
        await closed(writer)
        assert house.connections.cut == {"slow-head": 1}


@pytest.mark.parametrize("output", [b"", b"\r\n\r\n"])
async def test_a_connection_that_asks_nothing_is_closed_without_a_word(output):
    async with House(head=10) as house:
        reader, writer = await house.open(output)
        await house.until(lambda: house.connections.open)
        house.pass_seconds(9)
        writer.write(b"\r\n")  # no beginning either
        await asyncio.sleep(0.02)
        house.pass_seconds(1)
        assert await rest(reader) == b""
        await closed(writer)
        assert not house.connections.cut


async def test_between_requests_it_is_kept_for_its_time():
    async with House(head=2, keep_alive=60) as house:
        reader, writer = await house.open(get())
        for n in range(3):
            await reader.readuntil(b"\r\n\r\noo")
            house.pass_seconds(59)
            if n < 2:
                writer.write(get())
        house.pass_seconds(1)
        assert await rest(reader) == b""
        await closed(writer)


@pytest.mark.parametrize("chunked", [True, False])
async def test_a_body_is_closed_when_it_stands_still(chunked):
    async with House(body=30) as house:
        kind = b"transfer-encoding: chunked" if chunked else b"content-length: 90"
        piece = b"1\r\na\r\n" if chunked else b"a"
        reader, writer = await house.open(b"POST / HTTP/1.1\r\nhost: x\r\n" + kind + b"\r\n\r\n")
        await house.until(lambda: house.app.asked)
        connection = next(iter(house.connections.waiting))
        for _ in range(3):
            house.pass_seconds(29)
            writer.write(piece)
            await house.until(lambda: connection.due == house.connections.now + 30)
        if chunked:  # these are no bytes of a body
            writer.write(b"1;" + b"a" * 1000)
            await house.until(lambda: connection._stale)
        house.pass_seconds(30)
        problem(await rest(reader), 408, "request-timeout")
        await closed(writer)
        await house.until(lambda: house.app.gone)
        assert house.connections.cut == {"slow-body": 1}
    assert house.app.bodies == []


async def test_who_waits_for_an_answer_is_left_in_peace():
    async with House() as house:
        house.app.may.clear()
        reader, writer = await house.open(get())
        await house.until(lambda: house.app.bodies)
        house.pass_seconds(100_000)
        assert not house.connections.waiting
        house.app.may.set()
        await reader.readuntil(b"\r\n\r\noo")
        assert len(house.connections.waiting) == 1
        await closed(writer)


async def test_an_answer_under_way_is_not_spoilt_by_a_refusal():
    async with House() as house:
        house.app.may.clear()
        reader, writer = await house.open(get() + b"GET / HTTP/1.1\r\n")
        await house.until(lambda: house.app.bodies)
        house.pass_seconds(10)
        assert await rest(reader) == b""
        await closed(writer)
        await house.until(lambda: not house.connections.open)


@pytest.mark.parametrize("length", [True, False])
async def test_an_answer_that_is_not_taken_is_given_up(length):
    async with House(body=30, keep_alive=60) as house:
        house.app.size = 50_000_000
        house.app.length = length
        reader, writer = await house.open(get())
        await house.until(lambda: house.connections.waiting)
        connection = next(iter(house.connections.waiting))
        await house.until(lambda: connection.flow.write_paused)
        house.pass_seconds(30)  # the first look only takes note
        for _ in range(20):
            await reader.readexactly(2**20)
        await asyncio.sleep(0.1)
        house.pass_seconds(30)
        assert house.connections.open == 1
        await asyncio.sleep(0.1)
        house.pass_seconds(30)
        await house.until(lambda: not house.connections.open)
        assert house.connections.cut == {"slow-reader": 1}
        await closed(writer)


async def test_a_refused_client_that_stays_is_dropped():
    async with House() as house:
        reader, writer = await house.open(b"no http at all\r\n\r\n")
        problem(await rest(reader), 400, "bad-request")
        assert house.connections.open == 1
        house.pass_seconds(LINGER)
        await house.until(lambda: not house.connections.open)
        await closed(writer)


# -- numbers -----------------------------------------------------------------------------


async def test_a_new_connection_takes_the_place_of_a_slow_one_then_of_an_idle_one():
    async with House(connections=3) as house:
        idle = await house.open(get())
        await idle[0].readuntil(b"\r\n\r\noo")
        slow = [await house.open(b"GET / HT") for _ in range(2)]
        await house.until(lambda: house.reading("HEAD") == 2)
        house.pass_seconds(1)
        kept = []
        for gone in (slow, [idle]):
            for _ in gone:
                reader, writer = await house.open(get())
                await asyncio.wait_for(reader.readuntil(b"\r\n\r\noo"), 5)
                kept.append(writer)
            for reader, _ in gone:
                assert await rest(reader) == b""
        assert house.connections.cut == {"made-room": 3}
        for writer in (*kept, *(writer for _, writer in (*slow, idle))):
            await closed(writer)


async def test_bodies_that_do_not_end_make_room_too_and_answers_to_come_do_not():
    async with House(connections=2) as house:
        house.app.may.clear()
        waits = await house.open(get())
        await house.until(lambda: house.app.bodies)
        body = await house.open(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\na")
        await house.until(lambda: len(house.app.asked) == 2)
        house.pass_seconds(1)
        second = await house.open(get())
        await house.until(lambda: len(house.app.bodies) == 2)
        assert await rest(body[0]) == b""
        house.pass_seconds(1)
        third = await house.open()
        assert await rest(third[0]) == b""
        assert house.connections.cut == {"made-room": 1, "too-many": 1}
        house.app.may.set()
        for reader, writer in (waits, second):
            await reader.readuntil(b"\r\n\r\noo")
            await closed(writer)
        await closed(body[1])
        await closed(third[1])


async def test_many_at_once_hold_no_more_than_they_may_and_it_stays_reachable():
    with capture_logs() as logs:
        await crowd()
    reported = [one for one in logs if one["action"] == "connections-cut"]
    # 80 and more in a few lines, of which none comes within ten seconds of another.
    assert 1 <= len(reported) <= 4
    assert sum(one.get("too_many", 0) for one in reported) == 80


async def crowd():
    async with House(connections=20) as house:
        slow = [await house.open(b"GET / HTTP/1.1\r\n") for _ in range(100)]
        await house.until(lambda: sum(house.connections.cut.values()) == 80)
        assert house.connections.open <= 20
        house.pass_seconds(1)
        reader, writer = await house.open(get())
        await asyncio.wait_for(reader.readuntil(b"\r\n\r\noo"), 5)
        await closed(writer)
        house.pass_seconds(30)
        await house.until(lambda: not house.connections.open)
        for _, writer in slow:
            await closed(writer)


# -- HTTP/1.0 ----------------------------------------------------------------------------


@pytest.mark.parametrize("length", [True, False])
async def test_http_1_0_gets_no_chunks_and_its_connection_is_closed(length):
    async with House() as house:
        house.app.length = length
        house.app.size = 100_000
        reader, writer = await house.open(get(version="1.0"))
        head, _, body = (await rest(reader)).partition(b"\r\n\r\n")
        assert b"transfer-encoding" not in head
        assert b"connection: close" in head
        assert body == b"o" * 100_000
        await closed(writer)


async def test_http_1_1_does():
    async with House() as house:
        house.app.length = False
        reader, writer = await house.open(get())
        head = await reader.readuntil(b"\r\n\r\n")
        assert b"transfer-encoding: chunked" in head
        assert await reader.readuntil(b"0\r\n\r\n") == b"1\r\no\r\n1\r\no\r\n0\r\n\r\n"
        await closed(writer)


async def test_an_upgrade_is_answered_as_what_it_asks_else():
    async with House() as house:
        reader, writer = await house.open(get("/", "connection: upgrade", "upgrade: websocket"))
        assert (await reader.readline()) == OK
        await closed(writer)


async def test_a_sweep_that_fails_is_logged_and_not_the_last():
    connections = Connections(ConnectionLimits())
    sweeps = 0

    def sweep():
        nonlocal sweeps
        sweeps += 1
        raise ValueError("a bug")

    connections.sweep = sweep
    with capture_logs() as lines:
        running = asyncio.create_task(connections.run())
        await asyncio.sleep(2.5)
        assert not running.done()
        running.cancel()
    assert sweeps == 2
    assert {line["action"] for line in lines} == {"sweep-failed"}
