"""The error of an unreadable request names the field, where it is, and the known fields."""

from __future__ import annotations

from typing import Any

import pytest

from sigmgr.model.errors import SigReason
from sigmgr.model.ttl import MAX_TTL, MIN_TTL
from tests.http.scripted import APP, NOW, call, problem

USER = f"/v1/apps/{APP}/users/alice"
ACK = "/v1/stream/ack"
#: Every route with a body, as OpenAPI names it, and as it is called here.
ROUTES = {
    "/v1/apps/{sdkappid}/users/{userid}/sig/reissue": f"{USER}/sig/reissue",
    "/v1/apps/{sdkappid}/users/{userid}/room-keys": f"{USER}/room-keys",
    "/v1/apps/{sdkappid}/verify": f"/v1/apps/{APP}/verify",
    "/v1/apps/{sdkappid}/sigs/batch-get": f"/v1/apps/{APP}/sigs/batch-get",
    "/v1/stream/ack": ACK,
}


async def post(house, app, path: str, body: Any):
    token = house.ticket() if path.startswith("/v1/stream") else house.backend
    return await call(app, "POST", path, token=token, body=body)


async def documented(app) -> dict[str, list[str]]:
    """The names of the fields that each route's body may have."""
    document = (await call(app, "GET", "/openapi.json")).json
    schemas = document["components"]["schemas"]
    found = {}
    for path, operations in document["paths"].items():
        if body := operations.get("post", {}).get("requestBody"):
            schema = body["content"]["application/json"]["schema"]
            schema = schema.get("anyOf", [schema])[0]
            found[path] = list(schemas[schema["$ref"].rpartition("/")[2]]["properties"])
    return found


async def test_every_route_with_a_body_is_tried_here(app):
    assert set(await documented(app)) == set(ROUTES)


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("body", [{"no_such_field": 1}, [], b"{", "text", 7])
async def test_the_fields_that_are_possible_are_named(house, app, route, body):
    output = problem(await post(house, app, ROUTES[route], body), 400, "bad-request")
    for name in (await documented(app))[route]:
        assert name in output["detail"], output
    assert "the body" in output["detail"]
    assert "/docs" in output["advice"]
    if isinstance(body, dict) and "batch" not in route:
        assert "'no_such_field' is no field of the body" in output["detail"]


@pytest.mark.parametrize(
    ("path", "body", "detail"),
    [
        (f"{USER}/sig/reissue", {"replaces": "1"}, "replaces in the body should be a valid int"),
        (f"{USER}/room-keys", {"room_id": 1.5}, "room_id in the body should be a valid integer"),
        (
            f"{USER}/room-keys",
            {"room_id": 1, "privileges": "all"},
            "privileges in the body should be a valid integer or a valid list",
        ),
        (
            f"/v1/apps/{APP}/verify",
            {"usersig": "x" * 20000},
            "usersig in the body should have at most 16384 characters",
        ),
        (f"{USER}/room-keys", None, "the body is missing; it takes the fields room_id, "),
        (f"/v1/apps/{APP}/verify", {"userid": "a"}, "usersig is missing in the body; the body tak"),
        (
            f"/v1/apps/{APP}/sigs/batch-get",
            {"userids": ["a", 7]},
            "userids[1] in the body should be a valid",
        ),
        (f"/v1/apps/{APP}/sigs/batch-get", {"userids": []}, "1 to 1000"),
        (ACK, {}, "issued_at is missing in the body; the body takes the one field issued_at"),
        (ACK, {"issued_at": 0}, "issued_at in the body should be greater than or equal to 1"),
    ],
)
async def test_what_is_wrong_is_reported_with_its_place(house, app, path, body, detail):
    answer = await post(house, app, path, body)
    assert answer.status == 400
    assert detail in answer.json["detail"]


async def test_a_lifetime_has_the_range_of_the_model(house, app):
    schemas = (await call(app, "GET", "/openapi.json")).json["components"]["schemas"]
    ttl = schemas["RoomKeyRequest"]["properties"]["ttl"]
    assert (ttl["minimum"], ttl["maximum"]) == (MIN_TTL, MAX_TTL)
    for wrong in (MIN_TTL - 1, MAX_TTL + 1):
        answer = await post(house, app, f"{USER}/room-keys", {"room_id": 1, "ttl": wrong})
        output = problem(answer, 400, "bad-ttl")
        for text in (output["detail"], output["advice"]):
            assert f"{MIN_TTL} to {MAX_TTL}" in text


async def test_the_reasons_of_verify_are_documented(app):
    schemas = (await call(app, "GET", "/openapi.json")).json["components"]["schemas"]
    assert set(schemas["Verdict"]["properties"]["reason"]["enum"]) == {*SigReason, None}


@pytest.mark.parametrize(
    ("segment", "shown"),
    [
        ("alice", "alice"),
        ("0123456789abcdef" * 2, "0123456789abcdef" * 2),
        ("x" * 33, "..."),
        ("smt_" + "A" * 20, "..."),
        ("t1." + "A" * 28, "..."),
    ],
)
async def test_the_path_is_repeated_without_what_begins_as_a_token_does(house, app, segment, shown):
    answer = await call(app, "GET", f"/v1/apps/{APP}/users/{segment}", token=house.admin)
    assert answer.json["instance"] == f"/v1/apps/{APP}/users/{shown}"


@pytest.mark.parametrize(
    "wait",
    ["%D9%A3", "%EF%BC%95", "5.0", "5e0", "+5", "-0", "1_0", "05", "%205", "5%20", "0x5", ""],
)
async def test_a_wait_is_digits_and_nothing_else(house, app, wait):
    answer = await call(app, "GET", f"/v1/stream/current?wait={wait}", token=house.ticket())
    output = problem(answer, 400, "bad-request")
    assert output["detail"] == "wait in the query of the URL should be a whole number in digits"


@pytest.mark.parametrize(
    "app_id",
    [f"{APP}.0", f"{APP}e0", "%D9%A1%D9%A4", "1%C2%B2", "%EF%BC%91", f"+{APP}", f"-{APP}",
     "0140000000", "00", f"%20{APP}", f"{APP}%20", "1_4", "0x14", "1" * 11],
)  # fmt: skip
@pytest.mark.parametrize(("method", "rest"), [("GET", "users/a"), ("GET", "users/a/sig"),
                                              ("POST", "verify")])  # fmt: skip
async def test_an_app_is_digits_and_nothing_else(house, app, method, rest, app_id):
    path = f"/v1/apps/{app_id}/{rest}"
    answer = await call(app, method, path, token=house.admin, body={"usersig": "x"})
    problem(answer, 400, "bad-sdkappid")


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (f"{USER}/sig/reissue", b'{"replaces": 1.0}'),
        (f"{USER}/sig/reissue", b'{"replaces": 1.9e9}'),
        (f"{USER}/room-keys", b'{"room_id": 1.0}'),
        (f"{USER}/room-keys", b'{"room_id": 1, "ttl": 3600.0}'),
        (f"{USER}/room-keys", b'{"room_id": 1, "privileges": 2.0}'),
        (ACK, b'{"issued_at": %d.0}' % NOW),
    ],
)
async def test_a_number_with_a_fraction_is_no_whole_number(house, app, path, body):
    problem(await post(house, app, path, body), 400, "bad-request")
    assert not house.flows.calls
