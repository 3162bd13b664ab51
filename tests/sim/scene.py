"""One fleet, cloud and fake service together, with a clock moved by hand."""

from __future__ import annotations

import random
from contextlib import asynccontextmanager

from sigmgr.sim.cloud import Cloud
from sigmgr.sim.fleet import ClientFleet
from sigmgr.sim.stats import World
from sigmgr.testing import ManualClock
from tests.sim.kit import APP, NOW, SECRET, FakeService, serving, until

ALICE = (APP, "alice")
TTL = 30


class Scene:
    """One service, cloud and fleet. ``pass_time`` moves the clock and lets all act."""

    def __init__(self, service, cloud, fleet, clock):
        self.service, self.cloud, self.fleet, self.clock = service, cloud, fleet, clock
        self.stats = fleet.stats

    def pass_time(self, seconds):
        for _ in range(seconds):
            now = self.clock.advance(1)
            self.fleet.tick(now)
            self.cloud.tick(now)

    def client(self, user=ALICE):
        return next(c for c in self.fleet.clients if (c.state.sdkappid, c.state.userid) == user)

    async def streams(self, count=1):
        await until(lambda: self.stats.streams == count and self.fleet.snapshot().online == count)
        await until(lambda: sum(map(len, self.service.streams.values())) == count)

    async def until(self, condition):
        """Wait for it while the fleet ticks, at a time that stands still."""

        def met():
            self.fleet.tick(self.clock())
            return condition()

        await until(met)


@asynccontextmanager
async def scene(users=(ALICE,), *, start=True, **options):
    clock = ManualClock(NOW)
    service = FakeService(clock, TTL)
    cloud = Cloud()
    for sdkappid in {sdkappid for sdkappid, _ in users}:
        cloud.set_app(sdkappid, secrets=[SECRET])
    async with serving(service) as url:
        if "stream_urls" in options:
            options["stream_urls"] = [url + path for path in options["stream_urls"]]
        fleet = ClientFleet(
            users,
            World(
                cloud=cloud,
                clock=clock,
                base_urls=[url],
                token="backend-token",
                rng=random.Random(7),
                backoff_base=0.01,
                **options,
            ),
        )
        async with fleet:
            if start:
                fleet.start()
                await Scene(service, cloud, fleet, clock).streams(len(users))
            yield Scene(service, cloud, fleet, clock)
