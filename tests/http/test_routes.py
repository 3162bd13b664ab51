"""Every route is declared whole; and one that is added as the others are is checked, documented
and answered as the others are."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from starlette.routing import Route as StarletteRoute

from sigmgr.http import routes as declared
from sigmgr.http import shapes
from sigmgr.http.access import ANYBODY, BACKEND, FACTS, PREFLIGHT, TokenHolder
from sigmgr.http.app import MODULES, App
from sigmgr.http.routes import Route, Routes
from sigmgr.http.services import API, Services
from sigmgr.model import errors
from sigmgr.model.problem import BodyTooLarge, status_of
from sigmgr.model.ticket import Tickets
from tests.http.scripted import APP, NOW, House, call, problem

#: Every route that asks for no credential; one more is a decision.
OPEN = {
    "GET /",
    "GET /docs",
    "GET /livez",
    "GET /openapi.json",
    "GET /readyz",
    "OPTIONS /v1/stream{rest:path}",
}
PAGE = "https://app.example.com"


def app_of(*modules: Routes) -> App:
    return App(House(allowed_origins=[PAGE]).services, [*MODULES, *modules])


# -- all routes --------------------------------------------------------------------------


async def faults(app: App) -> list[str]:
    """What is wrong with the routes of this app."""
    found = []
    for route in app.routes:
        if not isinstance(route, Route):
            found.append(f"{route.path} is not declared")
            continue
        name = f"{route.declared.method} {route.path}"
        needs = bool(route.declared.access.scheme)
        if not needs and name not in OPEN:
            found.append(f"{name} asks for no credential")
        found += [f"{name} {fault}" for fault in undocumented(app, route)]
        if needs:
            for wrong in ("", "nonsense", "smt_" + "A" * 43, forged()):
                found += [f"{name} {fault}" for fault in await early(app, route, wrong)]
    return found


def undocumented(app: App, route: Route) -> list[str]:
    """The problems that its declaration names and its document does not."""
    operation = app.document["paths"].get(route.path_format, {}).get(route.declared.method.lower())
    if operation is None:
        return [] if route.declared.options.get("hidden") else ["is in no document"]
    known = {
        (status, line.split("`")[1])
        for status, response in operation["responses"].items()
        for line in response["description"].splitlines()
        if line.startswith("`")
    }
    one, body = route.declared, route.declared.method in ("POST", "PUT", "PATCH", "DELETE")
    kinds = [*one.raises, *one.access.raises, *([BodyTooLarge] if body else [])]
    named = {(str(status_of(kind)), kind.code) for kind in kinds}
    return [f"does not document {code}" for _, code in sorted(named - known)]


async def early(app: App, route: Route, credential: str) -> list[str]:
    """What it does for somebody without a good credential other than refuse: the body is not
    even asked for."""
    taken, answers = [], []

    async def receive():
        taken.append(True)
        return {"type": "http.request", "body": b"{}", "more_body": True}

    async def send(message):
        answers.append(message)

    path = route.path_format.format(sdkappid=APP, userid="alice")
    headers = [(b"content-type", b"application/json"), (b"content-length", b"2")]
    if credential:
        headers.append((b"authorization", b"Bearer " + credential.encode()))
    scope = {"type": "http", "http_version": "1.1", "method": route.declared.method, "path": path}
    scope |= {"raw_path": path.encode(), "query_string": b"", "headers": headers}
    scope |= {"client": ("127.0.0.1", 1)}
    await asyncio.wait_for(app(scope, receive, send), 5)
    status = answers[0]["status"]
    return [
        *(["reads a body before its credential"] if taken else []),
        *([f"answers {status} without its credential"] if status not in (401, 429) else []),
    ]


def forged() -> str:
    return Tickets(b"f" * 32).issue(APP, "alice", NOW, NOW + 9)


async def test_every_route_is_declared_whole():
    app = app_of()
    assert await faults(app) == []
    assert {f"{r.declared.method} {r.path}" for r in app.routes} >= OPEN
    assert len(app.routes) >= 14


class Eager(Route):
    """It reads first and asks who it is later."""

    def handle(self, scope, receive, send):
        async def both():
            await receive()
            await super(Eager, self).handle(scope, receive, send)

        return both()


async def nothing(services: Services) -> shapes.Alive:
    """Nothing."""
    return shapes.Alive(status="ok")


def test_a_declaration_without_a_credential_or_problems_is_none():
    with pytest.raises(TypeError):
        Routes("ops").get("/v1/nothing", raises=[])  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        Routes("ops").get("/v1/nothing", BACKEND)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="is to be async"):
        Routes("ops").get("/v1/nothing", BACKEND, raises=[])(lambda services: None)


@pytest.mark.parametrize("fault", ["open", "plain", "eager", "undocumented"])
async def test_the_walk_finds_a_route_that_is_not(fault):
    routes = Routes("ops")
    routes.get("/v1/nothing", ANYBODY if fault == "open" else BACKEND, raises=[])(nothing)
    app = app_of(routes)
    route = app.routes[-1]
    match fault:
        case "open":
            expected = ["GET /v1/nothing asks for no credential"]
        case "plain":
            assert app.document
            app.routes[-1] = StarletteRoute("/v1/plain", nothing)
            expected = ["/v1/plain is not declared"]
        case "eager":
            app.routes[-1] = Eager(route.declared, app._services, allow="GET", cors=None)
            expected = ["GET /v1/nothing reads a body before its credential"]
        case "undocumented":
            del app.document["paths"]["/v1/nothing"]["get"]["responses"]["403"]
            expected = [f"GET /v1/nothing does not document {c}-denied" for c in ("app", "role")]
    assert sorted(set(await faults(app))) == expected


# -- one more ----------------------------------------------------------------------------

more = Routes("ops", role=API)
ran: list[Any] = []


@more.get("/v1/overview", FACTS, raises=[errors.CacheUnavailable])
async def overview(services: Services) -> shapes.Alive:
    """How many sigs there are."""
    return await counted(services)


async def counted(services: Services) -> shapes.Alive:
    """In the place of the flow."""
    ran.append(services)
    if services.near_ttl == 0:
        await asyncio.Event().wait()
    if services.near_ttl == 1:
        raise errors.CacheUnavailable
    return shapes.Alive(status="ok")


class Change(shapes.Request):
    """What an app is called."""

    name: str


@more.post("/v1/apps/{sdkappid}", TokenHolder("admin"), raises=[errors.AppUnknown], status=201)
async def change(services: Services, sdkappid: int, body: Change) -> Change:
    """Name an app."""
    ran.append((services, sdkappid))
    return body


def with_more(**changes: Any) -> tuple[House, App]:
    ran.clear()
    house = House(**changes)
    return house, App(house.services, [*MODULES, more])


async def test_an_added_route_is_checked_and_answers():
    house, app = with_more()
    problem(await call(app, "GET", "/v1/overview"), 401, "token-missing")
    problem(await call(app, "GET", "/v1/overview", token="x"), 401, "token-unknown")
    bound = house.token("ops", APP)
    problem(await call(app, "GET", "/v1/overview", token=bound), 403, "app-denied")
    problem(await call(app, "POST", "/v1/overview", token=house.ops), 405, "method-not-allowed")
    assert not ran
    answer = await call(app, "GET", "/v1/overview", token=house.ops)
    assert (answer.status, answer.json, ran) == (200, {"status": "ok"}, [house.services])


async def test_an_added_route_is_documented():
    _, app = with_more()
    document = (await call(app, "GET", "/openapi.json")).json
    operation = document["paths"]["/v1/overview"]["get"]
    assert operation["summary"] == "How many sigs there are"
    assert operation["security"] == [{"token": ["backend", "ops", "admin"]}]
    responses = operation["responses"]
    assert "Alive" in str(responses["200"])
    codes = {
        "400": ["bad-request"],
        "401": ["token-missing", "token-unknown"],
        "403": ["role-denied", "app-denied"],
        "429": ["too-many-wrong"],
        "503": ["cache-unavailable", "store-unavailable"],
    }
    for status, expected in codes.items():
        assert all(f"`{code}`" in responses[status]["description"] for code in expected)
        assert "Problem" in str(responses[status]["content"])
    assert "/v1/overview" in (await call(app, "GET", "/docs")).body.decode()
    assert await faults(app_of(more)) == []


async def test_what_an_added_route_raises_is_a_problem_and_its_wait_has_a_limit(monkeypatch):
    house, app = with_more(near_ttl=1)
    problem(await call(app, "GET", "/v1/overview", token=house.ops), 503, "cache-unavailable")
    monkeypatch.setattr(declared, "WITHIN", 0.05)
    house, app = with_more(near_ttl=0)
    problem(await call(app, "GET", "/v1/overview", token=house.ops), 503, "store-unavailable")


async def test_an_added_route_with_a_body_takes_no_other():
    house, app = with_more()
    path = f"/v1/apps/{APP}"
    problem(await call(app, "POST", path, token=house.ops, body={}), 403, "role-denied")
    answer = await call(app, "POST", path, token=house.admin, body={"nam": "x"})
    output = problem(answer, 400, "bad-request")
    assert (
        output["detail"]
        == "'nam' is no field of the body; the body takes the one field name (needed)"
    )
    large = b" " * 300_000
    problem(await call(app, "POST", path, token=house.admin, body=large), 413, "body-too-large")
    assert not ran
    answer = await call(app, "POST", path, token=house.admin, body={"name": "chat"})
    assert (answer.status, answer.json) == (201, {"name": "chat"})


async def test_two_methods_of_a_path_are_two_routes():
    both = Routes("ops")
    both.get("/v1/both", BACKEND, raises=[])(nothing)
    both.post("/v1/both", FACTS, raises=[])(nothing)
    house = House()
    app = App(house.services, [both])
    for method, token, status in (
        ("GET", house.backend, 403),  # it is bound to an app
        ("GET", house.anywhere, 200),
        ("GET", house.ops, 403),
        ("POST", house.ops, 200),
    ):
        assert (await call(app, method, "/v1/both", token=token)).status == status
    answer = await call(app, "PUT", "/v1/both", token=house.admin)
    problem(answer, 405, "method-not-allowed")
    assert answer.headers["allow"] == "GET, POST"


async def test_a_preflight_is_for_preflights():
    app = app_of()
    assert [r.declared.access for r in app.routes if r.declared.method == "OPTIONS"] == [PREFLIGHT]
    answer = await call(app, "OPTIONS", "/v1/stream/current", headers={"origin": PAGE})
    problem(answer, 401, "ticket-invalid")
    assert not [r for r in App(House().services).routes if r.declared.method == "OPTIONS"]
