"""The real server on real sockets: ports, keep-alive, streams, and a shutdown in time."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import socket
import threading
import time

import httpx2
import pytest

from sigmgr.http import server as http_server
from sigmgr.http.app import App
from sigmgr.http.protocol import ConnectionLimits, Connections
from sigmgr.http.server import bind, bind_unless, serve
from sigmgr.model import errors
from sigmgr.model.event import Event
from sigmgr.model.holder import Holder
from sigmgr.push.sse import PAST_KEY
from tests.http.scripted import APP, NOW, House

SIG = f"/v1/apps/{APP}/users/alice/sig"


class Running:
    """A server in this loop; ``async with`` stops it."""

    def __init__(self, app, *, drain=None, graceful=3.0, connections=None):
        self.stop = asyncio.Event()
        self.port: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.drained = 0
        self.connections = connections or Connections(ConnectionLimits())
        self.task = asyncio.create_task(self._serve(app, drain or self._drain, graceful))

    async def _serve(self, app, drain, graceful):
        await serve(
            app,
            await bind("127.0.0.1", 0),
            stop=self.stop,
            drain=drain,
            graceful=graceful,
            bound=self.port.set_result,
            connections=self.connections,
        )

    async def _drain(self):
        self.drained += 1

    async def __aenter__(self):
        await asyncio.wait({self.task, self.port}, return_when=asyncio.FIRST_COMPLETED)
        if self.task.done():
            self.task.result()
        self.url = f"http://127.0.0.1:{self.port.result()}"
        return self

    async def __aexit__(self, *exc):
        self.stop.set()
        await self.task

    async def connect(self):
        return await asyncio.open_connection("127.0.0.1", self.port.result())


async def ask(reader, writer, path, token, extra=""):
    writer.write(
        f"GET {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n{extra}\r\n".encode()
    )
    head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    size = (
        int(head.split("content-length: ")[1].split("\r\n")[0]) if "content-length" in head else 0
    )
    return head, await reader.readexactly(size)


def opening(house):
    return f"GET /v1/stream HTTP/1.1\r\nauthorization: Bearer {house.ticket()}\r\n\r\n".encode()


async def closed(writer):
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


async def gateway(scope, receive, send):
    """A stream that sends one thing and then stays open."""
    await send(
        {
            "type": "http.response.start",
            "status": 200,
            "headers": [(b"content-type", b"text/event-stream")],
        }
    )
    await send({"type": "http.response.body", "body": b"data: 1\n\n", "more_body": True})
    while (await receive())["type"] != "http.disconnect":
        pass


async def test_gets_over_a_kept_connection_and_ids_with_slashes(house, app):
    async with Running(app) as server:
        reader, writer = await server.connect()
        for userid, path in (("alice", "alice"), ("a/b%", "a%2Fb%25"), ("alice", "alice")):
            head, body = await ask(
                reader, writer, f"/v1/apps/{APP}/users/{path}/sig", house.backend
            )
            assert json.loads(body)["userid"] == userid
            assert "\r\ndate: " in head
            assert "\r\nserver: " not in head
        await closed(writer)
    assert server.drained == 1


async def test_bytes_that_are_no_request_are_refused(house, app):
    async with Running(app) as server:
        reader, writer = await server.connect()
        writer.write(b"GET /v1/apps/1/users/caf\xe9/sig HTTP/1.1\r\nhost: x\r\n\r\n")
        assert (await reader.readline()).startswith(b"HTTP/1.1 400")
        await closed(writer)


async def test_a_port_in_use_is_one_sentence(app):
    async with Running(app) as server:
        with pytest.raises(errors.AddressInUse, match="is in use by another process"):
            await bind("127.0.0.1", server.port.result())


@pytest.mark.parametrize(
    ("host", "output"),
    [
        ("192.0.2.1", "192.0.2.1:0: no interface of this machine has this address"),
        ("2001:db8::1", "[2001:db8::1]:0: "),
        ("", ":0: there is no such host"),
        ("a" * 64 + ".invalid", "there is no such host"),
    ],
)
async def test_an_address_that_is_not_ours(host, output):
    with pytest.raises(errors.BadSettings, match="cannot listen on") as refused:
        await bind(host, 0)
    assert output in refused.value.text
    assert "attempting" not in refused.value.text
    assert "--host" in refused.value.advice


@pytest.mark.parametrize(
    ("number", "output"),
    [
        (socket.EAI_NONAME, "there is no such host"),
        (socket.EAI_AGAIN, "no name server answers"),
        (socket.EAI_FAIL, "as the system says it"),
    ],
)
async def test_a_name_that_is_not_resolved(monkeypatch, number, output):
    def looked_up(host, port, flags=0):
        raise socket.gaierror(number, "as the system says it")

    monkeypatch.setattr(http_server, "_looked_up", looked_up)
    with pytest.raises(errors.BadSettings, match=f"cannot listen on chat.invalid:80: {output}$"):
        await bind("chat.invalid", 80)


@pytest.fixture
def name_server(monkeypatch):
    """One that does not answer before it is released; numbers need none."""
    answer = threading.Event()
    looked_up = http_server._looked_up

    def slow(host, port, flags=0):
        if not flags:
            answer.wait(30)
            host = "127.0.0.1"
        return looked_up(host, port, flags)

    monkeypatch.setattr(http_server, "_looked_up", slow)
    yield answer
    answer.set()


async def test_a_name_server_that_does_not_answer_is_given_up(name_server):
    with pytest.raises(errors.BadSettings, match=r"not resolved within 0\.05 s"):
        await bind("localhost", 0, patience=0.05)


async def test_a_name_is_looked_up_beside_the_loop(name_server):
    binding = asyncio.create_task(bind("localhost", 0))
    await asyncio.sleep(0.05)  # the loop turns meanwhile
    assert not binding.done()
    name_server.set()
    with await binding as listener:
        assert listener.getsockname()[0] == "127.0.0.1"


async def test_a_stop_is_noticed_while_a_name_is_looked_up(name_server):
    stop = asyncio.Event()
    binding = asyncio.create_task(bind_unless(stop, "localhost", 0))
    await asyncio.sleep(0.05)
    stop.set()
    assert await asyncio.wait_for(binding, 5) is None
    with await bind_unless(asyncio.Event(), "127.0.0.1", 0) as listener:
        assert listener.getsockname()[1] > 0
    with pytest.raises(errors.BadSettings):
        await bind_unless(asyncio.Event(), "192.0.2.1", 0)


async def test_a_stream_arrives_at_once_and_its_drain_lets_the_server_go():
    house = House(gateway=gateway)
    async with Running(App(house.services), graceful=1.0) as server:
        reader, writer = await server.connect()
        writer.write(opening(house))
        await asyncio.wait_for(reader.readuntil(b"data: 1\n\n"), 1)
        await closed(writer)
        began = time.monotonic()
    assert time.monotonic() - began < 0.9


async def test_streams_that_will_not_go_are_cut_within_the_limit():
    house = House(gateway=gateway)
    server = Running(App(house.services), graceful=0.6)
    async with server:
        reader, writer = await server.connect()
        writer.write(opening(house))
        await reader.readuntil(b"data: 1\n\n")
        began = time.monotonic()
    assert time.monotonic() - began < 1.8
    assert (await reader.read()) in (b"", b"0\r\n\r\n", b"\r\n")
    await closed(writer)


@pytest.mark.parametrize("fails", [True, False])
async def test_a_drain_that_fails_or_hangs_does_not_hold_the_server(app, fails):
    async def drain():
        if fails:
            raise ValueError
        await asyncio.sleep(60)

    began = time.monotonic()
    async with Running(app, drain=drain, graceful=0.4):
        pass
    assert time.monotonic() - began < 1.5


async def test_no_new_connections_while_draining_and_requests_in_flight_are_answered():
    house = House()
    house.flows.make(Holder(APP, "alice"), NOW, "Missing")
    refused = []

    async def drain():
        await asyncio.sleep(0.05)
        try:
            _, writer = await server.connect()
        except OSError:
            refused.append(True)
        else:
            await closed(writer)
        await house.polls.drain(0.1)

    server = Running(App(house.services), drain=drain)
    async with server:
        reader, writer = await server.connect()
        held = f'if-none-match: "{NOW}"\r\n'
        asked = asyncio.create_task(
            ask(reader, writer, "/v1/stream/current?wait=30", house.ticket(), held)
        )
        while not house.polls.counters.opened_total:
            await asyncio.sleep(0.01)
    head, _ = await asked
    assert head.startswith("http/1.1 304")
    assert refused == [True]
    await closed(writer)


async def test_a_long_poll_over_http(house, app):
    house.flows.make(Holder(APP, "alice"), NOW, "Missing")
    async with Running(app) as server, httpx2.AsyncClient(base_url=server.url) as client:
        ticket = {"Authorization": f"Bearer {house.ticket()}"}
        first = await client.get("/v1/stream/current", headers=ticket)
        waiting = asyncio.create_task(
            client.get(
                "/v1/stream/current",
                params={"wait": 20},
                headers={**ticket, "If-None-Match": first.headers["etag"]},
            )
        )
        while not house.polls.counters.opened_total:
            await asyncio.sleep(0.01)
        record = house.flows.make(Holder(APP, "alice"), NOW, "Forced")
        reported = Event("sig.renewed", record.holder, NOW + 1, record.expires_at, "Forced", NOW)
        house.polls.receive(0, [reported])
        await house.polls.settle()
        assert (await waiting).json()["issued_at"] == NOW + 1
        acked = await client.post("/v1/stream/ack", headers=ticket, json={"issued_at": NOW + 1})
        assert acked.status_code == 204


class Lines(logging.Handler):
    """What is logged, whatever levels and handlers other tests have set above."""

    def __init__(self):
        super().__init__(logging.ERROR)
        self.texts = []

    def emit(self, record):
        self.texts.append(record.getMessage())


async def test_a_response_that_was_cut_is_no_error_in_the_log():
    async def cut(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b":\n\n", "more_body": True})
        if scope["path"] == "/cut":
            scope[PAST_KEY].cut()

    async def logged(path):
        lines = Lines()
        server_log.addHandler(lines)
        async with Running(cut) as server:
            reader, writer = await server.connect()
            writer.write(b"GET %b HTTP/1.1\r\nhost: x\r\n\r\n" % path)
            with contextlib.suppress(ConnectionError):
                await asyncio.wait_for(reader.read(), 5)
            writer.close()
        server_log.removeHandler(lines)
        return lines.texts

    server_log = logging.getLogger("uvicorn.error")
    assert await logged(b"/cut") == []
    assert await logged(b"/forgotten") == ["ASGI callable returned without completing response."]
