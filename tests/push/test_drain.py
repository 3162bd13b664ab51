"""A gateway that is stopped: byes in lots, the time to come back, and who is not there any more."""

from __future__ import annotations

import asyncio
import json

import pytest

from sigmgr.model import errors
from sigmgr.model.event import EventType
from sigmgr.push.admission import CROWDED_FOR
from sigmgr.push.table import Stream
from tests.push.fakes import NOW, House, MemoryTransport, event, sig, user


async def joined(house: House, name: str = "ann") -> tuple[MemoryTransport, Stream]:
    house.states.put(sig(user(name)))
    transport = MemoryTransport()
    stream = house.gateway.enter(user(name), transport)
    await house.gateway.open(stream, NOW, NOW)
    return transport, stream


def last_words(transport: MemoryTransport) -> dict:
    return json.loads(transport.messages[-1].payload)


class Pauses:
    """Stands for asyncio.sleep: how many had their last words at each pause, and its length."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, transports: list[MemoryTransport]) -> None:
        self.transports = transports
        self.ended: list[int] = []
        self.seconds: list[float] = []
        self.then = lambda: None
        monkeypatch.setattr(asyncio, "sleep", self.sleep)

    async def sleep(self, seconds: float) -> None:
        self.ended.append(sum(t.ended for t in self.transports))
        self.seconds.append(seconds)
        self.then()


@pytest.mark.parametrize(
    ("streams", "seconds", "ended"),
    [
        (0, 0.5, []),
        (4, 0.5, [1, 2, 3, 4]),
        (9, 0.5, [3, 6, 9]),
        (12, 0.5, [3, 6, 9, 12]),
        (4, 0.1, [4]),
        (4, 0, [4]),
    ],
)
async def test_last_words_are_said_in_equal_lots_that_end_in_time(
    monkeypatch, streams, seconds, ended
):
    house = House()
    transports = [(await joined(house, f"u{n}"))[0] for n in range(streams)]
    pauses = Pauses(monkeypatch, transports)
    await house.gateway.drain(seconds)
    assert pauses.ended == ended
    assert sum(pauses.seconds) <= seconds
    assert len(house.gateway.table) == 0


async def test_who_leaves_during_the_drain_is_told_nothing(monkeypatch):
    house = House()
    (first, _), (second, stream) = await joined(house, "a"), await joined(house, "b")
    pauses = Pauses(monkeypatch, [first, second])
    pauses.then = lambda: house.gateway.leave(stream)
    await house.gateway.drain(0.5)
    assert (first.ended, second.ended, second.was_cut) == (True, False, False)
    assert [m.kind for m in second.messages] == ["sig.current"]


async def test_who_takes_the_last_words_late_gets_them_and_who_never_does_is_cut(monkeypatch):
    house = House()
    (slow, _), (stuck, _) = await joined(house, "a"), await joined(house, "b")
    opening = MemoryTransport()
    house.gateway.enter(user("c"), opening)
    slow.blocked = stuck.blocked = True
    pauses = Pauses(monkeypatch, [slow, stuck])

    def then() -> None:
        slow.blocked = False

    pauses.then = then
    await house.gateway.drain(0.1)
    assert (slow.ended, slow.was_cut, last_words(slow)["reason"]) == (True, False, "drain")
    assert (stuck.ended, stuck.was_cut, stuck.error) == (False, True, None)
    assert opening.was_cut
    assert isinstance(opening.error, errors.Stopping)
    assert house.counters.dropped == 1
    assert (house.counters.open, house.counters.behind) == (0, 0)


@pytest.mark.parametrize(("draw", "after"), [(0.0, 1), (0.5, 6), (0.999, 10)])
async def test_who_is_sent_elsewhere_comes_back_at_a_time_of_its_own(draw, after):
    house = House(reconnect_within=10, max_streams=1)
    transport, _ = await joined(house)
    house.draw = draw
    with pytest.raises(errors.UnavailableError) as refused:
        house.gateway.enter(user("bob"), MemoryTransport())
    assert refused.value.retry_after == after
    await house.gateway.drain(0)
    assert last_words(transport) == {"type": "bye", "reason": "drain", "reconnect_after": after}


@pytest.mark.parametrize(("draw", "more"), [(0.0, 0.0), (0.5, 0.5), (0.99, 0.99)])
async def test_who_is_crowded_out_comes_back_within_a_minute_of_its_own(draw, more):
    house = House(max_per_user=1, draw=draw)
    transport, _ = await joined(house)
    opening = MemoryTransport()
    house.gateway.enter(user(), opening)
    house.gateway.enter(user(), MemoryTransport())
    after = CROWDED_FOR + int(CROWDED_FOR * more)
    assert last_words(transport)["reconnect_after"] == after
    assert opening.error.retry_after == after
    assert house.counters.crowded == 2


async def test_a_claim_to_a_sig_of_the_future_silences_no_stream():
    house = House()
    transport = MemoryTransport()
    house.states.put(sig(user()))
    stream = house.gateway.enter(user(), transport, NOW + 1)
    await house.gateway.open(stream, NOW, NOW + 1)
    house.renew(user(), NOW + 1, bring=True)
    await house.settle()
    assert [m.issued_at for m in transport.messages] == [NOW, NOW + 1]


async def test_who_takes_no_last_words_is_cut_when_the_patience_is_over():
    house = House(patience=5)
    transport, _ = await joined(house)
    transport.blocked = True
    house.gateway.receive(0, [event(EventType.REVOKED, user(), NOW)])
    assert (house.counters.behind, house.counters.open) == (1, 1)
    await house.pass_time(4)
    assert not transport.was_cut
    await house.pass_time(1)
    assert transport.was_cut
    assert (house.counters.behind, house.counters.open, house.counters.dropped) == (0, 0, 1)


async def test_a_connection_that_breaks_at_its_last_words_is_gone_at_once():
    house = House()
    transport, _ = await joined(house)
    transport.broken = True
    house.gateway.receive(0, [event(EventType.REVOKED, user(), NOW)])
    assert transport.was_cut
    assert (house.counters.open, house.counters.dropped) == (0, 1)
