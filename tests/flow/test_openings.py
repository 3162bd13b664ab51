"""Streams that open: the full state, nothing to whom it is no longer due."""

from __future__ import annotations

import pytest

from sigmgr.model import errors
from sigmgr.model.holder import Room
from sigmgr.model.sig import Current
from tests.flow.world import ALICE, APP, World


async def room_key(world: World, number: int) -> Current:
    return await world.flows.room_keys.current(
        APP, "alice", Room(id=number), privileges=255, ttl=None, now=world.clock()
    )


async def test_a_stream_gets_the_users_sig_first_and_then_the_rooms(world: World) -> None:
    sig = await world.flows.issue.current(ALICE, world.clock())
    keys = [await room_key(world, number) for number in (1, 2)]
    opened = await world.flows.deliver.opened(ALICE, sig.issued_at, world.clock())
    assert opened == [sig, *keys]


async def test_a_poll_asks_for_no_rooms(world: World) -> None:
    sig = await world.flows.issue.current(ALICE, world.clock())
    await room_key(world, 1)
    opened = await world.flows.deliver.opened(ALICE, sig.issued_at, world.clock(), rooms=False)
    assert opened == [sig]


async def test_a_ticket_from_before_a_revocation_opens_nothing(world: World) -> None:
    sig = await world.flows.issue.current(ALICE, world.clock())
    await world.flows.revoke.user(APP, "alice", world.clock())
    world.clock.advance(5)
    for rooms in (True, False):
        with pytest.raises(errors.TicketRevoked):
            await world.flows.deliver.opened(ALICE, sig.issued_at, world.clock(), rooms=rooms)
