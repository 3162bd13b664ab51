"""Whatever happens to events: every open stream ends with the newest sig, and none ever
goes back.

Events are told, repeated, reordered or lost; lookups fail; clients come, go, block, ack;
the clock steps. Then all is quiet, and time passes.
"""

from __future__ import annotations

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st

from sigmgr.model import errors
from sigmgr.model.event import EventType
from tests.push.fakes import NOW, Client, House, event, room, sig, user

NAMES = ("ann", "bob")

steps = st.lists(
    st.one_of(
        st.tuples(st.just("open"), st.sampled_from(NAMES), st.booleans()),
        st.tuples(st.just("close"), st.integers(0, 5)),
        st.tuples(st.just("renew"), st.sampled_from(NAMES), st.booleans()),
        st.tuples(st.just("room"), st.sampled_from(NAMES), st.booleans()),
        st.tuples(st.just("again"), st.integers(0, 20)),
        st.tuples(st.just("block"), st.integers(0, 5)),
        st.tuples(st.just("ack"), st.integers(0, 5)),
        st.tuples(st.just("fail"), st.integers(1, 3)),
        st.tuples(st.just("pass"), st.integers(1, 90)),
        st.tuples(st.just("step"), st.integers(-300, 300)),
        st.tuples(st.just("settle")),
        st.tuples(st.just("missed")),
    ),
    max_size=40,
)


class World:
    def __init__(self) -> None:
        self.house = House(shards=1, wide=3, patience=10**9)
        self.clients: list[tuple[str, Client]] = []
        self.told: list = []
        self.issued = NOW
        for name in NAMES:
            self.house.states.put(sig(user(name)))

    def some(self, n: int) -> list[tuple[str, Client]]:
        return self.clients[n : n + 1]

    def newer(self, holder, tell: bool) -> None:
        self.issued = max(self.issued + 1, self.house.clock())
        made = sig(holder, self.issued)
        self.house.states.put(made)
        said = event(EventType.RENEWED, holder, self.issued)
        self.told.append(said)
        if tell:
            brought = [self.house.values.encode(made)] if self.issued % 2 else [b""]
            self.house.gateway.heard(0, [said], brought)

    async def do(self, what: str, *args) -> None:
        house = self.house
        if what == "open":
            name, holds = args
            current = house.states.now[user(name)].issued_at
            claim = b"%d" % current if holds else b""
            self.clients.append((name, await house.open(name, claim)))
        elif what == "close":
            for pair in self.some(*args):
                pair[1].blocked = False
                await pair[1].hang_up()
                self.clients.remove(pair)
        elif what in {"renew", "room"}:
            name, tell = args
            self.newer(user(name) if what == "renew" else room(name), tell)
        elif what == "again":
            for said in self.told[args[0] :][:2]:
                house.gateway.heard(0, [said, said])
        elif what == "block":
            for _, client in self.some(*args):
                client.blocked = not client.blocked
        elif what == "ack":
            for name, client in self.some(*args):
                if client.issued:
                    house.gateway.acked(user(name), client.issued[-1])
        elif what == "fail":
            house.states.fail += [errors.StoreUnavailable()] * args[0]
        elif what == "pass":
            await house.pass_time(args[0])
        elif what == "step":
            house.clock.advance(args[0])
        elif what == "missed":
            house.gateway.missed(0)
        else:
            await house.settle()

    async def calm(self) -> None:
        """Blocks and faults end, what was lost is reported as missed, and time passes."""
        self.house.states.fail.clear()
        for _, client in self.clients:
            client.blocked = False
        self.house.gateway.missed(0)
        await self.house.pass_time(400)


def check_never_back(client: Client) -> None:
    sigs = client.issued
    assert sigs == sorted(sigs)
    keys = [e["issued_at"] for e in client.events if "private_map_key" in e]
    assert keys == sorted(set(keys))


async def play(script) -> None:
    world = World()
    # An opening that fails is a 503, not a stream; it has its own tests.
    for what, *args in script:
        if what == "open":
            world.house.states.fail.clear()
        await world.do(what, *args)
        for _, client in world.clients:
            check_never_back(client)
    await world.calm()
    for name, client in world.clients:
        check_never_back(client)
        newest = world.house.states.now
        assert not client.ended
        told = [e["issued_at"] for e in client.events if e["type"].startswith("sig.")]
        assert told[-1] == newest[user(name)].issued_at
        keys = [e["issued_at"] for e in client.events if "private_map_key" in e]
        if keys:
            assert keys[-1] == newest[room(name)].issued_at
    counters = world.house.counters
    assert counters.open == len(world.clients)
    assert (counters.behind, counters.expired_online) == (0, 0)
    for _, client in world.clients:
        await client.hang_up()
    assert counters.open == 0


@settings(max_examples=60, deadline=None)
@given(steps)
def test_every_stream_ends_with_the_newest_and_never_goes_back(script):
    asyncio.run(play(script))


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 99), st.sampled_from([30, 60, 600]), st.booleans())
def test_no_connected_client_ever_holds_an_expired_sig(seed, ttl, hears):
    """Rule 1, with or without events: a worker renews in time, the stream finds it."""

    async def live() -> None:
        house = House(draw=seed / 100)
        house.states.put(sig(user(), ttl=ttl))
        client = await house.open()
        for _ in range(3 * ttl):
            current = house.states.now[user()]
            if house.clock() >= current.renew_at:
                house.renew(user(), house.clock(), ttl, tell=hears)
            await house.pass_time(1)
            assert house.clock() < client.events[-1]["expires_at"]
            if seed % 2:
                house.gateway.acked(user(), client.issued[-1])
        assert house.counters.expired_online == 0
        assert len(set(client.issued)) >= 4
        await client.hang_up()

    asyncio.run(live())
