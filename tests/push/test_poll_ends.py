"""The end of a poll, which comes once, whatever comes in the same moment."""

from __future__ import annotations

import asyncio
import gc

from sigmgr.model import errors
from sigmgr.push.poll import PollTransport
from tests.push.fakes import NOW, House, MemoryTransport, room, sig, user
from tests.push.test_crowds import polling, turns


async def test_an_answer_stands_whatever_else_comes_before_it_is_sent():
    house = House()
    poll = polling(house)
    await turns()
    for at in (NOW + 1, NOW + 2):
        house.renew(user(), at, bring=True)
        house.gateway._write_out()
    assert house.counters.dropped == 0
    assert (await poll).issued_at == NOW + 1


async def test_a_poll_that_has_its_answer_keeps_it_when_a_newer_one_takes_its_place():
    house = House(max_per_user=1)
    poll = polling(house)
    await turns()
    house.renew(user(), NOW + 1, bring=True)
    house.gateway._write_out()
    house.gateway.enter(user(), MemoryTransport())
    assert (await poll).issued_at == NOW + 1


async def test_one_that_was_refused_and_has_gone_leaves_no_complaint():
    complaints = []
    asyncio.get_running_loop().set_exception_handler(lambda _, what: complaints.append(what))
    transport = PollTransport(NOW)
    transport.cut(errors.TooManyStreams())
    del transport
    gc.collect()
    assert complaints == []


async def test_a_poll_asks_for_no_room_keys():
    house, asked = House(), []
    house.states.put(sig(user()), sig(room(), NOW + 5))
    opened = house.states.opened

    async def record(*what, **how):
        asked.append(how)
        return await opened(*what, **how)

    house.states.opened = record
    waiting = polling(house)
    await turns()
    assert await polling(house, wait=0) is None
    assert asked == [{"rooms": False, "held": NOW}] * 2
    waiting.cancel()
