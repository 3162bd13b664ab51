"""Opening a stream: authorised or refused, the full state first, nothing lost meanwhile."""

from __future__ import annotations

import asyncio
import json

import pytest

from sigmgr.model import errors
from sigmgr.model.delivery import Phase
from sigmgr.model.event import EventType
from tests.push.fakes import (
    DAY,
    LAYOUT,
    NOW,
    TICKETS,
    Client,
    House,
    event,
    room,
    sig,
    user,
)


async def refused(house: House, client: Client) -> dict:
    await client.task
    assert client.ended
    assert client.headers[b"content-type"] == b"application/problem+json"
    assert house.counters.open == 0
    return json.loads(client.body)


async def test_the_first_message_is_the_full_state():
    house = House()
    house.states.put(sig(user()), sig(room(), ttl=21600), sig(room(scope="name:lobby"), ttl=21600))
    client = await house.open()
    assert client.status == 200
    assert client.headers[b"content-type"] == b"text/event-stream"
    assert client.headers[b"cache-control"] == b"no-store"
    assert client.headers[b"x-accel-buffering"] == b"no"
    assert client.body.startswith(b"retry: ")
    first, *rooms = client.events
    assert (first["type"], first["_id"], first["issued_at"]) == ("sig.current", NOW, NOW)
    assert TICKETS.open(first["ticket"], NOW).user == user()
    assert {(r.get("room_id"), r.get("room_name")) for r in rooms} == {(7, None), (None, "lobby")}
    assert all("_id" not in r for r in rooms)
    await client.hang_up()
    assert (house.counters.open, house.counters.opened_total) == (0, 1)


async def test_retry_is_drawn_per_stream():
    house = House()
    house.draws = [0.0, 0.5]
    one = await house.open()
    house.draws = [0.9]
    two = await house.open()
    assert one.body.split(b"\n")[0] != two.body.split(b"\n")[0]


@pytest.mark.parametrize(("draw", "after"), [(0.0, 1000), (0.5, 3000), (1.0, 5000)])
async def test_browsers_come_back_within_one_to_five_seconds(draw, after):
    client = await House(draw=draw).open()
    assert client.body.startswith(b"retry: %d\n\n" % after)


async def test_a_number_too_long_for_a_second_is_no_claim():
    house = House()
    for claim in (b"%d" % NOW, b"1%d" % NOW):
        await house.open("ann", claim)
    assert house.states.claims == [NOW, 0]


@pytest.mark.parametrize(
    ("claim", "sent"),
    [(b"%d" % NOW, False), (b"%d" % (NOW - 9), True), (b"junk", True), (b"-1", True),
     (b"9" * 400, True), (b"%d" % (NOW + DAY), True), (b"0", True)],
)  # fmt: skip
async def test_last_event_id_is_what_the_client_holds(claim, sent):
    house = House()
    client = await house.open("ann", claim)
    assert ("usersig" in client.events[0]) is sent
    assert client.events[0]["ticket"]


@pytest.mark.parametrize("claim", [NOW - 9, NOW, NOW + 3, NOW + DAY])
async def test_what_a_client_claims_to_hold_is_judged_with_the_state(claim):
    house = House()
    await house.open("ann", b"%d" % claim)
    assert house.states.claims == [claim]


async def test_a_claim_to_what_was_never_issued_is_a_conflict():
    house = House()
    house.states.fail = [errors.NeverIssued()]
    client = house.connect("ann", b"%d" % (NOW - 5))
    answer = await refused(house, client)
    assert (client.status, answer["code"]) == (409, "never-issued")
    assert "leave Last-Event-ID out" in answer["advice"]


async def test_a_client_that_holds_a_newer_sig_gets_no_older_one():
    house = House()
    client = await house.open("ann", b"%d" % NOW)
    house.clock.advance(100)
    ahead = await house.open("ann", b"%d" % (NOW + 50))
    assert client.events
    assert not ahead.events
    house.states.put(sig(user(), NOW + 30))
    house.gateway.resync(LAYOUT.shard(user()))
    await house.pass_time(1)
    assert client.issued == [NOW + 30]
    assert not ahead.events
    house.renew(user(), NOW + 80)
    await house.settle()
    assert ahead.issued == [NOW + 80]


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (errors.TicketRevoked(), 401, "ticket-revoked"),
        (errors.StoreUnavailable(), 503, "store-unavailable"),
        (errors.RevokePause(retry_after=2), 503, "revoke-pause"),
        (errors.AppUnknown(), 404, "app-unknown"),
        (RuntimeError("with a secret in it"), 500, "internal"),
    ],
)
async def test_what_goes_wrong_in_opening_is_reported_as_a_problem(error, status, code):
    house = House()
    house.states.fail = [error]
    client = house.connect()
    answer = await refused(house, client)
    assert (client.status, answer["code"]) == (status, code)
    assert answer["instance"] == "/v1/stream"
    assert (b"retry-after" in client.headers) is (status == 503)
    assert b"secret" not in client.body


async def test_a_full_gateway_reports_when_to_come_back():
    house = House(max_streams=1)
    await house.open("ann")
    client = house.connect("bob")
    await client.task
    assert client.status == 503
    assert int(client.headers[b"retry-after"]) >= 1


async def test_an_event_while_opening_is_not_lost():
    house = House()
    house.states.gate = asyncio.Event()
    client = await house.open()
    assert not client.status
    house.renew(user(), NOW + 5)
    house.states.gate.set()
    await asyncio.sleep(0.01)
    await house.settle()
    assert client.issued == [NOW, NOW + 5]


async def test_an_event_while_the_first_message_is_written_comes_after_it():
    house = House()
    client = house.connect()
    client.blocked = True
    for _ in range(3):
        await asyncio.sleep(0)
    house.renew(user(), NOW + 5)
    await house.settle()
    assert client.body == b""
    client.blocked = False
    await asyncio.sleep(0.01)
    await house.settle()
    assert client.issued == [NOW, NOW + 5]


async def test_a_revocation_while_opening_refuses():
    house = House()
    house.states.gate = asyncio.Event()
    client = await house.open()
    house.gateway.receive(0, [event(EventType.REVOKED, user(), NOW + 1)])
    house.states.gate.set()
    assert (await refused(house, client))["code"] == "ticket-revoked"


async def test_a_shard_missed_while_opening_is_looked_at():
    house = House(shards=1)
    house.states.gate = asyncio.Event()
    client = await house.open()
    house.states.put(sig(user(), NOW + 3))
    house.gateway.resync(0)
    house.gateway.tick(house.clock.advance(1))
    house.states.gate.set()
    await asyncio.sleep(0.01)
    await house.settle()
    assert client.issued == [NOW, NOW + 3]


async def test_a_handler_that_is_cancelled_while_opening_leaves_nothing():
    house = House()
    house.states.gate = asyncio.Event()
    client = await house.open()
    client.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await client.task
    assert house.counters.open == 0


async def test_the_ticket_does_not_stay_in_memory():
    house = House()
    client = await house.open()
    assert client.scope["headers"] == []


async def test_phases_only_go_forward():
    house = House()
    client = await house.open()
    (stream,) = house.gateway.table.of(user())
    assert stream.delivery.phase is Phase.OPEN
    await client.hang_up()
    assert stream.delivery.phase is Phase.CLOSED
    house.gateway.leave(stream)
    assert house.counters.open == 0
