"""A revocation closes streams by itself, without an event of any channel."""

from __future__ import annotations

import asyncio

import pytest

from sigmgr.model.revocation import Revocation
from tests.push.fakes import APP, NOW, House, room, sig, user


async def test_the_streams_of_a_revoked_user_are_closed_with_the_reason():
    house = House()
    devices = [await house.open() for _ in range(2)]
    other = await house.open("bob")
    house.gateway.revoked(Revocation(APP, "ann", NOW, NOW + 99))
    await house.settle()
    for client in devices:
        assert client.ended
        assert client.events[-1]["type"] == "sig.revoked"
        assert client.events[-1]["issued_at"] == NOW
    assert house.counters.open == 1
    assert other.types == ["sig.current"]


async def test_a_stream_with_a_later_sig_stays():
    house = House()
    house.states.put(sig(user(), NOW + 5))
    client = await house.open()
    house.gateway.revoked(Revocation(APP, "ann", NOW, NOW + 99))
    await house.settle()
    assert client.types == ["sig.current"]
    assert house.counters.open == 1


@pytest.mark.parametrize(("sdkappid", "closed"), [(APP, True), (0, True), (APP + 1, False)])
async def test_all_streams_of_an_app_are_closed_within_seconds(sdkappid, closed):
    house = House()
    clients = [await house.open(name) for name in ("ann", "bob", "eve")]
    house.gateway.revoked(Revocation(sdkappid, "", NOW, NOW + 99))
    await house.pass_time(8)
    assert [client.ended for client in clients] == [closed] * 3
    assert ["sig.revoked" in client.types for client in clients] == [closed] * 3


async def test_nothing_is_pushed_to_a_stream_that_waits_to_be_closed():
    house = House()
    client = await house.open()
    house.gateway.revoked(Revocation(0, "", NOW + 10, NOW + 99))
    house.renew(user(), NOW + 9, bring=True)
    house.renew(room(), NOW + 9, 6 * 3600, bring=True)
    await house.settle()
    assert client.types == ["sig.current"]


async def test_a_sig_that_is_brought_along_is_pushed_only_if_it_stands():
    """A room key that the stream does not know yet, from before a revocation: as it lies in a
    Redis that got an older state back."""
    house = House(stands=lambda holder, issued_at: holder != room())
    client = await house.open()
    house.renew(room(), NOW + 1, 6 * 3600, bring=True)
    house.states.now.pop(room())
    house.renew(user(), NOW + 9, bring=True)
    await house.settle()
    assert client.types == ["sig.current", "sig.renewed"]


async def test_the_first_messages_hold_no_room_key_from_before_a_revocation():
    """It comes while the state of an opening stream is being asked for."""
    house = House()
    house.states.put(sig(user(), NOW + 5), sig(room(), NOW))
    house.states.gate = asyncio.Event()
    client = house.connect()
    await asyncio.sleep(0)
    house.gateway.revoked(Revocation(APP, "ann", NOW, NOW + 99))
    house.states.gate.set()
    await house.settle()
    assert client.types == ["sig.current"]
