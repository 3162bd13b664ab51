"""Roles, health, the documents, and what is logged."""

from __future__ import annotations

import asyncio
import itertools
import logging
import re
from html import escape

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis import GenerationMode
from schemathesis.specs.openapi import checks

from sigmgr.health import Health
from sigmgr.http.app import App
from sigmgr.model import errors
from tests.http.conftest import shared
from tests.http.scripted import APP, NOW, House, call, problem

SIG = f"/v1/apps/{APP}/users/alice/sig"

_house, _app = shared()
api = schemathesis.openapi.from_dict((asyncio.run(call(_app, "GET", "/openapi.json"))).json)


async def _asgi(scope, receive, send):
    """The app as schemathesis knows one: by its coroutine."""
    await _app(scope, receive, send)


api.app = _asgi
_turn = itertools.cycle([True, True, False]).__next__
api.config.generation.update(modes=[GenerationMode.POSITIVE, GenerationMode.NEGATIVE])


@api.parametrize()
@settings(
    max_examples=8,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_the_app_does_what_its_document_promises(case):
    """Any input gets a documented status, content type and shape, and never a 500."""
    _house.reset()
    # A schema cannot say "room_id or room_name", and every case brings its own token.
    excluded = [checks.positive_data_acceptance, checks.ignored_auth]
    if case.operation.path == "/v1/stream/current":
        case.query.pop("wait", None)
        excluded.append(checks.negative_data_rejection)  # a query of more is nobody's harm
    number = case.path_parameters.get("sdkappid")
    if isinstance(number, int) and 0 < number < 2**32 and _turn():
        case.path_parameters["sdkappid"] = APP
    needs = case.operation.definition.raw.get("security", [{}])
    secret = _house.ticket() if "ticket" in needs[0] else _house.admin
    case.call_and_validate(
        headers={"Authorization": f"Bearer {secret}"},
        excluded_checks=excluded,
    )


# -- roles -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("role", "served", "not_served"),
    [
        ("api", [SIG], ["/v1/stream/current", "/v1/stream"]),
        ("gateway", ["/v1/stream/current"], [SIG]),
        ("worker", [], [SIG, "/v1/stream/current", "/v1/stream"]),
    ],
)
async def test_each_role_serves_its_routes_and_health(role, served, not_served):
    house = House(roles=frozenset({role}))
    app = App(house.services)
    for path in (*served, "/livez", "/readyz", "/docs", "/openapi.json"):
        token = house.ticket() if "stream" in path else house.backend
        assert (await call(app, "GET", path, token=token)).status == 200, path
    for path in not_served:
        problem(await call(app, "GET", path, token=house.backend), 404, "route-unknown")


@pytest.mark.parametrize("role", ["api", "gateway", "worker"])
async def test_who_comes_without_a_path_is_told_where_to_look(role):
    app = App(House(roles=frozenset({role})).services)
    answer = await call(app, "GET", "/")
    assert answer.status == 200
    reported = answer.json
    assert (reported.pop("service"), reported.pop("roles")) == ("sigmgr", [role])
    assert {"/docs", "/readyz", "/livez"} <= set(reported.values())
    for place in reported.values():
        assert (await call(app, "GET", place)).status == 200, place
    assert "/" not in (await call(app, "GET", "/openapi.json")).json["paths"]


@pytest.mark.parametrize(
    ("role", "shown", "elsewhere"),
    [
        ("api", "/v1/apps/{sdkappid}/users/{userid}/sig", "gateway"),
        ("gateway", "/v1/stream/ack", "api"),
        ("worker", "/readyz", "api"),
    ],
)
async def test_each_role_documents_its_own_routes(role, shown, elsewhere):
    app = App(House(roles=frozenset({role})).services)
    page = (await call(app, "GET", "/docs")).body.decode()
    assert shown in page
    assert f"<b>{elsewhere}</b>" in page
    paths = (await call(app, "GET", "/openapi.json")).json["paths"]
    assert shown in paths
    assert {path.startswith("/v1/stream") for path in paths if path.startswith("/v1")} <= {
        role == "gateway"
    }


# -- health ------------------------------------------------------------------------------


async def test_livez_asks_nobody(house, app):
    answer = await call(app, "GET", "/livez")
    assert (answer.status, answer.json) == (200, {"status": "ok"})
    assert not house.flows.calls


