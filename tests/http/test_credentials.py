"""Wrong tokens and tickets are slowed by address; right ones never are."""

from __future__ import annotations

import asyncio

import pytest
from structlog.testing import capture_logs

from sigmgr.http.app import App
from sigmgr.http.credentials import BURST, EVERY
from sigmgr.http.peers import Peers
from sigmgr.model import errors
from sigmgr.model.holder import Holder
from sigmgr.model.ticket import Tickets
from tests.http.scripted import APP, LIFE, NOW, House, call, problem

SIG = f"/v1/apps/{APP}/users/alice/sig"
CURRENT = "/v1/stream/current"
FORGED = Tickets(b"f" * 32).issue(APP, "alice", NOW, NOW + LIFE)


def token(number):
    return f"smt_{number:043d}"


def here(host="192.0.2.9"):
    return {"client": (host, 1), "headers": [], "scheme": "http"}


async def worn_out(house):
    """All that an address may try wrongly was tried."""
    for number in range(BURST):
        with pytest.raises(errors.TokenUnknown):
            await house.credentials.token(here(), token(number))


async def test_after_so_many_wrong_ones_the_rest_have_to_stop(house):
    await worn_out(house)
    with pytest.raises(errors.TooManyWrong) as refused:
        await house.credentials.token(here(), token(99))
    assert 1 <= refused.value.retry_after <= EVERY
    with pytest.raises(errors.TooManyWrong):
        house.credentials.ticket(here(), FORGED, NOW)
    # Elsewhere nobody is concerned, and after a while the error names it again.
    with pytest.raises(errors.TokenUnknown):
        await house.credentials.token(here("192.0.2.10"), token(99))
    house.seconds += EVERY
    with pytest.raises(errors.TicketInvalid):
        house.credentials.ticket(here(), FORGED, NOW)


async def test_right_ones_from_the_same_address_go_on(house):
    await worn_out(house)
    assert house.credentials.ticket(here(), house.ticket(), NOW).user == Holder(APP, "alice")
    # Known or not to this process.
    assert (await house.credentials.token(here(), house.backend)).role == "backend"
    assert (await house.credentials.token(here(), house.backend)).role == "backend"


async def test_what_was_right_once_does_not_count(house):
    expired = house.ticket(issued_at=NOW - LIFE)
    for _ in range(3 * BURST):
        with pytest.raises(errors.TicketExpired):
            house.credentials.ticket(here(), expired, NOW)
        with pytest.raises(errors.TokenMissing):
            await house.credentials.token(here(), None)
        with pytest.raises(errors.TicketInvalid):
            house.credentials.ticket(here(), None, NOW)
    with pytest.raises(errors.TicketInvalid):
        house.credentials.ticket(here(), FORGED, NOW)


async def test_lookups_of_a_worn_out_address_go_one_after_the_other(house):
    await worn_out(house)
    under_way, most = 0, 0

    async def slow(digest):
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0.02)
        under_way -= 1
        return house.stored.get(digest)

    house.auth._lookup = slow
    asked = [house.credentials.token(here(), token(1000 + n)) for n in range(40)]
    asked.append(house.credentials.token(here("192.0.2.77"), house.backend))
    answers = await asyncio.gather(*asked, return_exceptions=True)
    assert {type(answer) for answer in answers[:-1]} == {errors.TooManyWrong}
    assert answers[-1].role == "backend"
    assert most == 2  # one of theirs, and the one from elsewhere


async def test_it_is_reported_once_in_a_while(house):
    with capture_logs() as lines:
        await worn_out(house)
        for number in range(50):
            with pytest.raises(errors.TooManyWrong):
                await house.credentials.token(here(), token(500 + number))
    [line] = lines
    assert (line["action"], line["address"]) == ("wrong-credentials", "192.0.2.9")
    assert "smt_" not in str(line)


async def test_over_http_it_is_a_429_on_every_kind_of_route(house, app):
    for _ in range(BURST):
        problem(await call(app, "GET", CURRENT, token=FORGED), 401, "ticket-invalid", FORGED)
    for method, path, wrong in (
        ("GET", CURRENT, FORGED),
        ("POST", "/v1/stream/ack", FORGED),
        ("GET", SIG, token(1)),
        ("POST", f"{SIG}/reissue", token(1)),
    ):
        answer = await call(app, method, path, token=wrong)
        problem(answer, 429, "too-many-wrong", wrong)
        assert int(answer.headers["retry-after"]) >= 1
    assert (await call(app, "GET", SIG, token=house.backend)).status == 200
    assert (await call(app, "GET", CURRENT, token=house.ticket())).status == 200


@pytest.mark.parametrize("path", ["/livez", "/docs", "/openapi.json", "/none", SIG, CURRENT])
async def test_two_authorization_headers_are_refused_everywhere(house, app, path):
    two = [(b"authorization", f"Bearer {text}".encode()) for text in (house.backend, "x")]
    for headers in (two, two[::-1]):
        answer = await asked_with(app, path, headers)
        assert answer[0]["status"] == 400
        assert b"more than one Authorization" in answer[1]["body"]


async def test_the_stream_refuses_two_as_well():
    house = House()
    app = App(house_with_stream(house))
    ticket = f"Bearer {house.ticket()}".encode()
    answer = await asked_with(app, "/v1/stream", [(b"authorization", ticket)] * 2)
    assert answer[0]["status"] == 400


async def test_a_trusted_proxy_names_who_is_counted_and_the_scheme_of_the_documents():
    house = House()
    house.credentials.peers = Peers(["127.0.0.1"])
    app = App(house.services)
    for _ in range(BURST):
        await call(app, "GET", CURRENT, token=FORGED, headers={"x-forwarded-for": "1.1.1.1"})
    for client, status in (("1.1.1.1", 429), ("2.2.2.2", 401)):
        headers = {"x-forwarded-for": client}
        assert (await call(app, "GET", CURRENT, token=FORGED, headers=headers)).status == status
    secure = {"x-forwarded-proto": "https", "host": "sigmgr.example"}
    page = (await call(app, "GET", "/docs", headers=secure)).body.decode()
    assert "curl https://sigmgr.example/v1/" in page


def house_with_stream(house):
    from dataclasses import replace

    return replace(house.services, gateway=house.polls)


async def asked_with(app, path, headers):
    output = []

    async def receive():
        return {"type": "http.disconnect"}

    async def send(message):
        output.append(message)

    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": headers,
        "server": ("127.0.0.1", 80),
        "client": ("127.0.0.1", 1),
    }
    await app(scope, receive, send)
    return output


async def test_a_right_token_waits_for_no_wrong_ones_after_the_tokens_have_changed(house):
    assert (await house.credentials.token(here(), house.backend)).role == "backend"
    await worn_out(house)
    hangs = asyncio.Event()

    async def lookup(digest):
        if digest not in house.stored:
            await hangs.wait()
        return house.stored.get(digest)

    house.auth._lookup = lookup
    house.auth.looked(house.seconds, changed=True)
    wrong = asyncio.create_task(house.credentials.token(here(), token(99)))
    await asyncio.sleep(0)
    assert (await house.credentials.token(here(), house.backend)).role == "backend"
    hangs.set()
    with pytest.raises(errors.TooManyWrong):
        await wrong


async def test_a_token_that_was_revoked_waits_like_any_wrong_one(house):
    await house.credentials.token(here(), house.backend)
    house.stored.clear()
    house.auth.looked(house.seconds, changed=True)
    with pytest.raises(errors.TokenUnknown):
        await house.credentials.token(here(), house.backend)
    assert not house.auth.was_known(house.backend)
