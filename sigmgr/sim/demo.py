"""The demo's main loop: cloud and clients in real time against a running service.

Rules:
1. Five times a second clients sign in where they must, then the cloud kicks expired sessions.
2. One status line a second; after a busy time, missed lines are left out.
3. It ends after ``seconds`` or when ``stop`` is set; acks under way get two more seconds.

What this module does not do: start a service, or know keys; ``cloud`` must know the apps.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from random import Random

from sigmgr.ports import Clock
from sigmgr.sim import display
from sigmgr.sim.cloud import Cloud
from sigmgr.sim.fleet import ClientFleet
from sigmgr.sim.stats import Stats, World

_TICK = 0.2
_STARTS_A_SECOND = 40


async def run_demo(
    *,
    base_urls: Sequence[str],
    token: str,
    apps: Sequence[int],
    cloud: Cloud,
    seconds: int | None,
    print_line: Callable[[str], None],
    clock: Clock,
    clients: int = 200,
    ttl: int = 30,
    ramp: float | None = None,
    rng: Random | None = None,
    stop: asyncio.Event | None = None,
) -> Stats:
    """Run and print; ``display.verdict`` of the answer is the exit status.

    ``token`` is a backend's, good for all ``apps``; ``seconds`` None runs until ``stop``;
    ``ramp`` None starts 40 clients a second.
    """
    users = [(apps[i % len(apps)], f"user-{i:04d}") for i in range(clients)]
    world = World(
        cloud=cloud,
        clock=clock,
        base_urls=base_urls,
        token=token,
        rng=rng or Random(),
        min_remaining=ttl // 10,
    )
    fleet = ClientFleet(users, world, ramp=clients / _STARTS_A_SECOND if ramp is None else ramp)
    _print(display.header(base_urls[0], clients, len(apps), ttl), print_line)
    stop = stop or asyncio.Event()
    async with fleet:
        fleet.start()
        elapsed = await _drive(fleet, cloud, clock, print_line, seconds=seconds, stop=stop)
        stats = await fleet.stop()
    _print(display.summary(elapsed, stats), print_line)
    return stats


def _print(lines: Sequence[str], print_line: Callable[[str], None]) -> None:
    for line in lines:
        print_line(line)


async def _drive(
    fleet: ClientFleet,
    cloud: Cloud,
    clock: Clock,
    print_line: Callable[[str], None],
    *,
    seconds: int | None,
    stop: asyncio.Event,
) -> int:
    """Rules 1 to 3; answers how many seconds it ran."""
    started = printed = clock()
    while not stop.is_set():
        now = clock()
        fleet.tick(now)
        cloud.tick(now)
        if now > printed:
            printed = now
            print_line(display.status_line(now - started, now, fleet.snapshot()))
        if seconds is not None and now - started >= seconds:
            break
        try:
            await asyncio.wait_for(stop.wait(), _TICK)
        except TimeoutError:
            continue
    return clock() - started
