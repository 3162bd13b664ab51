"""Reissue, revoke, room keys, facts and verify; and every way to ask for them wrongly."""

from __future__ import annotations

import pytest

from sigmgr.model import errors, usersig
from sigmgr.model.holder import Holder, Room
from sigmgr.model.sig import Reason
from tests.http.scripted import APP, LIFE, NOW, SECRET_SIG, UNKNOWN_APP, call, problem
from tests.model.usersig_kit import HMAC, V2

USER = f"/v1/apps/{APP}/users/alice"
REISSUE = f"{USER}/sig/reissue"
REVOKE = f"{USER}/sig/revoke"
ROOM_KEYS = f"{USER}/room-keys"
VERIFY = f"/v1/apps/{APP}/verify"
ALICE = Holder(APP, "alice")


async def post(house, app, path, body=None, token=None):
    return await call(app, "POST", path, token=token or house.backend, body=body)


# -- reissue -----------------------------------------------------------------------------


@pytest.mark.parametrize("body", [None, {}, {"reason": "Forced"}, {"reason": "KeyRotated"}])
async def test_reissue(house, app, body):
    house.flows.make(ALICE, NOW - 9, "Missing")
    answer = await post(house, app, REISSUE, body)
    assert answer.status == 200
    assert answer.json["issued_at"] == NOW
    reason = Reason((body or {}).get("reason", "ClientRequested"))
    assert house.flows.calls == [("reissue", (ALICE, reason, None))]


async def test_a_reissue_of_nobody_makes_nobody(house, app):
    problem(await post(house, app, REISSUE), 404, "holder-unknown")
    problem(await post(house, app, REISSUE, {"create": False}), 404, "holder-unknown")
    assert ALICE not in house.flows.records
    assert (await post(house, app, REISSUE, {"create": True})).status == 200
    assert (await post(house, app, REISSUE)).status == 200


async def test_a_reissued_sig_is_what_the_next_get_answers(house, app):
    await call(app, "GET", f"{USER}/sig", token=house.backend)
    reissued = await post(house, app, REISSUE)
    got = await call(app, "GET", f"{USER}/sig", token=house.backend)
    assert got.json == reissued.json
    assert got.json["issued_at"] == NOW + 1


async def test_replaces_guards_against_a_second_reissue(house, app):
    await call(app, "GET", f"{USER}/sig", token=house.backend)
    assert (await post(house, app, REISSUE, {"replaces": NOW})).status == 200
    problem(await post(house, app, REISSUE, {"replaces": NOW}), 409, "already-replaced")


@pytest.mark.parametrize("reason", ["Missing", "Revoked", "forced", "", "x" * 500])
async def test_reasons_that_a_caller_may_not_give(house, app, reason):
    problem(await post(house, app, REISSUE, {"reason": reason}), 400, "bad-reason")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"replaces": "1900000000"}, "replaces"),
        ({"replaces": 1.5}, "replaces"),
        ({"replaces": 0}, "replaces"),
        ({"replaces": 2**32}, "replaces"),
        ({"replaces": True}, "replaces"),
        ({"reason": 7}, "reason"),
        ({"create": 1}, "create"),
        ({"create": "true"}, "create"),
        ({"replace": NOW}, "replace"),
    ],
)
async def test_reissues_of_a_wrong_shape_name_the_field(house, app, body, field):
    output = problem(await post(house, app, REISSUE, body), 400, "bad-request")
    assert field in output["detail"]
    assert not house.flows.calls


# -- revoke ------------------------------------------------------------------------------


@pytest.mark.parametrize("known", [True, False])
async def test_revoke(house, app, known):
    if known:
        await call(app, "GET", f"{USER}/sig", token=house.backend)
    answer = await post(house, app, REVOKE)
    output = {"sdkappid": APP, "userid": "alice", "revoked_at": NOW, "known": known}
    assert answer.json == output


# -- room keys ---------------------------------------------------------------------------


async def test_a_room_key_by_id_and_names(house, app):
    body = {"room_id": 10000, "privileges": ["enter", "receive_audio"], "ttl": 600}
    output = (await post(house, app, ROOM_KEYS, body)).json
    assert output == {
        "sdkappid": APP,
        "userid": "alice",
        "room_id": 10000,
        "privileges": 10,
        "privilege_names": ["enter", "receive_audio"],
        "private_map_key": f"{SECRET_SIG}-{NOW}",
        "format": "v2",
        "issued_at": NOW,
        "expires_at": NOW + 600,
        "renew_at": NOW + 400,
    }
    assert house.flows.calls == [("room_key", (Room(id=10000), 10, 600))]


