"""The emergency lane begins at the policy's share of life, and a paused app is no exception."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sigmgr.model.policy import Policy
from sigmgr.model.sig import Reason
from tests.contract.store_kit import KINDS, url_of
from tests.flow.world import ALICE, APP, World, open_world


@pytest.fixture(params=KINDS)
async def paused(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    """A paused app whose emergencies begin at a tenth of life, and one sig of it."""
    url = url_of(request, request.param, tmp_path)
    async with open_world(tmp_path, Policy(emergency=0.10), url=url) as world:
        await world.flows.issue.current(ALICE, world.clock())
        await world.flows.publisher.flush()
        await world.catalog.set_app(APP, paused=True)
        await world.apps.refresh()
        yield world


@pytest.mark.parametrize("left", [0.09, 0.06, 0.04])
async def test_a_paused_app_renews_what_is_within_its_own_share(paused: World, left: float) -> None:
    record = await paused.row()
    paused.clock.now = record.expires_at - int(record.ttl * left)
    await paused.store.mark_seen([(ALICE, paused.clock())])
    assert (await paused.flows.renew.tick(paused.clock())).renewed == 1
    assert (await paused.row()).reason == Reason.EMERGENCY


async def test_a_paused_app_renews_nothing_before(paused: World) -> None:
    record = await paused.row()
    paused.clock.now = record.expires_at - int(record.ttl * 0.11)
    await paused.store.mark_seen([(ALICE, paused.clock())])
    assert (await paused.flows.renew.tick(paused.clock())).total == 0
    assert await paused.row() == record._replace(seen_at=paused.clock())
