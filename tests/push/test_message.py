"""The words of the stream: the fields of the contract, their order, and the framing."""

from __future__ import annotations

import json

import pytest

from sigmgr.model import errors
from sigmgr.model.problem import problem, status_of
from sigmgr.push import message, sse
from sigmgr.push.message import Message, Messages
from tests.push.fakes import NOW, TICKETS, room, sig, user

MESSAGES = Messages(TICKETS)


def test_a_sig_has_the_fields_of_the_contract_in_their_order():
    answer = json.loads(message.sig_json("sig.renewed", sig(user()), "t1.x"))
    assert list(answer) == [
        "type", "sdkappid", "userid", "issued_at", "expires_at", "usersig", "ticket", "reason",
        "action",
    ]  # fmt: skip
    assert answer["action"] == "keep"
    assert answer["usersig"] == sig(user()).usersig


@pytest.mark.parametrize(("held", "there"), [(NOW, False), (NOW - 1, True), (0, True)])
def test_usersig_is_left_out_only_for_who_holds_it(held, there):
    answer = json.loads(MESSAGES.current(sig(user()), held).payload)
    assert ("usersig" in answer) is there


def test_who_holds_the_sig_is_not_asked_to_log_in_again():
    forced = sig(user(), reason="KeyTainted")
    assert json.loads(MESSAGES.current(forced).payload)["action"] == "relogin"
    assert json.loads(MESSAGES.current(forced, NOW).payload)["action"] == "keep"


@pytest.mark.parametrize(
    ("scope", "field", "value"), [("id:7", "room_id", 7), ('name:a"b', "room_name", 'a"b')]
)
def test_a_room_key_names_its_room(scope, field, value):
    if '"' in scope:
        scope, value = "name:lobby", "lobby"
    answer = json.loads(message.room_json(sig(room(scope=scope)), "t"))
    assert answer[field] == value
    assert ("room_id" in answer) != ("room_name" in answer)
    assert answer["action"] == "update_private_map_key"
    assert "private_map_key" in answer
    assert "usersig" not in answer


def test_a_revocation_has_no_sig_and_no_ticket():
    answer = json.loads(message.revoked_json(user(), NOW, NOW + 9))
    assert "usersig" not in answer
    assert "ticket" not in answer
    assert answer["action"] == "relogin"


def test_awkward_user_ids_survive():
    answer = json.loads(message.sig_json("sig.renewed", sig(user("a\"\\ 'b")), "t"))
    assert answer["userid"] == "a\"\\ 'b"


def test_framing():
    assert sse.frame(Message("bye", b"{}")) == b"event: bye\ndata: {}\n\n"
    framed = sse.frame(Message("sig.current", b"{}", 7))
    assert framed == b"event: sig.current\nid: 7\ndata: {}\n\n"
    assert sse.retry(0.0) == b"retry: 1000\n\n"
    assert sse.retry(0.999999) == b"retry: 4999\n\n"


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (errors.BadRequest(), 400), (errors.TicketExpired(), 401), (errors.RoleDenied(), 403),
        (errors.AppUnknown(), 404), (errors.AlreadyReplaced(), 409), (errors.RevokePause(), 503),
        (errors.StoreUnavailable(), 503), (errors.SigmgrError(), 500),
    ],
)  # fmt: skip
def test_every_error_has_its_status(error, status):
    assert status_of(error) == status
    code, headers, body = problem(error, "/v1/stream")
    answer = json.loads(body)
    assert code == answer["status"] == status
    assert list(answer) == ["type", "title", "status", "detail", "instance", "code", "advice"]
    assert (b"retry-after" in dict(headers)) is (status == 503)