async def test_a_room_key_by_name_with_all_privileges(house, app):
    output = (await post(house, app, ROOM_KEYS, {"room_name": "lobby 1"})).json
    assert output["room_name"] == "lobby 1"
    assert "room_id" not in output
    assert output["privileges"] == 255
    assert len(output["privilege_names"]) == 8
    assert "note" not in output


@pytest.mark.parametrize(("mask", "noted"), [(0xAB, True), (1, True), (42, False), (255, False)])
async def test_a_mask_with_create_is_answered_with_a_note(house, app, mask, noted):
    output = (await post(house, app, ROOM_KEYS, {"room_id": 1, "privileges": mask})).json
    assert ("note" in output) is noted


async def test_a_key_that_lives_longer_than_was_asked_reports_it(house, app):
    await post(house, app, ROOM_KEYS, {"room_id": 1, "ttl": 3600})
    for ttl, noted in ((3600, False), (60, True), (None, False)):
        body = {"room_id": 1} if ttl is None else {"room_id": 1, "ttl": ttl}
        output = (await post(house, app, ROOM_KEYS, body)).json
        assert output["expires_at"] - output["issued_at"] == 3600
        assert ("note" in output) is noted
    body = {"room_id": 2, "privileges": 1}
    await post(house, app, ROOM_KEYS, body | {"ttl": 3600})
    note = (await post(house, app, ROOM_KEYS, body | {"ttl": 60})).json["note"]
    assert "create" in note
    assert "its life of 3600 s, though 60 s were asked for" in note
    assert "note" not in (await post(house, app, ROOM_KEYS, {"room_id": 1, "ttl": 3601})).json


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"room_id": 0}, "bad-room"),
        ({"room_id": 2**32}, "bad-room"),
        ({"room_id": 2**32 - 1}, "bad-room"),
        ({"room_id": -1}, "bad-room"),
        ({"room_name": ""}, "bad-room"),
        ({"room_name": "x" * 65}, "bad-room"),
        ({"room_name": "caf\u00e9"}, "bad-room"),
        ({"room_id": 1, "room_name": "a"}, "bad-room"),
        ({}, "bad-room"),
        ({"room_id": 1, "privileges": 256}, "bad-privileges"),
        ({"room_id": 1, "privileges": 0}, "bad-privileges"),
        ({"room_id": 1, "privileges": -1}, "bad-privileges"),
        ({"room_id": 1, "privileges": ["fly"]}, "bad-privileges"),
        ({"room_id": 1, "privileges": []}, "bad-privileges"),
        ({"room_id": 1, "ttl": 9}, "bad-ttl"),
        ({"room_id": 1, "ttl": 10**30}, "bad-ttl"),
        ({"room_id": "1"}, "bad-request"),
        ({"room_id": True}, "bad-request"),
        ({"room_id": 1, "privileges": "enter"}, "bad-request"),
        ({"room_id": 1, "privileges": [1]}, "bad-request"),
        ({"room_id": 1, "privilege": 1}, "bad-request"),
        ({"room_name": "\ud800"}, "bad-room"),
        (None, "bad-request"),
        ([], "bad-request"),
        (b'{"room_id": NaN}', "bad-request"),
        (b'{"room_id": ' + b"9" * 5000 + b"}", "bad-request"),
        (b"[" * 50_000, "bad-request"),
        (b"{", "bad-request"),
        (b"\xff\xfe", "bad-request"),
    ],
)
async def test_room_keys_asked_wrongly(house, app, body, code):
    problem(await post(house, app, ROOM_KEYS, body), 400, code)
    assert not house.near.held


# -- facts -------------------------------------------------------------------------------


