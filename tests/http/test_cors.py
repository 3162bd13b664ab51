"""Pages of other origins: who may read what, on the stream, the poll, the ack and their errors."""

from __future__ import annotations

from dataclasses import replace

import httpx2
import pytest

from sigmgr.http.app import App
from sigmgr.http.cors import Cors
from sigmgr.model.holder import Holder
from tests.http.scripted import APP, NOW, House, call, problem
from tests.http.test_server import Running

PAGE = "https://app.example.com"
PATHS = ["/v1/stream", "/v1/stream/current", "/v1/stream/ack"]


def house_for(*origins):
    house = House()
    house.flows.make(Holder(APP, "alice"), NOW, "Missing")
    services = replace(house.services, gateway=house.polls, allowed_origins=origins)
    return house, App(services)


def output(answer):
    return {k: v for k, v in answer.headers.items() if k.startswith("access-control-")}


async def preflight(app, path, origin=PAGE, method="GET"):
    asked = {
        "origin": origin,
        "access-control-request-method": method,
        "access-control-request-headers": "authorization",
    }
    return await call(app, "OPTIONS", path, headers=asked)


@pytest.mark.parametrize("path", PATHS)
async def test_a_preflight_needs_no_credential(path):
    _, app = house_for(PAGE, "https://other.example")
    answer = await preflight(app, path)
    assert (answer.status, answer.body) == (204, b"")
    assert answer.headers["vary"] == "Origin"
    assert output(answer) == {
        "access-control-allow-origin": PAGE,
        "access-control-allow-methods": "GET, POST",
        "access-control-allow-headers": "authorization, content-type, if-none-match, last-event-id",
        "access-control-max-age": "600",
    }


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "origin", ["https://evil.example", PAGE + ".evil.example", PAGE + ":8443", "null", "HTTPS://APP.EXAMPLE.COM"]
)  # fmt: skip
async def test_an_origin_that_is_not_allowed_gets_no_header(path, origin):
    _, app = house_for(PAGE)
    answer = await preflight(app, path, origin)
    assert output(answer) == {}
    assert answer.headers["vary"] == "Origin"
    refused = await call(app, "GET", path, headers={"origin": origin})
    assert output(refused) == {}
    assert refused.headers["vary"] == "Origin"


@pytest.mark.parametrize("path", PATHS)
async def test_a_page_can_read_why_it_is_refused(path):
    _, app = house_for(PAGE)
    method = "POST" if path.endswith("ack") else "GET"
    answer = await call(app, method, path, token="t1.x", headers={"origin": PAGE})
    assert answer.status == 401
    assert output(answer) == {
        "access-control-allow-origin": PAGE,
        "access-control-expose-headers": "etag, retry-after",
    }
    assert answer.headers["vary"] == "Origin"


async def test_the_answers_themselves():
    house, app = house_for(PAGE)
    current = await call(app, "GET", PATHS[1], token=house.ticket(), headers={"origin": PAGE})
    assert (current.status, current.headers["access-control-allow-origin"]) == (200, PAGE)
    body = {"issued_at": NOW}
    headers = {"origin": PAGE}
    ack = await call(app, "POST", PATHS[2], token=house.ticket(), body=body, headers=headers)
    assert (ack.status, ack.headers["access-control-allow-origin"]) == (204, PAGE)
    nowhere = await call(app, "GET", "/v1/stream/none", token=house.ticket(), headers=headers)
    problem(nowhere, 404, "route-unknown")
    assert nowhere.headers["access-control-allow-origin"] == PAGE


async def test_the_stream_over_a_socket_is_allowed_to_its_page():
    house, app = house_for(PAGE)
    headers = {"authorization": f"Bearer {house.ticket()}", "origin": PAGE}
    async with (
        Running(app, drain=lambda: house.polls.drain(0.1)) as server,
        httpx2.AsyncClient(base_url=server.url) as client,
        client.stream("GET", "/v1/stream", headers=headers) as answer,
    ):
        assert answer.headers["access-control-allow-origin"] == PAGE
        assert answer.headers["vary"] == "Origin"
        assert answer.headers["content-type"] == "text/event-stream"
        async for line in answer.aiter_lines():
            if line.startswith("event: "):
                break
        assert len(house.polls.table.of(Holder(APP, "alice"))) == 1


async def test_any_origin_is_answered_with_a_star_and_never_with_credentials():
    _, app = house_for("*")
    for origin in (PAGE, "null"):
        answer = await preflight(app, PATHS[0], origin)
        assert answer.headers["access-control-allow-origin"] == "*"
        assert "access-control-allow-credentials" not in answer.headers


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        ("http://localhost", True), ("http://localhost:3000", True), ("http://127.0.0.1:1", True),
        ("https://localhost:3000", False), ("http://localhost.evil.example", False),
        ("http://localhost:3000.evil", False), ("http://localhost:", False),
        ("http://127x0x0x1:1", False), ("http://localhost:3000/", False),
    ],
)  # fmt: skip
def test_all_ports_of_this_machine(origin, allowed):
    cors = Cors(["http://localhost:*", "http://127.0.0.1:*"])
    scope = {"method": "GET", "headers": [(b"origin", origin.encode())]}
    assert (len(cors.headers(scope)) == 3) is allowed


async def test_nothing_is_sent_where_no_origin_is_allowed(house, app):
    answer = await preflight(app, PATHS[1])
    problem(answer, 401, "ticket-invalid")
    assert output(answer) == {}
    assert "vary" not in answer.headers


@pytest.mark.parametrize("path", [f"/v1/apps/{APP}/users/alice/sig", "/livez", "/openapi.json"])
async def test_only_the_clients_routes_are_open_to_pages(path):
    house, app = house_for("*")
    answer = await call(app, "GET", path, token=house.backend, headers={"origin": PAGE})
    assert answer.status == 200
    assert output(answer) == {}


async def test_options_without_a_preflight_is_any_other_method():
    house, app = house_for(PAGE)
    headers = {"origin": PAGE}
    answer = await call(app, "OPTIONS", PATHS[1], token=house.ticket(), headers=headers)
    problem(answer, 405, "method-not-allowed")