async def test_readyz_names_each_part_and_what_is_wrong():
    health = Health(lambda: 0.0)
    app = App(House(health=health).services)

    async def readyz():
        answer = await call(app, "GET", "/readyz")
        assert answer.headers["cache-control"] == "no-store"
        return answer.status, answer.json

    assert await readyz() == (200, {"status": "ok", "checks": {}})
    health.expect("revocations", silent_after=5, vital=True)
    health.expect("redis", silent_after=5)
    assert await readyz() == (
        200,
        {"status": "ok", "checks": {"revocations": "ok", "redis": "ok"}},
    )
    health.report("redis", "degraded: full: gets are slower")
    assert await readyz() == (
        200,
        {
            "status": "degraded",
            "checks": {"revocations": "ok", "redis": "degraded: full: gets are slower"},
        },
    )
    health.report("revocations", "failed: not seen")
    status, output = await readyz()
    assert (status, output["status"]) == (503, "failed")
    assert output["checks"]["revocations"] == "failed: not seen"
    health.report("revocations")
    assert (await readyz())[0] == 200


async def test_readyz_asks_nobody(house, app):
    """The probes run on timers: who asks often costs the database nothing."""
    for _ in range(3):
        assert (await call(app, "GET", "/readyz")).status == 200
    assert not house.flows.calls


# -- documents ---------------------------------------------------------------------------


async def test_openapi_is_complete(app):
    output = (await call(app, "GET", "/openapi.json")).json
    assert set(output["components"]["securitySchemes"]) == {"token", "ticket"}
    assert "Problem" in output["components"]["schemas"]
    for path, operations in output["paths"].items():
        for operation in operations.values():
            assert operation["summary"]
            assert operation["description"], path
            assert "422" not in operation["responses"]
            if path.startswith("/v1"):
                assert operation["security"]
                assert "401" in operation["responses"]
    references = set(re.findall(r"#/components/schemas/(\w+)", str(output)))
    assert references <= set(output["components"]["schemas"])


async def test_examples_show_fields_in_the_contracts_order(app):
    page = (await call(app, "GET", "/docs")).body.decode()
    places = [page.index(f"&quot;{name}&quot;: ") for name in ("sdkappid", "usersig", "renew_at")]
    assert places == sorted(places)


async def test_docs_work_offline_and_show_every_route(app):
    answer = await call(app, "GET", "/docs")
    page = answer.body.decode()
    assert answer.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert "<script" not in page
    assert not re.search(r'(?:src|href)="(?:https?:)?//', page)
    output = (await call(app, "GET", "/openapi.json")).json
    for path, operations in output["paths"].items():
        assert path in page
        for operation in operations.values():
            assert escape(operation["summary"]) in page
    assert "`" not in page
    assert "Other processes" not in page
    for code in ("already-replaced", "bad-privileges", "ticket-expired", "holder-unknown"):
        assert code in page


# -- the log -----------------------------------------------------------------------------


async def test_errors_of_ours_are_logged_without_secrets(house, app, caplog):
    with caplog.at_level(logging.DEBUG, "sigmgr.http"):
        await call(app, "GET", SIG + "?code=TOPSECRET", token=house.backend)
        await call(app, "GET", SIG, token=None)
        assert not caplog.records  # no access log, and a caller's error is the caller's
        house.near.held.clear()
        house.flows.fail = errors.StoreUnavailable()
        await call(app, "GET", SIG + "?code=TOPSECRET", token=house.backend)
        house.flows.fail = ValueError("boom")
        await call(app, "POST", SIG + "/revoke?code=TOPSECRET", token=house.backend)
        ticket = house.ticket()
        await call(app, "GET", f"/v1/apps/{APP}/users/alice/{ticket}", token=house.backend)
    assert [record.levelname for record in caplog.records] == ["WARNING", "ERROR"]
    assert all(record.name == "sigmgr.http" for record in caplog.records)
    assert "store-unavailable" in caplog.records[0].getMessage()
    assert caplog.records[1].exc_info
    for secret in ("TOPSECRET", house.backend, ticket):
        assert secret not in caplog.text


async def test_an_exception_in_mid_answer_ends_it_and_is_logged(house, app, caplog):
    output = []

    async def send(message):
        output.append(message["type"])
        if message["type"] == "http.response.body":
            raise ValueError("lost")

    scope = {"type": "http", "method": "GET", "path": "/livez", "headers": [], "query_string": b""}
    await app(scope, lambda: None, send)
    assert output == ["http.response.start", "http.response.body"]
    assert "GET /livez failed" in caplog.text


async def test_a_server_without_raw_path_is_served(house, app):
    output = []

    async def send(message):
        output.append(message)

    scope = {"type": "http", "method": "GET", "path": "/livez", "headers": [], "query_string": b""}
    await app(scope, lambda: None, send)
    assert output[0]["status"] == 200


async def test_what_a_ticket_contains_is_what_its_sig_contains(house, app):
    output = (await call(app, "GET", SIG, token=house.backend)).json
    assert output["issued_at"] == NOW
    current = await call(app, "GET", "/v1/stream/current", token=output["ticket"])
    assert current.json["usersig"] == output["usersig"]