async def test_facts_contain_everything_but_the_sig(house, app):
    record = house.flows.make(ALICE, NOW - 100, "KeyRotated")
    past = f'[[{NOW - 500},{LIFE},1,"Missing"]]'
    house.flows.records[ALICE] = record._replace(acked=NOW - 100, acked_at=NOW - 98, past=past)
    await post(house, app, ROOM_KEYS, {"room_id": 5})
    answer = await call(app, "GET", USER, token=house.ops)
    room, user = answer.json["holders"]
    assert (room["kind"], room["scope"], room["privileges"]) == ("room", "id:5", 255)
    assert user["state"] == "current"
    assert user["delivery"]["confirmed"]
    assert not room["delivery"]["confirmed"]
    assert user["past"] == [
        {
            "issued_at": NOW - 500,
            "expires_at": NOW - 500 + LIFE,
            "key_id": 1,
            "reason": "Missing",
        }
    ]
    assert SECRET_SIG not in answer.body.decode()


@pytest.mark.parametrize(
    ("changes", "state"),
    [
        ({}, "current"),
        ({"due_at": None}, "dormant"),
        ({"revoked_at": NOW}, "revoked"),
        ({"expires_at": NOW}, "expired"),
        ({"issued_at": 0, "revoked_at": NOW - 1}, "revoked"),
    ],
)
async def test_states(house, app, changes, state):
    house.flows.records[ALICE] = house.flows.make(ALICE, NOW - 5, "Missing")._replace(**changes)
    answer = await call(app, "GET", USER, token=house.backend)
    assert answer.json["holders"][0]["state"] == state


async def test_facts_of_nobody(house, app):
    problem(await call(app, "GET", USER, token=house.backend), 404, "holder-unknown")
    house.flows.records[ALICE] = house.flows.make(ALICE, NOW, "x")._replace(issued_at=0)
    problem(await call(app, "GET", USER, token=house.backend), 404, "holder-unknown")


# -- verify ------------------------------------------------------------------------------


async def test_verify_answers_200_either_way(house, app):
    output = (
        await post(house, app, VERIFY, {"usersig": f"{SECRET_SIG}-1", "userid": "alice"})
    ).json
    assert output["valid"] is True
    assert output["reason"] is None
    assert output["userid"] == "alice"
    answer = await post(house, app, VERIFY, {"usersig": f"{SECRET_SIG}-1", "userid": "bob"})
    assert (answer.status, answer.json["valid"]) == (200, False)
    assert answer.json["reason"] == "wrong-user"
    assert answer.json["advice"]
    assert SECRET_SIG not in answer.body.decode()


@pytest.mark.parametrize("userid", ["", "x" * 33, "caf\u00e9", "用户一", "a\nb", " alice"])
async def test_a_user_id_to_verify_is_compared_and_not_judged(house, app, userid):
    body = {"usersig": f"{SECRET_SIG}-1", "userid": userid}
    answer = await post(house, app, VERIFY, body)
    assert (answer.status, answer.json["reason"]) == (200, "wrong-user")


async def test_a_sig_of_a_second_to_come_is_reported(house, app):
    body = {"usersig": f"{SECRET_SIG}-1"}
    assert (await post(house, app, VERIFY, body)).json["issued_in_future"] == 0
    house.clock.advance(-30)
    output = (await post(house, app, VERIFY, body)).json
    assert (output["valid"], output["issued_in_future"]) == (True, 30)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"usersig": 7}, "bad-request"),
        ({"usersig": SECRET_SIG * 2000}, "bad-request"),
        ({"userid": "alice"}, "bad-request"),
        ({"usersig": SECRET_SIG, "userid": 7}, "bad-request"),
        ({"usersig": SECRET_SIG, SECRET_SIG * 9: 1}, "bad-request"),
        ({"usersig": {SECRET_SIG: 1}}, "bad-request"),
    ],
)
async def test_verify_asked_wrongly_echoes_no_sig(house, app, body, code):
    problem(await post(house, app, VERIFY, body), 400, code, SECRET_SIG)


# -- what all of them refuse -------------------------------------------------------------

EVERY = [
    ("GET", f"{USER}/sig", None),
    ("GET", USER, None),
    ("POST", REISSUE, {}),
    ("POST", REVOKE, None),
    ("POST", ROOM_KEYS, {"room_id": 1}),
    ("POST", VERIFY, {"usersig": SECRET_SIG}),
    ("POST", f"/v1/apps/{APP}/sigs/batch-get", {"userids": ["alice"]}),
]


