"""The clock of the streams, and the end of a gateway."""

from __future__ import annotations

import asyncio

import pytest

from sigmgr.model.policy import Policy
from tests.push.fakes import NOW, House, MemoryTransport, room, sig, user

# -- the clock ---------------------------------------------------------------------------


async def test_heartbeats_are_spread_and_regular():
    house = House(heartbeat=20)
    clients = []
    for n in range(40):
        house.draw = n / 40
        clients.append(await house.open(f"u{n}", b"%d" % NOW))
    house.draw = 0.5
    per_second = []
    for _ in range(40):
        before = sum(c.beats for c in clients)
        await house.pass_time(1)
        per_second.append(sum(c.beats for c in clients) - before)
    assert max(per_second) <= 3
    assert all(c.beats == 2 for c in clients)


@pytest.mark.parametrize(("draw", "first"), [(0.0, 1), (0.5, 11), (0.999, 20)])
async def test_the_first_heartbeat_comes_within_an_interval(draw, first):
    house = House(heartbeat=20, draw=draw)
    client = await house.open_acked()
    await house.pass_time(first - 1)
    assert client.beats == 0
    await house.pass_time(1)
    assert client.beats == 1
    await house.pass_time(19)
    assert client.beats == 1
    await house.pass_time(1)
    assert client.beats == 2


@pytest.mark.parametrize("jump", [-600, 600, -86400, 86400])
async def test_a_step_of_the_clock_stalls_no_heartbeat_and_no_delivery(jump):
    house = House()
    client = await house.open()
    await house.pass_time(30)
    house.clock.advance(jump)
    before = client.beats
    await house.pass_time(41)
    assert client.beats - before >= 2
    house.renew(user(), NOW + 50)
    await house.settle()
    assert client.issued[-1] == NOW + 50
    assert not client.ended


async def test_connected_users_are_marked_as_seen():
    house = House()
    house.states.put(sig(user("short"), ttl=600))
    await house.open("short")
    every = Policy().durations(600).mark_seen_every
    await house.pass_time(every * 3 + 1)
    assert house.states.marked == [user("short")] * 3


async def test_a_room_has_its_holder_marked_more_often():
    house = House()
    await house.open()
    house.renew(room(), NOW, 21600)
    await house.settle()
    await house.pass_time(Policy().durations(21600).mark_seen_every + 1, step=1)
    assert house.states.marked == [user()]


# -- draining ----------------------------------------------------------------------------


async def test_drain_sends_bye_and_ends_every_response():
    house = House()
    clients = [await house.open(f"u{n}") for n in range(20)]
    clients[3].blocked = True
    await asyncio.wait_for(house.gateway.drain(0.5), 1)
    await asyncio.sleep(0)
    for n, client in enumerate(clients):
        assert client.task.done()
        if n != 3:
            assert client.ended
            answer = client.events[-1]
            assert (answer["type"], answer["reason"]) == ("bye", "drain")
            assert answer["reconnect_after"] >= 1
    assert house.counters.open == 0
    late = house.connect("late")
    await late.task
    assert late.status == 503


async def test_a_stream_that_opens_while_draining_is_sent_elsewhere():
    house = House()
    house.states.gate = asyncio.Event()
    client = await house.open()
    drain = asyncio.ensure_future(house.gateway.drain(0))
    house.states.gate.set()
    await drain
    await asyncio.wait_for(client.task, 1)
    assert client.status in {0, 503}
    assert house.counters.open == 0


async def test_a_stream_that_still_opens_at_the_end_of_a_drain_is_refused():
    house = House()
    house.states.gate = asyncio.Event()
    client = await house.open()
    await house.gateway.drain(0)
    await asyncio.wait_for(client.task, 1)
    assert client.status == 503
    assert b"stopping" in client.body
    assert b"retry-after" in client.headers
    assert house.counters.open == 0


async def test_the_tasks_run_and_stop():
    house = House()
    client = await house.open()
    house.gateway.start()
    house.gateway.start()
    house.renew(user(), NOW + 9)
    await asyncio.sleep(0.05)
    assert client.issued == [NOW, NOW + 9]
    await house.gateway.aclose()
    await house.gateway.aclose()
    assert [task for task in asyncio.all_tasks() if task.get_name() == "gateway"] == []
    assert (await house.open("bob")).status == 503
    await client.hang_up()


async def test_the_clock_ticks_each_second_and_outlives_a_tick_that_fails(monkeypatch):
    house, transport, pauses = House(heartbeat=1), MemoryTransport(), []
    house.states.put(sig(user()))
    stream = house.gateway.enter(user(), transport)
    await house.gateway.open(stream, NOW, NOW)
    tick, sleep = house.gateway.tick, asyncio.sleep

    async def second(seconds: float) -> None:
        pauses.append(seconds)
        await sleep(0)
        if len(pauses) == 6:
            await asyncio.Event().wait()
        house.clock.advance(1)

    def failing(now: int) -> None:
        if now == NOW + 2:
            raise RuntimeError("a fault of mine")
        tick(now)

    monkeypatch.setattr(house.gateway, "tick", failing)
    monkeypatch.setattr(asyncio, "sleep", second)
    house.gateway.start()
    while len(pauses) < 6:
        await sleep(0)
    await house.gateway.aclose()
    assert pauses == [1] * 6
    assert transport.beats == 4
