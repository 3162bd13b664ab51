"""The single get, the batch, and the way user ids take through a URL."""

from __future__ import annotations

from urllib.parse import quote

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from sigmgr.http.app import App
from sigmgr.model import errors
from sigmgr.model.holder import Holder
from tests.http.conftest import shared
from tests.http.scripted import APP, NOW, OTHER_APP, UNKNOWN_APP, House, call, problem

SIG = f"/v1/apps/{APP}/users/alice/sig"
BATCH = f"/v1/apps/{APP}/sigs/batch-get"


async def test_a_get_answers_with_the_contracts_fields_and_nothing_else(house, app):
    async with httpx2.AsyncClient(
        transport=httpx2.ASGITransport(app=app), base_url="http://sigmgr"
    ) as client:
        answer = await client.get(SIG, headers={"Authorization": f"Bearer {house.backend}"})
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["content-type"] == "application/json"
    output = answer.json()
    assert " ".join(output) == (
        "sdkappid userid usersig format issued_at expires_at renew_at ticket stream_url"
    )
    ticket = house.tickets.open(output["ticket"], NOW)
    assert ticket.user == Holder(APP, "alice")
    assert (ticket.issued_at, ticket.expires_at) == (output["issued_at"], output["expires_at"])
    assert house.tickets.open(output["ticket"], NOW) == ticket


async def test_a_second_get_asks_neither_flow_nor_store(house, app):
    first = await call(app, "GET", SIG, token=house.backend)
    second = await call(app, "GET", SIG, token=house.backend)
    assert first.body == second.body
    assert house.flows.count("current") == 1
    assert house.lookups == 1


async def test_a_near_answer_lasts_near_ttl_or_until_renew_at(house, app):
    await call(app, "GET", SIG, token=house.backend)
    assert house.near.held[Holder(APP, "alice")][2] == NOW + 30
    house.flows.make(Holder(APP, "bob"), NOW, "Missing", ttl=30)
    await call(app, "GET", SIG.replace("alice", "bob"), token=house.backend)
    assert house.near.held[Holder(APP, "bob")][2] == NOW + 20
    house.clock.advance(25)  # past renew_at: what cannot be bettered is served, never kept
    del house.near.held[Holder(APP, "bob")]
    await call(app, "GET", SIG.replace("alice", "bob"), token=house.backend)
    assert Holder(APP, "bob") not in house.near.held


async def test_without_a_near_cache_every_get_asks_the_flow():
    house = House(near=None)
    app = App(house.services)
    for _ in range(2):
        assert (await call(app, "GET", SIG, token=house.backend)).status == 200
    assert house.flows.count("current") == 2


@given(st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1, max_size=32))
async def test_every_user_id_survives_the_url(userid):
    house, app = shared()
    house.reset()
    path = f"/v1/apps/{APP}/users/{quote(userid, safe='')}"
    assert (await call(app, "GET", path + "/sig", token=house.backend)).json["userid"] == userid
    assert (await call(app, "GET", path, token=house.backend)).json["userid"] == userid
    answer = await call(app, "POST", path + "/sig/revoke", token=house.backend)
    assert answer.json["userid"] == userid


@pytest.mark.parametrize("userid", ["a/b", "50%", "%2F", "a b", "..", "sig", "users", "?x", "#"])
async def test_awkward_ids_reach_the_flow_unchanged(house, app, userid):
    path = f"/v1/apps/{APP}/users/{quote(userid, safe='')}/sig"
    assert (await call(app, "GET", path, token=house.backend)).json["userid"] == userid


@pytest.mark.parametrize(
    "segment",
    ["x" * 33, "%61" * 33, "%", "%2", "%zz", "caf%C3%A9", "%00", "%0A", "%7F", "\xe9", "%FF" * 40],
)
@pytest.mark.parametrize("tail", ["/sig", ""])
async def test_bad_user_ids_are_refused_everywhere(house, app, segment, tail):
    path = f"/v1/apps/{APP}/users/{segment}{tail}"
    problem(await call(app, "GET", path, token=house.backend), 400, "bad-userid")


async def test_an_empty_user_id_is_called_empty(house, app):
    answer = await call(app, "GET", f"/v1/apps/{APP}/users//sig", token=house.backend)
    assert "empty" in problem(answer, 400, "bad-userid")["detail"]


async def test_a_secret_in_the_place_of_a_user_id_is_not_echoed(house, app):
    for secret in (house.ticket(), house.backend):
        answer = await call(app, "GET", f"/v1/apps/{APP}/users/{secret}/sig", token=house.backend)
        problem(answer, 400, "bad-userid", secret)


@pytest.mark.parametrize("number", ["0", "4294967296", "-1", "abc", "1e9", "%31", "1_0", "9" * 40])
@pytest.mark.parametrize("tail", ["/users/alice/sig", "/users/alice"])
async def test_bad_sdkappids(house, app, number, tail):
    answer = await call(app, "GET", f"/v1/apps/{number}{tail}", token=house.anywhere)
    problem(answer, 400, "bad-sdkappid")


async def test_an_unknown_app_is_reported_only_to_who_may_see_it(house, app):
    path = f"/v1/apps/{UNKNOWN_APP}/users/alice/sig"
    problem(await call(app, "GET", path, token=house.anywhere), 404, "app-unknown")
    problem(await call(app, "GET", path, token=house.backend), 403, "app-denied")
    known = path.replace(str(UNKNOWN_APP), str(OTHER_APP))
    problem(await call(app, "GET", known, token=house.backend), 403, "app-denied")