@pytest.mark.parametrize(("method", "path", "body"), EVERY)
async def test_who_may_not(house, app, method, path, body):
    async def ask(token, at=path):
        return await call(app, method, at, token=token, body=body)

    problem(await ask(None), 401, "token-missing")
    stranger = "smt_" + "A" * 43
    for unknown in (stranger, "nonsense", house.ticket(), "smt_\xff"):
        problem(await ask(unknown), 401, "token-unknown", unknown)
    basic = await call(app, method, path, body=body, headers={"authorization": "Basic YTpi"})
    problem(basic, 401, "token-missing", "YTpi")
    if path != USER:
        problem(await ask(house.ops), 403, "role-denied", house.ops)
    problem(await ask(house.token("backend", UNKNOWN_APP)), 403, "app-denied")
    assert not house.flows.calls
    unknown_app = path.replace(str(APP), str(UNKNOWN_APP))
    problem(await ask(house.anywhere, unknown_app), 404, "app-unknown")
    problem(await ask(house.token("backend", APP), unknown_app), 403, "app-denied")


async def test_a_ticket_or_sig_in_the_place_of_a_token_is_reported(house, app):
    sig = usersig.sign(V2, HMAC)
    for text, kind in ((house.ticket(), "a ticket"), (sig, "a sig")):
        for method, path, body in EVERY:
            output = problem(
                await call(app, method, path, token=text, body=body), 401, "token-unknown", text
            )
            assert (
                output["detail"]
                == f"what was sent looks like {kind}; this route takes an API token"
            )
            assert "sigmgr token create" in output["advice"]


@pytest.mark.parametrize(("method", "path", "body"), EVERY)
async def test_an_admin_may_all(house, app, method, path, body):
    house.flows.make(ALICE, NOW, "Missing")
    assert (await call(app, method, path, token=house.admin, body=body)).status == 200


@pytest.mark.parametrize(("method", "path", "body"), EVERY)
@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (errors.StoreUnavailable(), 503, "store-unavailable"),
        (errors.NoSigningKey(), 503, "no-signing-key"),
        (errors.RevokePause(retry_after=2), 503, "revoke-pause"),
        (errors.WrongMasterKey(), 500, "wrong-master-key"),
        (errors.KeyStateConflict(), 409, "key-state"),
        (ValueError("secret words"), 500, "internal"),
    ],
)
async def test_what_the_flow_raises(house, app, method, path, body, error, status, code):
    house.flows.fail = error
    answer = await call(app, method, path, token=house.backend, body=body)
    problem(answer, status, code, "secret words")


@pytest.mark.parametrize(("method", "path", "body"), EVERY)
async def test_wrong_methods(house, app, method, path, body):
    for wrong in ("DELETE", "PUT", "GET" if method == "POST" else "POST"):
        answer = await call(app, wrong, path, token=house.backend, body={})
        problem(answer, 405, "method-not-allowed")
        assert answer.headers["allow"] == method


@pytest.mark.parametrize(("method", "path", "body"), [e for e in EVERY if e[0] == "POST"])
async def test_bodies_that_are_too_large_or_no_json(house, app, method, path, body):
    large = b'{"x":"' + b"y" * (256 * 1024) + b'"}'
    problem(await call(app, method, path, token=house.backend, body=large), 413, "body-too-large")
    reported = {"content-length": str(len(large))}
    answer = await call(app, method, path, token=house.backend, chunks=[b"{"], headers=reported)
    problem(answer, 413, "body-too-large")
    chunks = [b"y" * 65536] * 5
    answer = await call(app, method, path, token=house.backend, chunks=chunks)
    problem(answer, 413, "body-too-large")
    form = {"content-type": "application/x-www-form-urlencoded"}
    answer = await call(app, method, path, token=house.backend, body=b"a=b", headers=form)
    problem(answer, 415, "bad-content-type")
    assert not house.flows.calls


async def test_a_stranger_is_refused_before_the_body_is_read(house, app):
    answer = await call(app, "POST", ROOM_KEYS, body=b"y" * 300_000)
    problem(answer, 401, "token-missing")


@pytest.mark.parametrize(
    "path",
    ["/v1", "/v2/apps", f"/v1/apps/{APP}/users/a/b/sig", f"/v1/apps/{APP}/users//",
     f"/v1/apps/{APP}/users/alice/", "/v1/apps/1/groups/a/sig", "//livez"],
)  # fmt: skip
async def test_unknown_routes(house, app, path):
    problem(await call(app, "GET", path, token=house.admin), 404, "route-unknown")
