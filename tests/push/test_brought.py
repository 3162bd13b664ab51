"""Events that bring their sig along: written at once, and no lookup is needed."""

from __future__ import annotations

import pytest

from sigmgr.model import values
from sigmgr.model.event import EventType
from sigmgr.model.policy import Policy
from sigmgr.push import gateway
from tests.push.fakes import DAY, LAYOUT, NOW, TICKETS, House, event, room, sig, user

SHARD = LAYOUT.shard(user())


async def test_a_sig_that_came_with_its_event_is_written_without_a_lookup():
    house = House()
    client = await house.open()
    house.renew(user(), NOW + 9, bring=True)
    await house.settle()
    answer = client.events[-1]
    assert (answer["type"], answer["_id"]) == ("sig.renewed", NOW + 9)
    assert answer["usersig"] == sig(user(), NOW + 9).usersig
    assert TICKETS.open(answer["ticket"], NOW).issued_at == NOW + 9
    assert house.states.lookups == []


async def test_it_is_resent_until_it_is_acked():
    house = House()
    client = await house.open_acked()
    house.renew(user(), NOW + 9, bring=True)
    await house.settle()
    await house.pass_time(61)
    assert client.issued == [NOW, NOW + 9, NOW + 9]
    house.gateway.acked(user(), NOW + 9)
    await house.pass_time(600)
    assert client.issued == [NOW, NOW + 9, NOW + 9]


async def test_a_room_key_comes_the_same_way():
    house = House()
    client = await house.open()
    house.renew(room(), NOW + 9, 6 * 3600, bring=True)
    await house.settle()
    assert client.events[-1]["type"] == "room.renewed"
    assert client.events[-1]["private_map_key"] == sig(room(), NOW + 9).usersig
    assert house.states.lookups == []


async def test_old_and_repeated_ones_say_nothing():
    house = House()
    client = await house.open()
    for at in (NOW + 9, NOW + 9, NOW, NOW - 5):
        house.renew(user(), at, bring=True)
        await house.settle()
    assert client.issued == [NOW, NOW + 9]


async def test_what_is_due_again_or_damaged_is_looked_up():
    house = House()
    client = await house.open()
    house.clock.now = NOW + 70 * DAY
    house.renew(user(), NOW + 9, bring=True)
    house.states.put(sig(user(), NOW + 65 * DAY))
    await house.settle()
    assert client.issued[-1] == NOW + 65 * DAY
    newest = NOW + 66 * DAY
    house.states.put(sig(user(), newest))
    house.gateway.receive(SHARD, [event(EventType.RENEWED, user(), newest)], [b"\x01junk"])
    await house.settle()
    assert client.issued[-1] == newest


async def test_a_sig_of_another_second_than_its_event_is_looked_up():
    house = House()
    client = await house.open()
    house.states.put(sig(user(), NOW + 9))
    news = event(EventType.RENEWED, user(), NOW + 20)
    house.gateway.receive(SHARD, [news], [values.encode(sig(user(), NOW + 30))])
    await house.settle()
    assert client.issued == [NOW, NOW + 9]


async def test_a_revocation_right_behind_it_has_the_last_word():
    house = House()
    client = await house.open()
    house.gateway.receive(
        SHARD,
        [event(EventType.RENEWED, user(), NOW + 9), event(EventType.REVOKED, user(), NOW + 9)],
        [values.encode(sig(user(), NOW + 9)), b""],
    )
    await house.settle()
    assert client.events[-1]["type"] == "sig.revoked"
    assert [one["type"] for one in client.events].count("sig.renewed") == 0


@pytest.mark.parametrize("splay", [0, 300])
async def test_a_wide_wave_is_spread_unless_the_policy_forbids_it(splay: int):
    house = House(policy=Policy(splay=splay), wide=2)
    clients = [await house.open(f"ann{n}") for n in range(6)]
    for n in range(6):
        house.renew(user(f"ann{n}"), NOW + 9, bring=True)
    await house.settle()
    at_once = [client.issued[-1] == NOW + 9 for client in clients]
    assert at_once == [n < 2 or splay == 0 for n in range(6)]
    await house.pass_time(301)
    assert all(NOW + 9 in client.issued for client in clients)


async def test_many_letters_are_written_before_the_loop_comes_round(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(gateway, "WRITTEN_AT_ONCE", 50)
    house = House(policy=Policy(splay=0))
    clients = [await house.open(f"ann{n}") for n in range(60)]
    for n in range(60):
        house.renew(user(f"ann{n}"), NOW + 9, bring=True)
    assert sum(client.issued[-1] == NOW + 9 for client in clients) == 50
    await house.settle()
    assert all(client.issued == [NOW, NOW + 9] for client in clients)