async def test_errors_of_the_flow_on_the_hot_route(house, app):
    house.flows.fail = errors.RevokePause(retry_after=7)
    answer = await call(app, "GET", SIG, token=house.backend)
    problem(answer, 503, "revoke-pause")
    assert answer.headers["retry-after"] == "7"
    house.flows.fail = RuntimeError("the secret is abc")
    problem(await call(app, "GET", SIG, token=house.backend), 500, "internal", "abc")


# -- batch -------------------------------------------------------------------------------


async def test_a_batch_answers_in_the_order_asked_and_duplicates_each(house, app):
    house.flows.many_fail["dan"] = errors.RevokePause(retry_after=2)
    asked = ["carol", "alice", "x" * 33, "carol", "caf\u00e9", "dan", "a/b"]
    answer = await call(app, "POST", BATCH, token=house.backend, body={"userids": asked})
    sigs = answer.json["sigs"]
    assert [item["userid"] for item in sigs] == asked
    assert [item.get("error", {}).get("code") for item in sigs] == [
        None, None, "bad-userid", None, "bad-userid", "revoke-pause", None,
    ]  # fmt: skip
    assert sigs[0] == sigs[3]
    assert sigs[5]["error"]["retry_after"] == 2
    assert set(sigs[2]["error"]) == {"code", "detail", "advice"}
    assert house.flows.calls == [
        ("many", [Holder(APP, u) for u in ("carol", "alice", "dan", "a/b")])
    ]
    single = await call(app, "GET", SIG, token=house.backend)
    assert single.json == sigs[1]


async def test_what_is_refused_of_a_batch_is_one_line_of_counts(house, app):
    async def lines(*asked):
        with capture_logs() as output:
            await call(app, "POST", BATCH, token=house.backend, body={"userids": list(asked)})
        reported = [line for line in output if line.get("action") == "batch-refused"]
        assert not any("dan" in str(line) for line in reported), "no user is named"
        return [(line["log_level"], line["app"], line["refused"]) for line in reported]

    assert await lines("carol", "alice") == []
    assert await lines("carol", "x" * 33, "y" * 40) == [("info", APP, {"bad-userid": 2})]
    for user in ("dan", "dana", "dano"):
        house.flows.many_fail[user] = errors.StoreUnavailable()
    house.flows.many_fail["dante"] = errors.NoSigningKey()
    refused = await lines("carol", "dan", "dana", "dan", "dante", "x" * 33, "dano")
    assert refused == [
        ("warning", APP, {"bad-userid": 1, "store-unavailable": 3, "no-signing-key": 1})
    ]


async def test_a_cached_batch_asks_no_flow(house, app):
    asked = {"userids": [f"user{i}" for i in range(1000)]}
    first = await call(app, "POST", BATCH, token=house.backend, body=asked)
    second = await call(app, "POST", BATCH, token=house.backend, body=asked)
    assert first.body == second.body
    assert len(second.json["sigs"]) == 1000
    assert house.flows.count("many") == 1


@pytest.mark.parametrize("userids", [[], [f"u{i}" for i in range(1001)]])
async def test_batches_out_of_range(house, app, userids):
    answer = await call(app, "POST", BATCH, token=house.backend, body={"userids": userids})
    problem(answer, 400, "bad-batch")


@pytest.mark.parametrize(
    "body",
    [b"{", b"[]", b"", b"\xff", {"userids": "alice"}, {"userids": [1]}, {"userids": None}, {},
     {"userids": ["a"], "more": 1}, b'{"userids":["\\ud800"]}', b"[" * 100_000],
)  # fmt: skip
async def test_batches_that_cannot_be_read(house, app, body):
    answer = await call(app, "POST", BATCH, token=house.backend, body=body)
    problem(answer, 400, "bad-request")


TAKES = "; the body takes the one field userids (needed)"


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (b"{", "the body is not valid JSON" + TAKES),
        (b"[]", "the body is no JSON object" + TAKES),
        ({}, "userids is missing in the body" + TAKES),
        ({"userid": ["a"]}, "'userid' is no field of the body" + TAKES),
        ({"smt_" + "A" * 20: 1}, "what looks like an API token is no field of the body" + TAKES),
        ({"userids": "a"}, "userids in the body should be a valid list"),
        ({"userids": ["a", 7]}, "userids[1] in the body should be a valid string"),
    ],
)
async def test_what_is_wrong_with_a_batch_is_reported_as_everywhere(house, app, body, detail):
    answer = await call(app, "POST", BATCH, token=house.backend, body=body)
    assert problem(answer, 400, "bad-request")["detail"] == detail


@pytest.mark.parametrize("userid", ["x" * 80, "smt_" + "A" * 40])
async def test_an_id_of_a_batch_that_is_too_long_or_a_credential_is_not_repeated(
    house, app, userid
):
    answer = await call(app, "POST", BATCH, token=house.backend, body={"userids": [userid]})
    [item] = answer.json["sigs"]
    assert item["userid"] == "..."
    assert userid[:32] not in answer.body.decode()


async def test_a_batch_for_an_unknown_app(house, app):
    path = BATCH.replace(str(APP), str(UNKNOWN_APP))
    answer = await call(app, "POST", path, token=house.anywhere, body={"userids": ["alice"]})
    problem(answer, 404, "app-unknown")
