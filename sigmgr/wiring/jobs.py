"""The periodic jobs of a serving process."""

from __future__ import annotations

from collections.abc import Callable

from sigmgr.http.services import WORKER
from sigmgr.scheduler import Job
from sigmgr.wiring.parts import Parts

#: Batches of each app in one tick of renewal.
_TURNS = 5


def jobs_of(parts: Parts, roles: frozenset[str], stopping: Callable[[], bool]) -> list[Job]:
    every, flows, base = parts.base.settings.scheduler, parts.flows, parts.base

    async def refresh(_: int) -> None:
        await base.apps.refresh()
        await base.ring.refresh()

    async def renew(now: int) -> None:
        # A few turns, so that work that has become due, emergencies first, need not wait.
        await flows.renew.tick(now, turns=_TURNS, stopping=stopping)

    async def relay(now: int) -> None:
        while await flows.relay.sweep(now):
            if stopping():
                return

    async def number(now: int) -> None:
        await flows.relay.number(now, stopping=stopping)

    async def measure(now: int) -> None:
        await flows.relay.measure(now)

    jobs = [
        Job("refresh", every.refresh_every, refresh),
        Job("seen", every.seen_every, flows.seen.flush),
        Job("count", every.refresh_every, flows.newcomers.measure),
    ]
    if WORKER in roles:
        jobs += [
            Job("renew", every.renew_every, renew),
            Job("relay", every.relay_every, relay),
            Job("number", every.relay_every, number),
            Job("warn", every.warn_every, flows.warn.tick),
            Job("reconcile", every.reconcile_every, flows.reconcile.step),
            Job("clean-up", every.clean_up_every, flows.reconcile.clean_up),
            Job("measure", every.reconcile_every, measure),
        ]
    return jobs
