"""How many are told at once, what is counted, and whom an event does not concern."""

from __future__ import annotations

import asyncio

import pytest

from sigmgr.model import values
from sigmgr.model.event import EventType
from sigmgr.model.holder import Holder
from sigmgr.push.gateway import LANES
from tests.push.fakes import APP, LAYOUT, NOW, House, MemoryTransport, event, room, sig, user


@pytest.mark.parametrize("bring", [True, False])
async def test_so_many_are_told_at_once_in_each_second(bring):
    house = House(wide=2)
    clients = [await house.open_acked(f"u{n}") for n in range(6)]
    house.draw = 0.999
    for first, at in ((0, NOW + 1), (3, NOW + 2)):
        for n in range(first, first + 3):
            house.renew(user(f"u{n}"), at, bring=bring)
        await house.settle()
        told = [c.issued[-1] == at for c in clients[first : first + 3]]
        assert told == [True, True, False]
        await house.pass_time(1)


@pytest.mark.parametrize(
    ("streams", "at_once"), [(3, True), (8, False), (12, False)], ids=["few", "many", "more"]
)
async def test_who_is_missed_with_few_is_looked_up_at_once_and_with_many_within_seconds(
    streams, at_once
):
    house = House(wide=4)
    clients = [await house.open_acked(f"u{n}") for n in range(streams)]
    for n in range(streams):
        house.renew(user(f"u{n}"), NOW + 1, announce=False)
    house.draw = 0.999
    for shard in range(LAYOUT.shards):
        house.gateway.resync(shard)
    await house.pass_time(1)
    assert [c.issued[-1] == NOW + 1 for c in clients] == [at_once] * streams
    await house.pass_time(streams // 4)
    assert [c.issued[-1] for c in clients] == [NOW + 1] * streams


async def test_only_the_streams_of_a_missed_shard_are_looked_up():
    house = House()
    await house.open_acked()
    other = next(n for n in map(str, range(99)) if LAYOUT.shard(user(n)) != LAYOUT.shard(user()))
    await house.open_acked(other)
    house.gateway.resync(LAYOUT.shard(user()))
    await house.pass_time(2)
    assert house.states.lookups == [[user()]]


async def test_what_concerns_others_in_a_batch_hides_nothing():
    house = House()
    client = await house.open_acked()
    admin = Holder(APP, "ann", "admin")
    house.states.put(sig(user(), NOW + 9))
    renewed = [event(EventType.RENEWED, one, NOW + 9) for one in (user("bob"), admin, user())]
    house.gateway.receive(0, renewed)
    await house.settle()
    assert client.issued == [NOW, NOW + 9]
    assert house.states.lookups == [[user()]]


@pytest.mark.parametrize("kind", [EventType.REVOKED, EventType.WILL_EXPIRE, EventType.DELIVERED])
async def test_what_happens_to_an_admin_of_that_name_is_not_the_users(kind):
    house = House()
    client = await house.open()
    house.gateway.receive(0, [event(kind, Holder(APP, "ann", "admin"), NOW + 9)])
    await house.settle()
    assert client.types == ["sig.current"]
    assert (house.states.lookups, house.counters.acked) == ([], 0)


@pytest.mark.parametrize("kind", [EventType.WILL_EXPIRE, EventType.DELIVERED])
async def test_a_rooms_warning_or_delivery_is_none_of_the_users_sig(kind):
    house = House()
    client = await house.open()
    house.gateway.receive(0, [event(kind, room(), NOW)])
    await house.settle()
    assert client.types == ["sig.current"]
    assert (house.states.lookups, house.counters.acked) == ([], 0)


async def test_what_was_written_is_counted_once_for_each_client_that_took_it():
    house = House()
    clients = [await house.open() for _ in range(2)]
    counters = house.counters
    assert (counters.opened_total, counters.sent_total, counters.open) == (2, 2, 2)
    house.renew(user(), NOW + 9, bring=True)
    await house.settle()
    assert (counters.sent_total, counters.resent_total) == (4, 0)
    await house.pass_time(61)
    assert (counters.sent_total, counters.resent_total) == (4, 2)
    clients[0].blocked, clients[1].broken = True, True
    house.renew(user(), NOW + 61, bring=True)
    await house.settle()
    assert (counters.sent_total, counters.open, counters.dropped) == (4, 1, 1)
    clients[0].blocked = False
    await house.pass_time(2)
    assert (counters.sent_total, counters.resent_total, counters.behind) == (5, 2, 0)


async def test_what_comes_due_just_now_is_not_pushed_but_looked_up():
    house = House()
    client = await house.open_acked()
    made = sig(user(), NOW + 9, 30)
    newest = sig(user(), NOW + 10)
    house.states.put(newest)
    for now, issued in ((made.renew_at - 1, NOW + 9), (made.renew_at, NOW + 10)):
        house.clock.now = now
        one = made if issued == NOW + 9 else made._replace(issued_at=NOW + 10)
        news = event(EventType.RENEWED, user(), one.issued_at)
        house.gateway.receive(LAYOUT.shard(user()), [news], [values.encode(one)])
        await house.settle()
        assert client.issued[-1] == issued
    assert client.events[-1]["expires_at"] == newest.expires_at


async def test_a_heartbeat_or_a_warning_that_fails_ends_its_own_stream_only():
    house = House(heartbeat=1)
    transports = [MemoryTransport() for _ in range(3)]
    for n, transport in enumerate(transports):
        house.states.put(sig(user(f"u{n}")))
        stream = house.gateway.enter(user(f"u{n}"), transport)
        await house.gateway.open(stream, NOW, NOW)
    transports[0].broken = True
    await house.pass_time(1)
    transports[1].broken = True
    house.gateway.receive(0, [event(EventType.WILL_EXPIRE, user("u1"), NOW)])
    await house.pass_time(1)
    assert [t.was_cut for t in transports] == [True, True, False]
    assert [t.beats for t in transports] == [0, 1, 2]
    assert (house.counters.open, house.counters.dropped) == (1, 2)


async def test_who_leaves_before_its_turn_is_written_nothing_and_holds_up_nobody():
    house, transports, streams = House(), {}, {}
    for name in ("ann", "bob"):
        house.states.put(sig(user(name)))
        transports[name] = MemoryTransport()
        streams[name] = house.gateway.enter(user(name), transports[name])
        await house.gateway.open(streams[name], NOW, NOW)
        house.renew(user(name), NOW + 9, bring=True)
    for name in ("ann", "bob"):
        house.renew(user(name), NOW + 10, bring=True)
    house.gateway.leave(streams["ann"])
    await house.settle()
    assert [m.issued_at for m in transports["ann"].messages] == [NOW]
    assert [m.issued_at for m in transports["bob"].messages] == [NOW, NOW + 9, NOW + 10]


async def test_others_have_their_turn_between_two_batches(monkeypatch):
    house, pauses, seen = House(batch=1), [], []
    for n in range(8):
        await house.open_acked(f"u{n}")
        house.renew(user(f"u{n}"), NOW + 9)
    sleep = asyncio.sleep

    async def pause(seconds: float) -> None:
        pauses.append(seconds)
        await sleep(0)

    async def other() -> None:
        while len(house.states.lookups) < 8:
            seen.append(len(house.states.lookups))
            await sleep(0)

    monkeypatch.setattr(asyncio, "sleep", pause)
    await asyncio.gather(other(), house.gateway.settle())
    assert set(pauses) == {0}
    assert len(seen) >= 8 / LANES
