"""The demo's loop against the scripted fake, in real time that runs twenty times as fast."""

from __future__ import annotations

import asyncio
import random

from sigmgr.sim import display
from sigmgr.sim.cloud import Cloud
from sigmgr.sim.demo import run_demo
from tests.sim.kit import APP, NOW, SECRET, FakeService, serving

SPEED = 20


class Setting:
    def __init__(self, ttl=60):
        self.ttl = ttl
        loop = asyncio.get_running_loop()
        begun = loop.time()
        self.clock = lambda: NOW + int((loop.time() - begun) * SPEED)
        self.service = FakeService(self.clock, ttl)
        self.cloud = Cloud()
        self.lines = []
        for sdkappid in (APP, APP + 1):
            self.cloud.set_app(sdkappid, secrets=[SECRET])

    async def renew_all(self, share=0.6):
        while True:
            await asyncio.sleep(0.02)
            for user, current in list(self.service.current.items()):
                if self.clock() - current["issued_at"] >= share * self.ttl:
                    self.service.renew(user)

    async def run(self, **options):
        async with serving(self.service) as url:
            return await run_demo(
                base_urls=[url],
                token="backend-token",
                apps=[APP, APP + 1],
                cloud=self.cloud,
                print_line=self.lines.append,
                clock=self.clock,
                clients=20,
                ttl=self.ttl,
                ramp=0.3,
                rng=random.Random(3),
                **options,
            )


async def test_a_demo_that_goes_well():
    setting = Setting()
    renewing = asyncio.create_task(setting.renew_all())
    stats = await setting.run(seconds=54)
    renewing.cancel()
    assert display.verdict(stats) == 0, setting.lines
    assert stats.online == 20
    assert stats.renewed >= 20
    assert stats.kicked == 0
    status = [line for line in setting.lines if "  online " in line]
    assert len({line[:5] for line in status}) == len(status) >= 5
    assert setting.lines[0].startswith("sigmgr demo: 20 emulated clients of 2 apps")
    assert setting.lines[-1].startswith("OK")


async def test_a_demo_without_renewals_fails():
    setting = Setting(ttl=20)
    stats = await setting.run(seconds=30)
    assert stats.kicked >= 1
    assert display.verdict(stats) == 1
    assert (
        setting.lines[-1] == f"FAILED: {stats.kicked} clients were kicked because their sig expired"
    )


async def test_stop_ends_it_at_once():
    setting, stop = Setting(), asyncio.Event()
    running = asyncio.create_task(setting.run(seconds=None, stop=stop))
    await asyncio.sleep(0.2)
    stop.set()
    stats = await asyncio.wait_for(running, 5)
    assert display.verdict(stats) == 1
    assert "no sig was renewed" in setting.lines[-1]
