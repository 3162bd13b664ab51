"""The client's routes: current sig, long poll, ack; tickets good and bad."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from sigmgr.http.app import App
from sigmgr.model import errors
from sigmgr.model.event import Event
from sigmgr.model.holder import Holder
from sigmgr.model.ticket import Tickets
from tests.http.scripted import APP, LIFE, NOW, PER_USER, House, call, problem

ALICE = Holder(APP, "alice")
CURRENT = "/v1/stream/current"
ACK = "/v1/stream/ack"


@pytest.fixture
def house(house):
    house.flows.make(ALICE, NOW, "Missing")
    return house


def renewed(house, holder=ALICE, kind="sig.renewed"):
    record = house.flows.make(holder, NOW, "NearingExpiry")
    return Event(kind, holder, record.issued_at, record.expires_at, record.reason, NOW)


async def test_current_is_the_streams_object_with_an_etag(house, app):
    answer = await call(app, "GET", CURRENT, token=house.ticket())
    assert answer.status == 200
    assert answer.headers["etag"] == f'"{NOW}"'
    assert answer.headers["cache-control"] == "no-store"
    assert " ".join(answer.json) == (
        "type sdkappid userid issued_at expires_at usersig ticket reason action"
    )
    assert answer.json["type"] == "sig.current"
    assert house.tickets.open(answer.json["ticket"], NOW).user == ALICE


@pytest.mark.parametrize("etag", [f'"{NOW}"', f'W/"{NOW}"', str(NOW), f'"{NOW + 50}"'])
async def test_who_holds_it_gets_304_at_once_without_wait(house, app, etag):
    answer = await call(app, "GET", CURRENT, token=house.ticket(), headers={"if-none-match": etag})
    assert (answer.status, answer.body) == (304, b"")
    assert answer.headers["etag"]


@pytest.mark.parametrize("etag", ["*", '"x"', "", '"-1"', f'"{NOW - 9}"', '"' + "9" * 99 + '"'])
async def test_an_etag_that_is_not_ours_or_older_gets_the_sig(house, app, etag):
    answer = await call(app, "GET", CURRENT, token=house.ticket(), headers={"if-none-match": etag})
    assert answer.status == 200


@pytest.fixture
async def polls(house):
    """The gateway behind the polls, at work."""
    house.polls.start()
    yield house.polls
    await house.polls.aclose()


def waiting(house, app, wait=30, **kw):
    held = {"if-none-match": f'"{NOW}"'}
    return asyncio.create_task(
        call(app, "GET", f"{CURRENT}?wait={wait}", token=house.ticket(), headers=held, **kw)
    )


async def settled(house, number=1):
    while house.polls.counters.opened_total < number:
        await asyncio.sleep(0.001)


async def test_a_wait_ends_with_the_newer_sig_as_soon_as_it_is_known(house, app, polls):
    task = waiting(house, app)
    await settled(house)
    polls.receive(3, [renewed(house, Holder(APP, "bob"))])
    await asyncio.sleep(0.01)
    assert not task.done()
    polls.receive(3, [renewed(house)])
    answer = await asyncio.wait_for(task, 0.15)
    assert (answer.json["issued_at"], answer.json["type"]) == (NOW + 1, "sig.current")
    assert answer.headers["etag"] == f'"{NOW + 1}"'
    assert house.tickets.open(answer.json["ticket"], NOW).issued_at == NOW + 1
    assert polls.counters.open == 0


async def test_a_lost_wake_costs_a_moment_where_the_sig_is_due(house, app, polls):
    house.clock.advance(LIFE * 2 // 3)
    task = waiting(house, app)
    await settled(house)
    renewed(house)
    # A second in the house is one of the clock's.
    for _ in range(LIFE // 100):
        if task.done():
            break
        polls.tick(house.clock.advance(1))
        await asyncio.sleep(0)
    assert (await asyncio.wait_for(task, 3)).status == 200


async def test_missed_events_make_everybody_look(house, app, polls):
    task = waiting(house, app)
    await settled(house)
    renewed(house)
    for shard in range(64):
        polls.resync(shard)
    polls.tick(house.clock.advance(1))
    polls.tick(house.clock.advance(1))
    assert (await asyncio.wait_for(task, 0.15)).status == 200


async def test_a_revocation_ends_the_wait_with_a_refusal(house, app, polls):
    task = waiting(house, app)
    await settled(house)
    await house.flows.user(APP, "alice", NOW)
    polls.receive(0, [Event("sig.revoked", ALICE, NOW, NOW, "Revoked", NOW)])
    problem(await asyncio.wait_for(task, 1), 401, "ticket-revoked")


async def test_a_wait_ends_with_304_when_its_time_is_over(house, app, polls):
    answer = await asyncio.wait_for(waiting(house, app, wait=1), 3)
    assert answer.status == 304
    assert polls.counters.open == 0


async def test_draining_ends_all_waits_and_new_ones_at_once(house, app, polls):
    tasks = [waiting(house, app) for _ in range(5)]
    await settled(house, 5)
    await polls.drain(0.01)
    answers = await asyncio.wait_for(asyncio.gather(*tasks), 0.15)
    assert {answer.status for answer in answers} == {304}
    assert (await asyncio.wait_for(waiting(house, app), 0.15)).status == 304
    assert polls.counters.open == 0


async def test_a_client_that_leaves_is_forgotten(house, app, polls):
    task = waiting(house, app)
    await settled(house)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert polls.counters.open == 0


async def test_the_oldest_of_too_many_waits_gets_an_error(house, app, polls):
    tasks = [waiting(house, app) for _ in range(PER_USER)]
    await settled(house, PER_USER)
    tasks.append(waiting(house, app))
    answer = await asyncio.wait_for(tasks[0], 1)
    problem(answer, 429, "too-many-streams")
    assert int(answer.headers["retry-after"]) >= 60
    await polls.drain(0.01)
    assert {a.status for a in await asyncio.gather(*tasks[1:])} == {304}


@pytest.mark.parametrize("wait", ["61", "-1", "x", "1.5"])
async def test_waits_out_of_range(house, app, wait):
    answer = await call(app, "GET", f"{CURRENT}?wait={wait}", token=house.ticket())
    assert "wait" in problem(answer, 400, "bad-request")["detail"]


async def test_ack(house, app):
    answer = await call(app, "POST", ACK, token=house.ticket(), body={"issued_at": NOW})
    assert (answer.status, answer.body) == (204, b"")
    assert house.flows.calls[-1] == ("ack", (ALICE, NOW))


@pytest.mark.parametrize(
    "body",
    [None, b"{", [], {}, {"issued_at": "1"}, {"issued_at": True}, {"issued_at": 0},
     {"issued_at": 2**32}, {"issued_at": NOW, "x": 1}],
)  # fmt: skip
async def test_acks_that_are_refused(house, app, body):
    answer = await call(app, "POST", ACK, token=house.ticket(), body=body)
    problem(answer, 400, "bad-request", house.ticket())


async def test_an_ack_of_what_was_never_issued(house, app):
    answer = await call(app, "POST", ACK, token=house.ticket(), body={"issued_at": NOW + 9})
    output = problem(answer, 409, "never-issued", house.ticket())
    assert "leave Last-Event-ID out" in output["advice"]


async def test_the_sig_that_is_held_is_reported_to_the_flow_once(house, app):
    answer = await waiting(house, app, wait=0)
    assert answer.status == 304
    assert house.flows.claims == [NOW]
    await call(app, "GET", CURRENT, token=house.ticket())
    assert house.flows.claims == [NOW, 0]


async def test_who_holds_what_was_never_issued_gets_an_error(house, app):
    house.flows.fail = errors.NeverIssued()
    problem(await waiting(house, app, wait=0), 409, "never-issued")


async def test_an_ack_of_somebody_unknown(house, app):
    answer = await call(app, "POST", ACK, token=house.ticket("zoe"), body={"issued_at": NOW})
    problem(answer, 404, "holder-unknown")


@pytest.mark.parametrize(("method", "path"), [("GET", CURRENT), ("POST", ACK)])
async def test_tickets_that_open_nothing(house, app, method, path):
    async def ask(token):
        return await call(app, method, path, token=token, body={"issued_at": NOW})

    problem(await ask(None), 401, "ticket-invalid")
    expired = house.ticket(issued_at=NOW - LIFE)
    problem(await ask(expired), 401, "ticket-expired", expired)
    foreign = Tickets(b"f" * 32).issue(APP, "alice", NOW, NOW + LIFE)
    for bad in (foreign, house.backend, "t1.", "t1.!!!", house.ticket()[:-2], "t1." + "A" * 500):
        problem(await ask(bad), 401, "ticket-invalid", bad)
    output = problem(await ask(house.backend), 401, "ticket-invalid", house.backend)
    assert "looks like an API token" in output["detail"]
    assert "sigmgr token revoke" in output["advice"]
    house.clock.advance(LIFE)
    problem(await ask(house.ticket()), 401, "ticket-expired")
    assert not house.flows.calls


async def test_a_revoked_ticket(house, app):
    await house.flows.user(APP, "alice", NOW)
    problem(await call(app, "GET", CURRENT, token=house.ticket()), 401, "ticket-revoked")


async def test_the_stream_goes_to_the_gateway_untouched(house):
    async def gateway(scope, receive, send):
        assert scope["path"] == "/v1/stream"
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"from the gateway"})

    app = App(replace(house.services, gateway=gateway))
    answer = await call(app, "GET", "/v1/stream", token=house.ticket())
    assert answer.body == b"from the gateway"
    answer = await call(app, "POST", "/v1/stream", token=house.ticket(), body={})
    problem(answer, 405, "method-not-allowed")


@pytest.mark.parametrize(
    ("given", "code"),
    [
        (None, "ticket-invalid"),
        ("t1." + "A" * 80, "ticket-invalid"),
        ("x" * 5000, "ticket-invalid"),
        ("smt_" + "A" * 43, "ticket-invalid"),
        ("expired", "ticket-expired"),
    ],
)
async def test_no_good_ticket_no_stream(house, given, code):
    async def gateway(scope, receive, send):
        raise AssertionError("asked")

    app = App(replace(house.services, gateway=gateway))
    shown = house.ticket(issued_at=NOW - LIFE) if given == "expired" else given
    problem(await call(app, "GET", "/v1/stream", token=shown), 401, code, shown or "t1.")


async def test_a_process_of_another_role_has_no_stream():
    house = House(roles=frozenset({"api"}), gateway=None, polls=None)
    answer = await call(App(house.services), "GET", "/v1/stream", token=house.ticket())
    problem(answer, 404, "route-unknown")


@pytest.mark.parametrize(("method", "path"), [("PUT", CURRENT), ("GET", ACK)])
async def test_wrong_methods(house, app, method, path):
    answer = await call(app, method, path, token=house.ticket())
    problem(answer, 405, "method-not-allowed")
