"""The simulation in virtual time: real flows, store and cache with faults and clock skew.

A run drives emulated users through hundreds of days in a minute or two. Faults hit every port
(``faults``, ``fault_schedule``), and Redis is wiped now and then. The invariant checker checks the
rules at each commit; this module checks those that concern users:

1. no connected user's session ends by an expired sig while the service can be reached (a user that
   came in an outage with a sig that expired in it is counted apart);
5. nobody gets a sig with less than ``min_remaining`` while nothing failed in the call;
11. at the end, without faults, everything due is renewed and announced; before that no connected
    user comes into the emergency without a renewal;
16. a user never gets a sig older than one it has acked.

What this module does not do: test sockets, several processes or real servers; scenarios do.
"""

from __future__ import annotations

import asyncio
import heapq
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Any

from sigmgr.flow.assembly import Flows, Ports, assemble
from sigmgr.flow.look import Look
from sigmgr.flow.revocations import Revocations
from sigmgr.model import errors
from sigmgr.model.event import EventType
from sigmgr.model.holder import Holder
from sigmgr.model.sig import Current
from sigmgr.sim.cloud import Cloud
from sigmgr.sim.fault_schedule import FaultSchedule
from sigmgr.sim.faults import Crash, Faults, FlakySigner, Tap
from sigmgr.sim.invariants import InvariantChecker, Violation
from sigmgr.sim.people import DAY, Crowd, Person
from sigmgr.testing import Faulty, ManualClock

STEP = 4 * 3600
#: Tries of a rescue in a step of four hours; a gateway tries far more often.
RESCUES = 3


@dataclass(slots=True)
class Report:
    """The results of a run. ``ok`` is the verdict.

    ``kicked``: users kicked against the promise. ``past_help``: users kicked after the signer or
    the store was out from the moment they signed in until their sig expired.
    """

    seed: int
    days: int
    holders: int
    issued: int = 0
    failures: int = 0
    delivered: int = 0
    acked: int = 0
    kicked: int = 0
    past_help: int = 0
    faults: int = 0
    crashes: int = 0
    wipes: int = 0
    refused: dict[int, int] = field(default_factory=dict)
    violations: list[Violation] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not self.violations and self.kicked == 0 and self.delivered > 0


