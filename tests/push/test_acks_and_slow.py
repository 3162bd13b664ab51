"""Repeating until acked, and clients that are slow, broken or many at once."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

from sigmgr.model.event import EventType
from sigmgr.model.policy import Policy
from sigmgr.push.sse import PAST_KEY
from tests.push.fakes import LAYOUT, NOW, Client, House, event, sig, ticket, user

# -- acks and the resend ladder ----------------------------------------------------------


async def test_resend_until_acked():
    house = House()
    client = await house.open("ann", b"%d" % NOW)
    house.renew(user(), NOW + 9)
    await house.settle()
    await house.pass_time(59)
    assert client.issued == [NOW + 9]
    await house.pass_time(2)
    assert client.issued == [NOW + 9] * 2
    await house.pass_time(301)
    assert client.issued == [NOW + 9] * 3
    house.gateway.acked(user(), NOW + 9)
    await house.pass_time(4000, step=20)
    assert client.issued == [NOW + 9] * 3
    assert (house.counters.resent_total, house.counters.acked) == (2, 1)


async def test_the_ladder_goes_on_with_doubling_steps():
    house = House()
    client = await house.open()
    await house.pass_time(60 + 300 + 1800 + 3600 + 7200 + 100, step=20)
    assert len(client.issued) == 6


async def test_an_ack_received_from_another_process_ends_the_ladder_for_all_devices():
    house = House()
    clients = [await house.open(), await house.open()]
    house.gateway.receive(0, [event(EventType.DELIVERED, user(), NOW)])
    await house.pass_time(400, step=20)
    assert [c.issued for c in clients] == [[NOW], [NOW]]
    assert house.counters.acked == 2


async def test_an_old_or_unknown_ack_ends_nothing():
    house = House()
    client = await house.open()
    house.renew(user(), NOW + 9)
    await house.settle()
    house.gateway.acked(user(), NOW)
    house.gateway.acked(user(), NOW + 900)
    house.gateway.acked(user("bob"), NOW)
    await house.pass_time(61)
    assert client.issued == [NOW, NOW + 9, NOW + 9]


async def test_a_delivery_elsewhere_of_a_newer_sig_is_news():
    house = House()
    client = await house.open()
    house.renew(user(), NOW + 9, announce=False)
    house.gateway.receive(0, [event(EventType.DELIVERED, user(), NOW + 9)])
    await house.settle()
    assert client.issued == [NOW, NOW + 9]


# -- slow and broken clients -------------------------------------------------------------


async def test_a_slow_client_gets_the_latest_only():
    house = House()
    client = await house.open()
    client.blocked = True
    for n in range(1, 6):
        house.renew(user(), NOW + n)
        await house.settle()
    assert house.counters.behind == 1
    client.blocked = False
    await house.pass_time(3)
    assert client.issued == [NOW, NOW + 5]
    assert house.counters.behind == 0


async def test_a_slow_client_is_caught_up_with_where_no_event_came():
    house = House()
    client = await house.open_acked()
    house.renew(user(), NOW + 1, announce=False)
    client.blocked = True
    house.gateway.resync(LAYOUT.shard(user()))
    await house.pass_time(2)
    assert house.counters.behind == 1
    client.blocked = False
    await house.pass_time(5)
    assert client.issued == [NOW, NOW + 1]


async def test_who_stays_behind_is_cut_off():
    house = House(patience=60)
    client, other = await house.open(), await house.open("bob")
    client.blocked = True
    house.renew(user(), NOW + 1)
    await house.settle()
    await house.pass_time(59)
    assert not client.task.done()
    await house.pass_time(3)
    assert client.task.done()
    await client.task
    assert not other.task.done()
    assert (house.counters.dropped, house.counters.open, house.counters.behind) == (1, 1, 0)


async def test_a_slow_client_still_learns_of_its_revocation():
    house = House()
    client = await house.open()
    client.blocked = True
    house.gateway.receive(0, [event(EventType.REVOKED, user(), NOW + 5)])
    house.renew(user(), NOW + 9)
    await house.pass_time(3)
    client.blocked = False
    await house.pass_time(2)
    assert client.types == ["sig.current", "sig.revoked"]
    assert client.ended


async def test_a_send_that_raises_ends_its_own_stream_only():
    house = House()
    clients = [await house.open(f"u{n}") for n in range(3)]
    clients[1].broken = True
    for n in range(3):
        house.renew(user(f"u{n}"), NOW + 9)
    await house.settle()
    assert [c.task.done() for c in clients] == [False, True, False]
    await clients[1].task
    assert [c.issued[-1] for c in clients] == [NOW + 9, NOW, NOW + 9]


# -- waves -------------------------------------------------------------------------------


async def test_a_wide_wave_is_spread_over_the_splay():
    house = House(wide=10)
    clients = [await house.open_acked(f"u{n}") for n in range(40)]
    draws = iter(range(10**6))
    house.gateway._draw = lambda: (next(draws) * 0.137) % 1
    for n in range(40):
        house.renew(user(f"u{n}"), NOW + 1)
    await house.settle()
    done = [sum(c.issued[-1] == NOW + 1 for c in clients)]
    for _ in range(4):
        await house.pass_time(75)
        done.append(sum(c.issued[-1] == NOW + 1 for c in clients))
    await house.pass_time(2)
    assert done[0] == 10
    assert done == sorted(done)
    assert 10 < done[1] < 35
    assert all(c.issued[-1] == NOW + 1 for c in clients)


async def test_a_wide_wave_leaves_nobody_waiting_into_the_emergency():
    house = House(wide=1, policy=Policy(splay=5_000_000))
    house.states.put(sig(user("late"), ttl=1000))
    first, late = await house.open("ann"), await house.open("late")
    house.clock.now = NOW + 960
    house.renew(user("ann"), NOW + 960)
    house.renew(user("late"), NOW + 960, 1000)
    await house.settle()
    assert first.issued[-1] == late.issued[-1] == NOW + 960


async def test_urgent_lookups_go_first():
    house = House(batch=1)
    house.states.put(sig(user("late"), ttl=1000))
    for name in ("a", "b", "late"):
        await house.open(name)
    house.clock.now = NOW + 980
    for name in ("a", "b", "late"):
        house.renew(user(name), NOW + 980)
    await house.settle()
    assert house.states.lookups[0] == [user("late")]


async def test_a_stream_goes_past_the_send_and_ends_its_connection_where_the_server_offers_it():
    house, past, ends = House(), [], []
    house.states.put(sig(user()))

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope[PAST_KEY] = SimpleNamespace(
            chunked=True,
            write=lambda body: not past.append(body),
            cut=lambda: ends.append(True),
        )
        await house.stream(scope, receive, send)

    client = Client(app, ticket())
    for _ in range(5):
        await asyncio.sleep(0)
    house.renew(user(), NOW + 9)
    await house.settle()
    assert client.issued == [NOW]
    assert [b"%d" % (NOW + 9) in body for body in past] == [True]
    [stream] = house.gateway.table.all()
    assert not ends
    house.gateway._writer.cut(stream)
    await client.task
    assert ends == [True]
