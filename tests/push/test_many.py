"""A day of a gateway: many clients in memory, events lost and repeated, lookups that fail.

The rules of one stream have a machine of their own; here the parts around it are tried together.
"""

from __future__ import annotations

import asyncio
import json
import random

import pytest

from sigmgr.model import errors
from sigmgr.model.delivery import OPEN
from sigmgr.model.event import EventType
from tests.push.fakes import NOW, House, MemoryTransport, event, sig, user

USERS = 60


class Crowd:
    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.house = House(shards=1, wide=20, patience=10**9, max_per_user=3)
        self.house.gateway._draw = self.rng.random
        self.clients: list[tuple[str, MemoryTransport, object]] = []
        self.names = [f"u{n}" for n in range(USERS)]
        self.house.states.put(*(sig(user(name)) for name in self.names))

    async def come(self, name: str) -> None:
        transport = MemoryTransport()
        gateway = self.house.gateway
        stream = gateway.enter(user(name), transport)
        try:
            await gateway.open(stream, NOW, 0)
        except errors.SigmgrError:
            gateway.leave(stream)
        else:
            self.clients.append((name, transport, stream))

    async def hour(self) -> None:
        """Something happens to some."""
        rng, house, gateway = self.rng, self.house, self.house.gateway
        for name in rng.sample(self.names, rng.choice([1, 5, 40])):
            house.renew(
                user(name), house.clock(), announce=rng.random() < 0.7, bring=rng.random() < 0.5
            )
        for name in rng.sample(self.names, 5):
            await self.come(name)
        for _, transport, stream in rng.sample(self.clients, min(10, len(self.clients))):
            fate = rng.random()
            if fate < 0.2:
                gateway.leave(stream)
            elif fate < 0.3:
                transport.broken = True
            else:
                transport.blocked = not transport.blocked
        for name in rng.sample(self.names, 20):
            gateway.acked(user(name), house.states.now[user(name)].issued_at)
        if rng.random() < 0.3:
            house.states.fail += [errors.StoreUnavailable()] * 3
        again = [event(EventType.RENEWED, user(n), NOW) for n in rng.sample(self.names, 9)]
        gateway.receive(0, again)
        await house.pass_time(rng.choice([1, 30, 300]), step=rng.choice([1, 1, 10]))
        self.check()

    def check(self) -> None:
        counters = self.house.counters
        here = [(t, s) for _, t, s in self.clients if s in self.house.gateway.table]
        assert counters.open == len(self.house.gateway.table) == len(here)
        assert counters.behind == sum(s.behind_since > 0 for _, s in here)
        for name in self.names:
            there = self.house.gateway.table.of(user(name))
            assert sum(s.delivery.phase is OPEN for s in there) <= 3
        for _, transport, _ in self.clients:
            sigs = [m.issued_at for m in transport.messages if m.issued_at]
            assert sigs == sorted(sigs)

    async def calm(self) -> None:
        self.house.states.fail.clear()
        for _, transport, _ in self.clients:
            transport.blocked = False
        self.house.gateway.resync(0)
        await self.house.pass_time(400)
        self.check()


@pytest.mark.parametrize("seed", range(4))
async def test_every_client_that_is_here_ends_with_the_newest(seed):
    crowd = Crowd(seed)
    for name in crowd.names:
        await crowd.come(name)
    for _ in range(25):
        await crowd.hour()
    await crowd.calm()
    table, newest = crowd.house.gateway.table, crowd.house.states.now
    here = [(name, transport) for name, transport, stream in crowd.clients if stream in table]
    assert len(here) >= USERS
    for name, transport in here:
        assert transport.messages[-1].issued_at == newest[user(name)].issued_at
    counters = crowd.house.counters
    assert (counters.behind, counters.expired_online) == (0, 0)
    assert counters.dropped > 0


async def test_drain_gives_everybody_last_words_or_none():
    crowd = Crowd(7)
    for name in crowd.names:
        await crowd.come(name)
    crowd.clients[3][1].blocked = True
    crowd.clients[4][1].broken = True
    await asyncio.wait_for(crowd.house.gateway.drain(0.3), 1)
    for n, (_, transport, _) in enumerate(crowd.clients):
        assert transport.ended is (n not in {3, 4})
        assert transport.was_cut is (n in {3, 4})
    assert json.loads(crowd.clients[0][1].messages[-1].payload)["reason"] == "drain"
    assert crowd.house.counters.open == 0
    with pytest.raises(errors.Stopping):
        crowd.house.gateway.enter(user(), MemoryTransport())