class Simulation:
    """One run. ``seed`` determines everything; ``start`` is its first virtual second. ``ports``:
    the real ones, around which each worker has faults, and a draw and revocations of its own;
    ``wipe`` empties Redis."""

    def __init__(
        self,
        ports: Ports,
        wipe: Callable[[], Awaitable[None]],
        cloud: Cloud,
        *,
        seed: int,
        days: int = 400,
        holders: int = 2000,
        start: int = 2_000_000_000,
        progress: Callable[[int, Report], None] = lambda day, report: None,
    ) -> None:
        self._ports = ports
        self._wipe = wipe
        self._cloud = cloud
        self._rng = random.Random(seed)
        self._true = start
        self._end = start + days * DAY
        self._clock = ManualClock(start)
        self._faults = Faults(random.Random(seed + 1))
        self._schedule = FaultSchedule(self._faults, self._rng, start, self._end)
        self._invariants = InvariantChecker(ports.store, self._clock)
        self._tap = Tap(ports.announcer)
        self._crowd = Crowd.drawn(
            sorted(app.sdkappid for app in ports.registry.apps()), holders, self._rng
        )
        self._emergency = {
            app.sdkappid: app.policy.durations(app.policy.ttl).emergency
            for app in ports.registry.apps()
        }
        self._agenda: list[tuple[int, Holder]] = []
        self._looking: list[Person] = []
        self._opened: list[Person] = []
        self._progress = progress
        self.report = Report(seed=seed, days=days, holders=holders)
        self._flows = self._start_worker()

    # -- the run -------------------------------------------------------------------------

    async def run(self) -> Report:
        """Run all days; the report contains every violation found."""
        asyncio.get_running_loop().set_exception_handler(_crashed_aside)
        for person in self._crowd.people.values():
            self._plan_visit(person, self._true + int(self._rng.random() * 20 * DAY))
        step = 0
        while self._true < self._end:
            step += 1
            self._true += STEP
            self._schedule.step(self._true)
            self._clock.now = self._true + self._schedule.skew
            await self._jobs(step)
            await self._people()
            self._watch()
            if step % 6 == 0:
                await self._see()
                self._progress(step * STEP // DAY, self._sum_up())
        await self._check_backlog()
        return self._sum_up()

    async def _see(self) -> None:
        """What gateways do by themselves, here once a day: mark users of open streams as seen, and
        look for sigs whose renewal time has passed."""
        here = [p.user for p in self._crowd.people.values() if p.connected]
        now = self._clock()
        await self._try(lambda: self._flows.deliver.mark_seen(here, now))
        late = [
            person.user
            for person in self._crowd.people.values()
            if person.connected and person.held and self._true >= person.held.renew_at
        ]
        if late:
            await self._deliver(late)

    def _start_worker(self) -> Flows:
        """A new worker process: flows with empty memory."""
        ports, plan = self._ports, self._faults.plan
        looks = Faulty(ports.looks, plan, "looks")
        signer = FlakySigner(ports.signer, self._faults)
        revocations = Revocations(lambda: self._true, grace=60)
        self._look = Look(
            looks=looks, revocations=revocations, signer=signer, monotonic=lambda: self._true
        )
        return assemble(
            replace(
                ports,
                store=Faulty(self._invariants, plan, "store"),
                looks=looks,
                outbox=Faulty(ports.outbox, plan, "outbox"),
                janitor=Faulty(ports.janitor, plan, "janitor"),
                cache=Faulty(ports.cache, plan, "cache"),
                announcer=Faulty(self._tap, plan, "cache"),
                signer=signer,
                draw=self._rng.random,
                revocations=revocations,
            ),
            batch=500,
            gather_acks_for=0.0,
        )

    async def _jobs(self, step: int) -> None:
        flows, now = self._flows, self._clock()
        if self._rng.random() < 0.004:
            await self._wipe()
            self.report.wipes += 1
        await self._try(lambda: self._look.once(now))
        await self._try(lambda: flows.renew.tick(now))
        await self._try(lambda: self._flows.relay.sweep(now, grace=0))
        if step % 2 == 0:
            await self._try(lambda: self._flows.warn.tick(now))
        if step % 6 == 0:
            await self._try(lambda: self._flows.reconcile.step(now))
            await self._try(lambda: self._flows.seen.flush(now))
            await self._try(lambda: self._flows.reconcile.clean_up(now))
        await self._try(self._flows.publisher.flush)

    async def _try(self, call: Callable[[], Awaitable[Any]]) -> Any:
        """Call; None where it failed. A crash, also in a background task such as the writer of
        acks, starts the worker again."""
        try:
            return await call()
        except errors.NeverIssued as error:
            self._invariants.report(16, f"a claim of a held sig was refused: {error.text}")
            return None
        except (errors.SigmgrError, Crash):
            return None
        finally:
            if self._faults.count["crash"] > self.report.crashes:
                self.report.crashes = self._faults.count["crash"]
                self._flows = self._start_worker()

    # -- people --------------------------------------------------------------------------

    async def _people(self) -> None:
        """Deliver to streams what was announced; run the appointments that are due."""
        announced, self._tap.announced = self._tap.announced, []
        wanted = {
            event.holder
            for event in announced
            if event.type in (EventType.ISSUED, EventType.RENEWED)
            and event.holder in self._crowd.people
            and self._rng.random() >= 0.05
        }
        wanted = {user for user in wanted if self._crowd.people[user].connected}
        if wanted:
            await self._deliver(sorted(wanted))
        while self._agenda and self._agenda[0][0] <= self._true:
            _, user = heapq.heappop(self._agenda)
            await self._act(self._crowd.people[user])
        await self._gateway()
        if self._rng.random() < 0.9:
            # Otherwise a sweep comes first, and these are announced twice.
            await self._try(self._flows.publisher.flush)

    async def _gateway(self) -> None:
        """The stream timers of this step. Acks of one moment are written together, as usual."""
        looking, self._looking = self._looking, []
        if looking:
            await self._deliver([person.user for person in looking])
        late = [person for person in self._crowd.people.values() if self._in_emergency(person)]
        for person in late:
            self._blame(person)
        for _ in range(RESCUES):
            late = [person for person in late if not await self._rescued(person)]
        again = [person for person in looking if self._rng.random() < 0.5]
        opened, self._opened = self._opened, []
        await asyncio.gather(*map(self._ack, [*opened, *again]))

    def _in_emergency(self, person: Person) -> bool:
        """A gateway has the sig of such a user renewed."""
        held = person.held
        if held is None or person.away_until or not person.connected:
            return False
        return held.expires_at - self._true < self._emergency[person.user.sdkappid]

    def _blame(self, person: Person) -> None:
        """A user connected when the renewal fell due should have been renewed by a tick."""
        assert person.held is not None
        issued_at = person.held.issued_at
        if person.online_since > person.held.renew_at:
            return
        if self._invariants.rows[person.user].issued_at == issued_at:
            self._invariants.report(11, f"{person.user} is in the emergency with {issued_at}")

    async def _rescued(self, person: Person) -> bool:
        if await self._open(person):
            self._opened.append(person)
        return not self._in_emergency(person)

    async def _deliver(self, users: list[Holder]) -> None:
        """As a gateway for its streams: look up the latest sigs and send them."""
        now = self._clock()
        found = await self._try(lambda: self._flows.deliver.latest(users, now))
        takers: list[Person] = []
        for user, current in zip(users, found or [], strict=False):
            person = self._crowd.people[user]
            if not isinstance(current, Current) or not person.take(current, self._true, self._rng):
                continue
            self.report.delivered += 1
            if current.issued_at < person.acked:
                self._invariants.report(16, f"{user} was sent {current.issued_at} after an ack")
            takers.append(person)
        await asyncio.gather(*map(self._ack, takers))

    async def _ack(self, person: Person) -> None:
        assert person.held is not None
        held, now = person.held.issued_at, self._clock()
        await self._try(lambda: self._flows.deliver.ack(person.user, person.ticket_at, held, now))
        person.acked = max(person.acked, held)
        self.report.acked += 1

    async def _act(self, person: Person) -> None:
        """One appointment of a person: come, look for a newer sig, sign in again, or leave."""
        if person.habit == "connected" and person.connected:
            await self._stay(person)
        else:
            await self._come(person)

    async def _stay(self, person: Person) -> None:
        """Look up a sig that is past its renewal time; sometimes leave."""
        assert person.held is not None
        if self._rng.random() < 0.04:
            person.leave(self._cloud, self._true + int(self._rng.random() * 40 * DAY))
            self._plan_visit(person, person.away_until)
            return
        if self._true >= person.held.renew_at:
            self._looking.append(person)
        self._plan_visit(person, self._true + 4 * DAY)

    async def _come(self, person: Person) -> None:
        """Ask for a sig as a backend would, sign in, and open a stream where one is kept."""
        now, before = self._clock(), self._faults.total
        current = await self._try(lambda: self._flows.issue.current(person.user, now))
        if current is None:
            self._plan_visit(person, self._true + int(DAY * (0.1 + self._rng.random())))
            return
        left = current.expires_at - now
        if left < DAY and self._faults.total == before:
            self._invariants.report(5, f"{person.user} got a sig with {left} s left")
        if current.issued_at < person.acked:
            self._invariants.report(16, f"{person.user} got {current.issued_at} after an ack")
        person.take(current, self._true, self._rng)
        self._crowd.sign_in(self._cloud, person, self._true)
        person.away_until = 0
        if person.habit == "connected" and not await self._open(person):
            # No stream yet; a client retries until it has one.
            person.away_until = 1
            self._plan_visit(person, self._true + STEP)
        elif person.habit == "connected":
            self._opened.append(person)
            self._plan_visit(person, self._true + 2 * DAY)
        else:
            person.leave(self._cloud, self._true + int((5 + 50 * self._rng.random()) * DAY))
            if person.habit == "visitor":
                self._plan_visit(person, person.away_until)

    async def _open(self, person: Person) -> bool:
        """The stream's first message: the full state. False where it failed."""
        now = self._clock()
        held = 0 if person.held is None else person.held.issued_at
        state = await self._try(
            lambda: self._flows.deliver.opened(person.user, person.ticket_at, now, held=held)
        )
        if not state:
            return False
        person.take(state[0], self._true, self._rng)
        return True

    def _plan_visit(self, person: Person, at: int) -> None:
        heapq.heappush(self._agenda, (at, person.user))

    # -- checks --------------------------------------------------------------------------

    def _watch(self) -> None:
        """Sign in again where it is time, then let the cloud kick."""
        for person in self._crowd.people.values():
            if person.sign_in_at and person.sign_in_at <= self._true and person.connected:
                self._crowd.sign_in(self._cloud, person, self._true)
        for kick in self._cloud.tick(self._true):
            person = self._crowd.people[Holder(kick.sdkappid, kick.userid)]
            if self._schedule.hopeless(person.online_since):
                self.report.past_help += 1
            else:
                self._invariants.report(1, f"{kick.userid} of {kick.sdkappid} was thrown out")
            person.leave(self._cloud, self._true)
            self._plan_visit(person, self._true)

    async def _check_backlog(self) -> None:
        """After the days without faults no row is due and no event waits."""
        now = self._clock()
        for _ in range(200):
            if not await self._flows.relay.sweep(now, grace=0):
                break
        await self._flows.renew.tick(now)
        if await self._ports.store.apps_with_due(now):
            self._invariants.report(11, "holders are still due after calm days")
        late = [
            row.holder
            for row in self._invariants.rows.values()
            if row.due_at is not None and row.kind == "user" and row.expires_at - now < DAY
        ]
        if late:
            self._invariants.report(11, f"{len(late)} holders are near expiry, such as {late[0]}")

    def _sum_up(self) -> Report:
        report = self.report
        report.issued = self._invariants.made
        report.failures = self._invariants.failures
        report.kicked = self._cloud.kicked - report.past_help
        report.faults = self._faults.total
        report.refused = self._crowd.refused
        report.violations = self._invariants.violations
        return report


def _crashed_aside(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Ignores the task of a worker that crashed; other exceptions are errors."""
    if not isinstance(context.get("exception"), Crash):
        loop.default_exception_handler(context)
