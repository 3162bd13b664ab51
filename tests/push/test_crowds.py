"""Many streams and polls of one user: the oldest go, others notice nothing."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sigmgr.model import errors
from sigmgr.model.event import EventType
from sigmgr.push.admission import CROWDED_FOR
from tests.push.fakes import NOW, TICKETS, House, event, sig, ticket, user


def polling(house, name="ann", held=NOW, wait=30):
    if user(name) not in house.states.now:
        house.states.put(sig(user(name)))
    opened = TICKETS.open(ticket(name), NOW)
    return asyncio.ensure_future(house.polls.newer(opened, held, wait))


async def turns(number=8):
    for _ in range(number):
        await asyncio.sleep(0)


# -- what a poll receives ----------------------------------------------------------------


async def test_a_poll_is_answered_at_once_where_it_holds_an_older_sig():
    house = House()
    news = await polling(house, held=NOW - 1)
    assert news.issued_at == NOW
    assert b'"sig.current"' in news.payload
    assert house.counters.open == 0


@pytest.mark.parametrize("bring", [True, False])
async def test_a_poll_ends_with_what_the_gateway_receives(bring):
    house = House()
    poll, other = polling(house), polling(house, "bob")
    await turns()
    assert house.counters.open == 2
    house.renew(user(), NOW + 9, bring=bring)
    await house.settle()
    assert (await poll).issued_at == NOW + 9
    assert len(house.states.lookups) == (0 if bring else 1)
    assert not other.done()
    assert house.counters.open == 1
    other.cancel()
    await turns()
    assert house.counters.open == 0


async def test_what_comes_while_its_state_is_asked_for_is_not_lost():
    house = House()
    house.states.gate = asyncio.Event()
    poll = polling(house)
    await turns()
    house.renew(user(), NOW + 9)
    house.states.gate.set()
    await turns()
    await house.settle()
    assert (await poll).issued_at == NOW + 9


async def test_polls_of_one_user_share_a_lookup_and_quiet_ones_ask_for_none():
    house = House()
    polls = [polling(house) for _ in range(20)]
    await turns()
    await house.pass_time(59)
    assert house.states.lookups == []
    house.renew(user(), NOW + 9)
    await house.settle()
    assert {news.issued_at for news in await asyncio.gather(*polls)} == {NOW + 9}
    assert house.states.lookups == [[user()]]


async def test_a_poll_looks_by_itself_where_its_sig_is_due():
    house = House()
    house.states.put(sig(user(), ttl=30))
    poll = polling(house)
    await turns()
    await house.pass_time(19)
    house.renew(user(), NOW + 19, 30, announce=False)
    await house.pass_time(5)
    assert (await poll).issued_at == NOW + 19


async def test_warnings_rooms_and_heartbeats_end_no_wait():
    house = House(heartbeat=1)
    poll = polling(house)
    await turns()
    warning = event(EventType.WILL_EXPIRE, user(), NOW)
    room_key = event(EventType.ISSUED, user()._replace(kind="room", scope="id:7"), NOW + 1)
    house.states.put(sig(room_key.holder, NOW + 1))
    house.gateway.receive(0, [warning, room_key])
    await house.pass_time(5)
    assert not poll.done()
    assert house.counters.behind == 0
    poll.cancel()


async def test_a_revocation_ends_the_wait_with_a_refusal():
    house = House()
    poll = polling(house)
    await turns()
    house.states.gone.add(user())
    house.gateway.receive(0, [event(EventType.REVOKED, user(), NOW)])
    assert (house.counters.open, house.counters.behind) == (0, 0)
    with pytest.raises(errors.TicketRevoked):
        await poll


async def test_a_wait_ends_after_its_time_without_news():
    house = House()
    assert await polling(house, wait=0) is None
    assert house.counters.opened_total == 0
    assert await polling(house, wait=0.01) is None
    assert house.counters.open == 0


async def test_draining_ends_all_waits_and_new_ones_at_once():
    house = House()
    polls = [polling(house, f"u{n}") for n in range(5)]
    await turns()
    house.states.gate = asyncio.Event()
    opening = polling(house, "late")
    await turns()
    draining = asyncio.ensure_future(house.gateway.drain(0.05))
    assert await asyncio.gather(*polls) == [None] * 5
    house.states.gate.set()
    await draining
    assert await opening is None
    assert await polling(house) is None
    assert (await polling(house, held=0)).issued_at == NOW
    assert house.counters.open == 0


# -- limits ------------------------------------------------------------------------------


async def test_for_one_stream_more_the_oldest_goes_with_a_reason():
    house = House(max_per_user=3)
    clients = [await house.open() for _ in range(3)]
    other = await house.open("bob")
    newest = await house.open()
    assert [c.ended for c in (*clients, newest, other)] == [True, False, False, False, False]
    bye = clients[0].events[-1]
    assert (bye["type"], bye["reason"]) == ("bye", "too-many")
    assert CROWDED_FOR <= bye["reconnect_after"] <= 2 * CROWDED_FOR
    assert clients[0].headers[b"connection"] == b"close"
    assert (house.counters.open, house.counters.crowded) == (4, 1)


async def test_streams_and_polls_count_together_and_the_oldest_of_both_goes():
    house = House(max_per_user=2)
    poll = polling(house)
    await turns()
    first = await house.open()
    second = await house.open()
    with pytest.raises(errors.TooManyStreams) as refused:
        await poll
    assert CROWDED_FOR <= refused.value.retry_after <= 2 * CROWDED_FOR
    assert not first.ended
    third = polling(house)
    await turns()
    assert first.ended
    assert not second.ended
    third.cancel()


async def test_where_all_are_opening_the_oldest_gets_an_error():
    house = House(max_per_user=2)
    house.states.gate = asyncio.Event()
    clients = [house.connect() for _ in range(5)]
    await turns()
    assert [c.status for c in clients] == [429, 429, 429, 0, 0]
    assert int(clients[0].headers[b"retry-after"]) >= CROWDED_FOR
    assert b"too-many-streams" in clients[0].body
    house.states.gate.set()
    await turns()
    assert [c.status for c in clients[3:]] == [200, 200]
    assert house.counters.open == 2


async def test_a_poll_whose_state_is_asked_for_can_be_the_oldest():
    house = House(max_per_user=1)
    house.states.gate = asyncio.Event()
    poll = polling(house)
    await turns()
    client = house.connect()
    await turns()
    house.states.gate.set()
    with pytest.raises(errors.TooManyStreams):
        await poll
    await turns()
    assert client.status == 200


async def test_who_takes_no_last_words_does_not_pile_up():
    house = House(max_per_user=2)
    clients = []
    for _ in range(12):
        clients.append(await house.open())
        clients[-1].blocked = True
    assert house.counters.open <= 4
    for client in clients:
        client.blocked = False
    await house.pass_time(2)
    assert house.counters.open == 2


async def test_last_words_that_are_not_taken_cost_nobody_else_the_place():
    house = House(max_per_user=2)
    deaf, second = await house.open(), await house.open()
    deaf.blocked = True
    third = await house.open()
    await second.hang_up()
    fourth = await house.open()
    assert [c.ended for c in (third, fourth)] == [False, False]
    assert (house.counters.crowded, house.counters.behind) == (1, 1)
    deaf.blocked = False
    house.renew(user(), NOW + 9, bring=True)
    await house.pass_time(1)
    assert deaf.types == ["sig.current", "bye"]
    assert (third.issued[-1], house.counters.behind) == (NOW + 9, 0)


async def test_of_those_who_take_no_last_words_the_oldest_goes_and_others_still_get_theirs():
    house = House(max_per_user=2)
    deaf = []
    for _ in range(2):
        deaf.append(await house.open())
        deaf[-1].blocked = True
    for _ in range(2):
        await house.open()
    assert [c.task.done() for c in deaf] == [False, False]
    await house.open()
    assert [c.task.done() for c in deaf] == [True, False]
    deaf[1].blocked = False
    await house.pass_time(1)
    assert deaf[1].events[-1]["reason"] == "too-many"
    assert (house.counters.crowded, house.counters.dropped, house.counters.open) == (3, 1, 2)


async def test_a_poll_over_the_limit_of_all_is_unavailable():
    house = House(max_streams=2)
    await house.open("a")
    poll = polling(house, "b")
    await turns()
    with pytest.raises(errors.UnavailableError) as refused:
        await polling(house, "c")
    assert 1 <= refused.value.retry_after <= 10
    assert (await house.open("d")).status == 503
    # Who asks without waiting needs no place; who has one may change it.
    assert (await polling(house, "c", held=0, wait=0)).issued_at == NOW
    poll.cancel()


async def test_a_user_at_the_limit_gets_in_where_all_is_full():
    house = House(max_streams=2, max_per_user=1)
    old = await house.open("a")
    await house.open("b")
    assert (await house.open("a")).status == 200
    assert old.ended


STEP = st.tuples(st.sampled_from("sp"), st.sampled_from("ab"), st.booleans())


@given(st.lists(STEP, max_size=40), st.integers(1, 4))
def test_the_newest_is_always_in_and_nobody_has_more_than_the_limit(steps, most):
    """``s`` opens a stream, ``p`` a poll; the flag hangs the oldest of that user up."""

    async def run():
        house = House(max_per_user=most)
        open_: dict[str, list] = {"a": [], "b": []}
        for kind, name, hang_up in steps:
            mine = open_[name]
            new = await house.open(name) if kind == "s" else polling(house, name)
            await turns()
            assert (new.status == 200 and not new.ended) if kind == "s" else not new.done()
            mine.append(new)
            alive = [one for one in mine if not gone(one)]
            assert len(alive) <= most
            # Those that went are the oldest.
            assert alive == mine[len(mine) - len(alive) :]
            if hang_up:
                oldest = alive[0]
                await oldest.hang_up() if not isinstance(oldest, asyncio.Future) else stop(oldest)
                mine.remove(oldest)
            await turns()
            assert house.counters.open == sum(not gone(o) for m in open_.values() for o in m)
        for one in (*open_["a"], *open_["b"]):
            stop(one) if isinstance(one, asyncio.Future) else await one.hang_up()
        await turns()
        assert house.counters.open == 0

    asyncio.run(run())


def stop(poll):
    poll.cancel() if not poll.done() else poll.exception()


def gone(one):
    return one.done() if isinstance(one, asyncio.Future) else one.ended
