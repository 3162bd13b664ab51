"""The table of streams: heartbeats in their rhythm, wake-ups, and nothing left of who has gone."""

from __future__ import annotations

import pytest

from sigmgr.model.delivery import Delivery, Phase
from sigmgr.model.event import EventType
from sigmgr.push.table import Stream, StreamTable
from tests.push.fakes import NOW, House, MemoryTransport, event, user

EVERY = 20


def stream(beat_at: int) -> Stream:
    made = Stream(Delivery(user(), 0), MemoryTransport())
    made.beat_at = beat_at
    return made


def test_a_stream_beats_at_its_second_and_at_no_other():
    one = stream(NOW)
    beats = [second for second in range(NOW - 5, NOW + 50) if one.beats(second, EVERY, 0.5)]
    assert beats == [NOW, NOW + EVERY, NOW + 2 * EVERY]


@pytest.mark.parametrize("late", [1, EVERY - 1])
def test_a_little_late_it_goes_on_in_the_same_rhythm(late):
    one = stream(NOW)
    assert one.beats(NOW + late, EVERY, 0.0)
    assert one.beat_at == NOW + late + EVERY


@pytest.mark.parametrize(("draw", "after"), [(0.0, 1), (0.5, 11), (0.999, EVERY)])
def test_all_that_overslept_are_spread_over_the_next_interval(draw, after):
    """After a leap of the clock all of them beat in one second, but only once."""
    one, woken = stream(NOW), NOW + EVERY + 1
    assert one.beats(woken, EVERY, draw)
    assert one.beat_at == woken + after


def test_it_is_woken_for_whatever_comes_first():
    table = StreamTable(NOW, 5)
    one = stream(NOW + 7)
    table.add(one)
    table.schedule(one)
    one.beat_at = NOW + 3
    table.schedule(one)
    one.beat_at = NOW + 9
    table.schedule(one)
    assert [second for second in range(NOW, NOW + 10) if table.wheel.advance(second)] == [NOW + 3]


def test_for_one_more_an_open_stream_goes_before_one_that_still_opens():
    """Who opens was there first here: its client waits for an answer."""
    table = StreamTable(NOW, 2)
    opening, opened = stream(NOW), stream(NOW)
    opened.delivery.phase = Phase.OPEN
    for one in (opening, opened):
        table.add(one)
    assert table.over_limit(user()) == [opened]


async def test_nothing_is_left_of_who_has_gone():
    house = House()
    clients = [await house.open(name) for name in ("ann", "ann", "bob")]
    table = house.gateway.table
    await clients[1].hang_up()
    assert [len(table), len(table.of(user())), house.counters.open] == [2, 1, 2]
    for client in (clients[0], clients[2]):
        await client.hang_up()
    assert (len(table), list(table.all())) == (0, [])
    assert table._streams == table.wheel._slots == {}


async def test_who_goes_in_the_second_of_its_news_is_not_woken_again():
    house = House()
    client = await house.open()
    house.renew(user(), NOW + 9, bring=True)
    await house.settle()
    assert client.issued == [NOW, NOW + 9]
    await client.hang_up()
    await house.pass_time(2)
    assert house.gateway.table.wheel._slots == {}


async def test_a_client_that_is_behind_is_tried_each_second():
    house, transport, tried = House(heartbeat=20, patience=7), MemoryTransport(), []
    stream = house.gateway.enter(user(), transport)
    house.connect()
    await house.gateway.open(stream, NOW, NOW)
    house.gateway.acked(user(), NOW)
    transport.blocked = True
    transport.beat = lambda: bool(tried.append(house.clock()))
    house.renew(user(), NOW + 9, bring=True)
    await house.settle()
    await house.pass_time(6)
    assert tried == [NOW + n for n in range(1, 7)]
    assert (house.counters.behind, transport.was_cut) == (1, False)
    await house.pass_time(1)
    assert (house.counters.behind, transport.was_cut) == (0, True)


async def test_who_was_revoked_is_not_woken_again():
    house = House()
    client = await house.open()
    house.gateway.receive(0, [event(EventType.REVOKED, user(), NOW)])
    assert client.ended
    assert house.gateway.table.wheel._slots == {}
