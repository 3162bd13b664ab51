"""Getting the newest sig to open streams: with events, without them, to slow clients."""

from __future__ import annotations

import asyncio

import pytest

from sigmgr.model import errors
from sigmgr.model.delivery import Renew
from sigmgr.model.event import EventType
from sigmgr.model.sig import Current
from tests.push.fakes import DAY, LAYOUT, NOW, TICKETS, House, event, room, sig, user


async def test_a_renewal_comes_with_id_and_its_own_ticket():
    house = House()
    client = await house.open()
    house.renew(user(), NOW + 9)
    await house.settle()
    answer = client.events[-1]
    assert (answer["type"], answer["_id"]) == ("sig.renewed", NOW + 9)
    assert TICKETS.open(answer["ticket"], NOW).issued_at == NOW + 9


async def test_old_and_repeated_events_say_nothing():
    house = House()
    client = await house.open()
    house.renew(user(), NOW + 9)
    await house.settle()
    asked = len(house.states.lookups)
    for at in (NOW - 5, NOW, NOW + 9):
        house.gateway.receive(0, [event(EventType.RENEWED, user(), at)])
    await house.settle()
    assert client.issued == [NOW, NOW + 9]
    assert len(house.states.lookups) == asked


async def test_events_of_others_cost_no_lookup():
    house = House()
    await house.open()
    admin = user()._replace(kind="admin")
    house.gateway.receive(
        0,
        [event(EventType.RENEWED, user("bob"), NOW + 9), event(EventType.RENEWED, admin, NOW + 9)],
    )
    await house.settle()
    assert house.states.lookups == []


async def test_every_device_gets_it():
    house = House()
    clients = [await house.open() for _ in range(3)]
    house.renew(user(), NOW + 9)
    await house.settle()
    await clients[1].hang_up()
    house.renew(user(), NOW + 20)
    await house.settle()
    assert [c.issued for c in clients] == [
        [NOW, NOW + 9, NOW + 20], [NOW, NOW + 9], [NOW, NOW + 9, NOW + 20],
    ]  # fmt: skip
    assert house.counters.open == 2


async def test_a_room_key_is_pushed_without_id():
    house = House()
    client = await house.open()
    house.renew(room(), NOW + 3, 21600)
    await house.settle()
    answer = client.events[-1]
    assert (answer["type"], answer["room_id"]) == ("room.renewed", 7)
    assert answer["private_map_key"]
    assert "_id" not in answer
    assert TICKETS.open(answer["ticket"], NOW).issued_at == NOW


async def test_a_lookup_behind_its_event_is_repeated():
    house = House()
    client = await house.open()
    house.gateway.receive(0, [event(EventType.RENEWED, user(), NOW + 9)])
    await house.settle()
    assert client.issued == [NOW]
    await house.pass_time(2)
    house.renew(user(), NOW + 9, announce=False)
    await house.pass_time(5)
    assert client.issued == [NOW, NOW + 9]


@pytest.mark.parametrize("error", [errors.CacheUnavailable(), TimeoutError(), OSError()])
async def test_a_failed_lookup_is_repeated(error):
    house = House()
    client = await house.open()
    house.states.fail = [error, errors.StoreUnavailable()]
    house.renew(user(), NOW + 9)
    await house.settle()
    assert client.issued == [NOW]
    await house.pass_time(5)
    assert client.issued == [NOW, NOW + 9]


async def test_who_was_not_reached_keeps_the_stream_however_often_it_is_asked_for():
    house = House()
    ann, bob = await house.open("ann"), await house.open("bob")
    house.states.unreached = {user("ann")}
    for name in ("ann", "bob"):
        house.renew(user(name), NOW + 9)
    await house.settle()
    await house.pass_time(60)
    assert (ann.issued, ann.ended) == ([NOW], False)
    assert bob.issued == [NOW, NOW + 9]
    house.states.unreached = set()
    await house.pass_time(60)
    assert ann.issued == [NOW, NOW + 9]


async def test_one_bad_holder_does_not_hold_up_its_batch():
    house = House()
    clients = [await house.open(f"u{n}") for n in range(20)]
    house.states.bad = {user("u7")}
    for n in range(20):
        house.renew(user(f"u{n}"), NOW + 9)
    await house.settle()
    assert [n for n, c in enumerate(clients) if c.issued != [NOW, NOW + 9]] == [7]
    house.states.bad = set()
    await house.pass_time(3)
    assert clients[7].issued == [NOW, NOW + 9]


async def test_delivery_without_any_event():
    """Redis and its channels dead: the stream looks by itself when renewal is due."""
    house = House()
    client = await house.open_acked()
    renew_at = house.states.now[user()].renew_at
    house.renew(user(), renew_at, announce=False)
    house.clock.now = renew_at - 1
    await house.pass_time(120)
    assert client.distinct == [NOW, renew_at]
    assert house.counters.expired_online == 0


async def test_a_reissue_before_its_time_is_found_within_hours_without_events():
    house = House()
    client = await house.open_acked()
    house.renew(user(), NOW + 60, announce=False)
    await house.pass_time(6 * 3600, step=60)
    assert client.distinct == [NOW, NOW + 60]


@pytest.mark.parametrize("ttl", [30, 600, 90 * DAY])
async def test_who_waits_for_renewal_asks_more_often_as_the_end_comes(ttl):
    house = House()
    house.states.put(sig(user(), ttl=ttl))
    await house.open()
    renew_at = NOW + ttl * 2 // 3
    house.clock.now = renew_at
    await house.pass_time(min(600, ttl // 6))
    far = len(house.states.lookups)
    assert far >= min(600, ttl // 6) // max(1, min(60, ttl // 100)) - 2
    house.clock.now = NOW + ttl - 10
    await house.pass_time(9)
    assert len(house.states.lookups) - far >= 8


async def test_a_late_renewal_is_made_by_the_stream_in_the_emergency():
    house = House()
    house.states.put(sig(user(), ttl=1000))
    client = await house.open_acked()
    house.clock.now = NOW + 940
    house.states.renews[user()] = sig(user(), NOW + 955, 1000, "Emergency")
    await house.pass_time(9)
    assert client.distinct == [NOW]
    house.clock.now = NOW + 955
    await house.pass_time(5)
    assert client.distinct == [NOW, NOW + 955]
    assert house.counters.expired_online == 0


async def test_a_rescue_that_brings_nothing_does_not_spin():
    house = House()
    house.states.put(sig(user(), ttl=1000))
    await house.open()
    house.clock.now = NOW + 990
    await house.pass_time(3)
    assert len(house.states.openings) <= 1 + 4


async def test_a_rescue_that_learns_of_a_revocation_closes():
    house = House()
    house.states.put(sig(user(), ttl=1000))
    client = await house.open()
    house.states.gone = {user()}
    house.clock.now = NOW + 990
    await house.pass_time(2)
    assert client.types[-1] == "sig.revoked"
    assert client.ended


async def test_a_sig_that_runs_out_in_a_connected_client_is_counted_once_and_pursued():
    house = House()
    house.states.put(sig(user(), ttl=100))
    client = await house.open_acked()
    await house.pass_time(130)
    assert house.counters.expired_online == 1
    assert not client.ended
    house.renew(user(), NOW + 130, 100, announce=False)
    await house.pass_time(3)
    assert client.distinct == [NOW, NOW + 130]
    await house.pass_time(10)
    assert house.counters.expired_online == 1


async def test_a_valid_sig_that_is_gone_closes_with_bye():
    house = House()
    client = await house.open()
    del house.states.now[user()]
    house.gateway.resync(LAYOUT.shard(user()))
    await house.pass_time(20)
    assert client.types[-1] == "bye"
    assert client.events[-1]["reason"] == "refresh"
    assert client.ended


async def test_a_missed_shard_is_looked_at_in_one_pass():
    house = House(shards=1)
    clients = [await house.open(f"u{n}") for n in range(50)]
    for n in range(50):
        house.renew(user(f"u{n}"), NOW + 9, announce=False)
    house.gateway.resync(0)
    await house.pass_time(1)
    assert all(c.issued == [NOW, NOW + 9] for c in clients)
    assert len(house.states.lookups) == 1


async def test_revocation_is_sent_without_id_and_closes():
    house = House()
    client, other = await house.open(), await house.open("bob")
    house.gateway.receive(0, [event(EventType.REVOKED, user(), NOW + 5)])
    await asyncio.sleep(0.01)
    assert client.ended
    assert client.task.done()
    answer = client.events[-1]
    assert answer["type"] == "sig.revoked"
    assert "_id" not in answer
    assert not {"usersig", "ticket"} & set(answer)
    assert not other.ended
    assert house.counters.open == 1


async def test_a_revocation_older_than_the_sig_is_over():
    house = House()
    client = await house.open()
    house.gateway.receive(0, [event(EventType.REVOKED, user(), NOW - 1)])
    assert not client.ended


async def test_a_revoked_room_is_forgotten():
    house = House()
    house.states.put(sig(user()), sig(room(), ttl=21600))
    await house.open()
    house.gateway.receive(0, [event(EventType.REVOKED, room(), NOW)])
    (stream,) = house.gateway.table.of(user())
    assert stream.delivery.rooms == ()


async def test_a_warning_passes_as_it_is():
    house = House()
    client = await house.open()
    house.gateway.receive(0, [event(EventType.WILL_EXPIRE, user(), NOW - 7)])
    house.gateway.receive(0, [event(EventType.WILL_EXPIRE, user(), NOW)])
    assert client.types == ["sig.current", "sig.will_expire"]
    assert "usersig" not in client.events[-1]
    assert "_id" not in client.events[-1]


async def test_a_late_renewal_that_hangs_holds_up_nobody_else():
    house = House()
    ann, bob = await house.open(), await house.open("bob")
    house.gateway.start()

    async def hang(*_args: object, **_named: object) -> list[Current]:
        await asyncio.Event().wait()
        return []

    house.states.opened = hang  # type: ignore[method-assign]
    house.gateway._wanted.add(Renew(user(), NOW))
    for _ in range(5):
        await asyncio.sleep(0)
    house.renew(user("bob"), NOW + 9)
    house.renew(user(), NOW + 9, bring=True)
    for _ in range(20):
        await asyncio.sleep(0)
    assert ann.issued == bob.issued == [NOW, NOW + 9]
    await house.gateway.aclose()
