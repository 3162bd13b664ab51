"""The promise under fire: many holders, real processes, and everything that can break does.

Over one PostgreSQL (durable) and one Valkey run two workers, one api and two gateways, each
a process. All holders are issued over HTTP, some of them are clients with open streams at
the emulated cloud. Then, for as long as asked: workers are killed with -9 in turn, Redis is
stopped, wiped and frozen, PostgreSQL is restarted. Asked all the time: a random user's sig.

:func:`run` answers a :class:`Findings`; ``faults()`` of it names what broke the promise:
- a client was kicked, was offered an older sig or one that does not verify, or was never acked;
- a sig with too little left was handed out while the database was there to make a better one;
- a holder's chain of sigs (collected from SQL all through the run) has a double successor,
  a lost one, a gap, or a sig that somebody was given is not in it;
- a holder is dead at the end, or the outbox does not drain;
- a process wrote a traceback, or did not end cleanly when told to.

    python -m tests.process.scenario --seconds 600 --holders 20000 --clients 500

Everything listens on loopback, lives in a temporary directory and is ended at the end.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import re
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from random import Random

import httpx2
import psycopg

from sigmgr.sim.cloud import Cloud
from sigmgr.sim.fleet import ClientFleet
from sigmgr.sim.stats import Stats, World
from tests.process.processes import ServeProcess, command, environment, new_master_key
from tests.servers import PostgresServer, RedisServer

APP = 1400000077
SECRET = "facade" * 10 + "beef"
BATCH = 1000
TICK = 0.2
#: How long the database may be away around its restart before it has to be reported.
DATABASE_GRACE = 5
DRAIN_SECONDS = 15.0
_EXCEPTION = re.compile(r"^\w[\w.]*(Error|Exception|Exit)\b.*$", re.MULTILINE)

Print = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What happens when; seconds after the first stream was opened."""

    seconds: int
    holders: int
    clients: int
    ttl: int
    kill_every: int
    redis_down: tuple[int, int]
    redis_wiped: int
    redis_frozen: tuple[int, int]
    database_restart: int
    snapshot_every: int
    samples_per_second: float = 20.0
    ramp: float = 5.0
    seed: int = 1

    @property
    def min_remaining(self) -> int:
        return self.ttl // 10


def long_plan(seconds: int = 600, holders: int = 20_000, clients: int = 500) -> Plan:
    """Ten minutes of sigs that live two; the outages are spread over the run."""
    if seconds < 120:
        raise ValueError("the outages would overlap in less than 120 s; take the short plan")
    return Plan(
        seconds=seconds,
        holders=holders,
        clients=clients,
        ttl=120,
        kill_every=30,
        redis_down=(seconds * 2 // 10, 20),
        redis_wiped=seconds * 4 // 10,
        database_restart=seconds * 6 // 10,
        redis_frozen=(seconds * 8 // 10, 20),
        snapshot_every=90,
    )


def short_plan(seconds: int = 60, holders: int = 2_000, clients: int = 100) -> Plan:
    """One minute of sigs that live one: all outages fall into the one wave of renewals."""
    if seconds < 60:
        raise ValueError("the outages need 60 s")
    return Plan(
        seconds=seconds,
        holders=holders,
        clients=clients,
        ttl=60,
        kill_every=15,
        redis_down=(36, 4),
        database_restart=43,
        redis_wiped=46,
        redis_frozen=(49, 4),
        snapshot_every=40,
        ramp=2.0,
    )


@dataclass(slots=True)
class Samples:
    """What the asking of random users found."""

    asked: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    short: list[str] = field(default_factory=list)
    short_excused: int = 0
    older: list[str] = field(default_factory=list)
    slowest: float = 0.0
    newest: dict[str, int] = field(default_factory=dict)


class Chains:
    """Every holder's sigs as SQL knew them, put together from many looks.

    A row remembers its last four sigs, so a look must come at least every third of the time
    that five generations take.
    """

    def __init__(self, ttl: int) -> None:
        self._ttl = ttl
        self.sigs: dict[str, dict[int, str]] = {}
        self.faults: list[str] = []
        self.alive = 0
        self.reasons: Counter[str] = Counter()

    def look(self, rows: Sequence[tuple[str, int, str, str]]) -> None:
        """Add (userid, issued_at, reason, past) of every row."""
        for userid, issued_at, reason, past in rows:
            found = {int(item[0]): str(item[3]) for item in json.loads(past)}
            order = [int(item[0]) for item in json.loads(past)]
            if order != sorted(order, reverse=True) or (order and order[0] >= issued_at):
                self.faults.append(f"{userid}: not strictly rising: {past}, {issued_at}")
            found[issued_at] = reason
            known = self.sigs.setdefault(userid, {})
            if known and min(found) > max(known):
                self.faults.append(f"{userid}: looked too seldom, or sigs lost after {max(known)}")
            lost = [at for at in known if at >= min(found) and at not in found]
            if lost:
                self.faults.append(f"{userid}: {lost} was committed and is gone from {past}")
            known |= found

    def check(self) -> None:
        """Renewed once per window, and before the end of the sig before."""
        earliest = int(0.6 * self._ttl)
        for userid, sigs in self.sigs.items():
            order = sorted(sigs)
            self.reasons.update(sigs.values())
            for before, after in pairwise(order):
                if after - before < earliest:
                    self.faults.append(
                        f"{userid}: twice in one window: {before}, {after} ({sigs[after]})"
                    )
                if after - before >= self._ttl:
                    self.faults.append(f"{userid}: no sig between {before + self._ttl} and {after}")

    def check_given(self, given: dict[str, set[int]]) -> None:
        """Every sig that anybody was given is one of the chain: none was rolled back."""
        for userid, seen in given.items():
            stray = seen - set(self.sigs.get(userid, {}))
            if stray:
                self.faults.append(f"{userid}: was given {sorted(stray)}, which SQL never knew")

    @property
    def renewals(self) -> int:
        return sum(len(sigs) - 1 for sigs in self.sigs.values())


@dataclass(slots=True)
class Findings:
    """What a run has shown."""

    plan: Plan
    elapsed: float
    stats: Stats
    samples: Samples
    chains: Chains
    dead: int
    outbox_left: int
    drained_in: float
    kills: int
    tracebacks: list[str]
    exits: dict[str, int]
    warnings: Counter[str]

    def faults(self) -> list[str]:
        """Everything that broke the promise; empty where all went well."""
        stats, chains = self.stats, self.chains
        lost = stats.renewed - stats.acked - stats.in_flight
        bad_exits = {name: status for name, status in self.exits.items() if status}
        found = [
            (stats.renewed == 0, "no client received a renewal"),
            (stats.kicked > 0, f"{stats.kicked} clients were kicked"),
            (stats.went_back > 0, f"{stats.went_back} times a client was offered an older sig"),
            (stats.bad_sigs > 0, f"{stats.bad_sigs} sigs did not verify"),
            (stats.short_remaining > 0, f"{stats.short_remaining} clients got a short sig"),
            (lost > 0, f"{lost} renewals were never acked"),
            (bool(self.samples.short), f"short sigs: {_some(self.samples.short)}"),
            (bool(self.samples.older), f"older sigs: {_some(self.samples.older)}"),
            (bool(chains.faults), f"chains: {_some(chains.faults)}"),
            (len(chains.sigs) != self.plan.holders, f"{len(chains.sigs)} holders have rows"),
            (self.dead > 0, f"{self.dead} holders are not alive"),
            (self.outbox_left > 0, f"{self.outbox_left} events stay in the outbox"),
            (bool(self.tracebacks), f"tracebacks: {_some(self.tracebacks)}"),
            (bool(bad_exits), f"exit statuses: {bad_exits}"),
        ]
        return [text for is_so, text in found if is_so]

    def summary(self) -> str:
        """The figures for people."""
        stats, samples, chains = self.stats, self.samples, self.chains
        faults = self.faults()
        lines = [
            "",
            (
                f"{self.elapsed:.0f} s, {self.plan.holders} holders, {stats.clients} clients,"
                f" ttl {self.plan.ttl} s, {self.kills} workers killed"
            ),
            (
                f"renewals in SQL: {chains.renewals} ({chains.renewals / self.elapsed:.0f}/s),"
                f" by reason {dict(chains.reasons)}"
            ),
            (
                f"clients: renewed {stats.renewed}, acked {stats.acked}"
                f" ({stats.in_flight} in flight), kicked {stats.kicked},"
                f" reconnects {stats.reconnects}, older {stats.went_back},"
                f" bad {stats.bad_sigs}, short {stats.short_remaining}"
            ),
            f"client errors: {dict(stats.errors.most_common(8))}",
            (
                f"asked {samples.asked}: short {len(samples.short)}"
                f" (+{samples.short_excused} without database), older {len(samples.older)},"
                f" refused {dict(samples.refused)}, slowest {samples.slowest:.2f} s"
            ),
            f"outbox drained in {self.drained_in:.1f} s, left {self.outbox_left}; dead {self.dead}",
            f"exits {self.exits}; warnings in logs {dict(self.warnings.most_common(12))}",
            *(f"FAILED: {fault}" for fault in faults),
        ]
        return "\n".join([*lines, "FAILED" if faults else "OK"])


def _some(texts: Sequence[str]) -> str:
    more = f" ... and {len(texts) - 5} more" if len(texts) > 5 else ""
    return "; ".join(texts[:5]) + more


class Site:
    """The servers and the five processes. Use as a context manager."""

    def __init__(self, home: Path, plan: Plan) -> None:
        self.home = home
        self.database = PostgresServer(durable=True)
        self.redis = RedisServer()
        self.token = ""
        self._plan = plan
        self._name = ""
        self.environ: dict[str, str] = {}
        self.api: ServeProcess
        self.workers: list[ServeProcess] = []
        self.gateways: list[ServeProcess] = []

    def __enter__(self) -> Site:
        try:
            self._open()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.processes():
            process.kill()
        self.redis.close()
        self.database.close()

    def _open(self) -> None:
        self.database.start()
        self.redis.start()
        self._name = self.database.create_database()
        self.environ = environment(
            DATABASE__URL=self.database.url(self._name),
            REDIS__URL=self.redis.url,
            MASTER_KEY=new_master_key(),
        )
        command(self.environ, "db", "upgrade")
        ttl = f"{self._plan.ttl}s"
        command(self.environ, "app", "add", APP, "--ttl", ttl, "--policy", "idle_after=0")
        command(self.environ, "key", "add", APP, "--file", "-", "--activate", stdin=SECRET)
        made = command(self.environ, "token", "create", "--role", "backend", "--app", APP, "--json")
        self.token = made.json["token"]
        self.api = self._process("api", "api")
        self.workers = [self._process(f"worker{i}", "worker") for i in (1, 2)]
        self.gateways = [self._process(f"gateway{i}", "gateway") for i in (1, 2)]
        for process in self.processes():
            process.start()
        for process in self.processes():
            process.wait_ready("/readyz")

    def _process(self, name: str, role: str) -> ServeProcess:
        return ServeProcess(name, self.environ, self.home, "--role", role)

    def processes(self) -> list[ServeProcess]:
        first = [self.api] if hasattr(self, "api") else []
        return [*first, *self.gateways, *self.workers]

    @property
    def stream_urls(self) -> list[str]:
        return [f"{gateway.url}/v1/stream" for gateway in self.gateways]

    def query(self, statement: str) -> list[tuple]:
        """Rows of one statement over a connection of its own."""
        url = self.database.url(self._name, driver="postgresql")
        with psycopg.connect(url, autocommit=True, connect_timeout=5) as connection:
            return connection.execute(statement).fetchall()


class Scenario:
    """One run over an open site."""

    def __init__(self, site: Site, plan: Plan, print_line: Print) -> None:
        self.site = site
        self.plan = plan
        self.print_line = print_line
        self.rng = Random(plan.seed)
        self.users = [f"user-{i:05d}" for i in range(plan.holders)]
        self.samples = Samples()
        self.chains = Chains(plan.ttl)
        self.given: dict[str, set[int]] = defaultdict(set)
        self.kills = 0
        self.events: list[str] = []
        self.database_away_until = 0.0
        self.started = 0.0

    def now(self) -> int:
        return int(time.time())

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self.started

    async def run(self) -> Findings:
        plan, cloud = self.plan, Cloud()
        cloud.set_app(APP, secrets=[SECRET])
        async with httpx2.AsyncClient(trust_env=False, timeout=15.0) as http:
            self.http = http
            await self._issue_all()
            fleet = ClientFleet(
                [(APP, userid) for userid in self.users[: plan.clients]],
                World(
                    cloud=cloud,
                    clock=self.now,
                    base_urls=[self.site.api.url],
                    token=self.site.token,
                    rng=self.rng,
                    stream_urls=self.site.stream_urls,
                    min_remaining=plan.min_remaining,
                ),
                ramp=plan.ramp,
            )
            async with fleet:
                self.started = time.monotonic()
                fleet.start()
                jobs = [
                    asyncio.create_task(job)
                    for job in (self._sample(), self._break_things(), self._look_now_and_then())
                ]
                try:
                    await self._drive(fleet, cloud, jobs)
                finally:
                    for job in jobs:
                        job.cancel()
                    await asyncio.gather(*jobs, return_exceptions=True)
                stats = await fleet.stop(grace=5.0)
            elapsed = self.elapsed
            await self._look()
            dead = self._dead()
            outbox_left, drained_in = await self._drain()
        exits = await self._stop_all()
        self.chains.check()
        self.chains.check_given(self.given)
        tracebacks, warnings = self._read_logs()
        return Findings(
            plan,
            elapsed,
            stats,
            self.samples,
            self.chains,
            dead,
            outbox_left,
            drained_in,
            self.kills,
            tracebacks,
            exits,
            warnings,
        )

    # -- before ----------------------------------------------------------------------------

    async def _issue_all(self) -> None:
        began = time.monotonic()
        for start in range(0, len(self.users), BATCH):
            part = self.users[start : start + BATCH]
            answer = await self.http.post(
                f"{self.site.api.url}/v1/apps/{APP}/sigs/batch-get",
                headers={"Authorization": f"Bearer {self.site.token}"},
                json={"userids": part},
            )
            assert answer.status_code == 200, answer.text
            for userid, sig in zip(part, answer.json()["sigs"], strict=True):
                self.given[userid].add(sig["issued_at"])
        self.print_line(f"issued {len(self.users)} in {time.monotonic() - began:.1f} s")

    # -- meanwhile -------------------------------------------------------------------------

    async def _drive(
        self, fleet: ClientFleet, cloud: Cloud, jobs: Sequence[asyncio.Task[None]]
    ) -> None:
        """Tick clients and cloud; a progress line every ten seconds."""
        reported = 0
        while self.elapsed < self.plan.seconds:
            now = self.now()
            fleet.tick(now)
            cloud.tick(now)
            for client in fleet.clients:
                if client.state.held:
                    self.given[client.state.userid].add(client.state.issued_at)
            for job in jobs:
                if job.done():
                    job.result()
            if self.elapsed >= reported + 10:
                reported += 10
                self._print_status(fleet.snapshot(), now)
            await asyncio.sleep(TICK)

    def _print_status(self, stats: Stats, now: int) -> None:
        left = "-" if stats.next_expiry is None else f"{stats.next_expiry - now}s"
        events, self.events = self.events, []
        self.print_line(
            f"{int(self.elapsed):>4} s  online {stats.online}  streams {stats.streams}"
            f"  renewed {stats.renewed}  acked {stats.acked}  kicked {stats.kicked}"
            f"  reconnects {stats.reconnects}  next {left}  asked {self.samples.asked}"
            f"  {'; '.join(events)}"
        )

    async def _sample(self) -> None:
        """Ask for random users' sigs at the given rate, however slow the answers are."""
        asking: set[asyncio.Task[None]] = set()
        try:
            while True:
                task = asyncio.create_task(self._ask(self.rng.choice(self.users)))
                asking.add(task)
                task.add_done_callback(asking.discard)
                await asyncio.sleep(1 / self.plan.samples_per_second)
        finally:
            for task in asking:
                task.cancel()
            await asyncio.gather(*asking, return_exceptions=True)

    async def _ask(self, userid: str) -> None:
        samples = self.samples
        asked_at, newest = time.time(), samples.newest.get(userid, 0)
        try:
            answer = await self.http.get(
                f"{self.site.api.url}/v1/apps/{APP}/users/{userid}/sig",
                headers={"Authorization": f"Bearer {self.site.token}"},
            )
        except httpx2.HTTPError as error:
            samples.refused[type(error).__name__] += 1
            return
        samples.asked += 1
        samples.slowest = max(samples.slowest, time.time() - asked_at)
        if answer.status_code != 200:
            samples.refused[answer.json()["code"]] += 1
            return
        sig = answer.json()
        self.given[userid].add(sig["issued_at"])
        if sig["issued_at"] < newest:
            samples.older.append(f"{userid} at {int(self.elapsed)} s: {sig['issued_at']}<{newest}")
        samples.newest[userid] = max(newest, sig["issued_at"])
        left = sig["expires_at"] - int(asked_at)
        if left < self.plan.min_remaining:
            if time.monotonic() < self.database_away_until:
                samples.short_excused += 1
            else:
                samples.short.append(f"{userid} at {int(self.elapsed)} s: {left} s left")

    async def _look_now_and_then(self) -> None:
        while True:
            await asyncio.sleep(self.plan.snapshot_every)
            await self._look()

    async def _look(self) -> None:
        """Read all chains; a database that is just restarting is asked again."""
        for _ in range(30):
            with contextlib.suppress(psycopg.OperationalError):
                rows = await asyncio.to_thread(
                    self.site.query,
                    f"SELECT userid, issued_at, reason, past FROM holders WHERE sdkappid = {APP}",
                )
                self.chains.look(rows)
                return
            await asyncio.sleep(1)
        raise AssertionError("the database stayed away")

    # -- faults ----------------------------------------------------------------------------

    async def _break_things(self) -> None:
        for at, _, what in sorted(self._faults(), key=lambda fault: fault[:2]):
            await asyncio.sleep(max(0.0, at - self.elapsed))
            what()

    def _faults(self) -> Iterator[tuple[float, int, Callable[[], None]]]:
        """(when, order, what); each is quick, for emulated clients wait meanwhile."""
        plan, redis = self.plan, self.site.redis
        for n, at in enumerate(range(plan.kill_every, plan.seconds, plan.kill_every)):
            yield at, n, lambda worker=n % 2: self._kill(worker)
        at, seconds = plan.redis_down
        yield at, 1000, self._noted("redis stopped", redis.stop)
        yield at + seconds, 1001, self._noted("redis started", redis.start)
        at, seconds = plan.redis_frozen
        yield at, 1002, self._noted("redis frozen", redis.pause)
        yield at + seconds, 1003, self._noted("redis thawed", redis.resume)
        yield plan.redis_wiped, 1004, self._noted("redis wiped", redis.wipe)
        yield plan.database_restart, 1005, self._noted("database restarted", self._restart_database)

    def _noted(self, text: str, what: Callable[[], None]) -> Callable[[], None]:
        def act() -> None:
            self.events.append(f"{int(self.elapsed)}: {text}")
            what()

        return act

    def _kill(self, worker: int) -> None:
        process = self.site.workers[worker]
        self.events.append(f"{int(self.elapsed)}: {process.name} killed")
        process.kill()
        process.start()
        self.kills += 1

    def _restart_database(self) -> None:
        began = time.monotonic()
        self.database_away_until = began + 60
        self.site.database.restart("fast")
        took = time.monotonic() - began
        self.database_away_until = time.monotonic() + DATABASE_GRACE
        self.events.append(f"it took {took:.1f} s")

    # -- after -----------------------------------------------------------------------------

    def _dead(self) -> int:
        now = self.now()
        [(dead,)] = self.site.query(
            f"SELECT count(*) FROM holders WHERE expires_at <= {now} OR due_at IS NULL"
        )
        return dead

    async def _drain(self) -> tuple[int, float]:
        """Pause renewal, so that nothing new comes; events left, and the seconds it took."""
        command(self.site.environ, "app", "set", APP, "--pause")
        began = time.monotonic()
        while True:
            [(left,)] = await asyncio.to_thread(self.site.query, "SELECT count(*) FROM outbox")
            took = time.monotonic() - began
            if not left or took > DRAIN_SECONDS:
                return left, took
            await asyncio.sleep(0.5)

    async def _stop_all(self) -> dict[str, int]:
        for process in self.site.processes():
            process.terminate()
        return {
            process.name: await asyncio.to_thread(process.wait) for process in self.site.processes()
        }

    def _read_logs(self) -> tuple[list[str], Counter[str]]:
        """Tracebacks with the line that says most of them, and how often which warning came."""
        tracebacks: list[str] = []
        warnings: Counter[str] = Counter()
        for process in self.site.processes():
            for name, text in process.logs().items():
                if "Traceback" in text:
                    start = text.index("Traceback")
                    last = re.search(
                        r"^\w[\w.]*(Error|Exception|Exit)\b.*$", text[start:], re.MULTILINE
                    )
                    tracebacks.append(f"{name}: {last[0][:200] if last else text[start:][:300]}")
                actions = re.findall(r"\[(?:warning|error).*?action=(\S+)", text)
                warnings.update(f"{process.name.rstrip('12')}:{action}" for action in actions)
        return tracebacks, warnings


def run(plan: Plan, *, print_line: Print = print, keep: Path | None = None) -> Findings:
    """Run it; logs go to ``keep``, else to a directory that is gone afterwards."""
    with contextlib.ExitStack() as stack:
        home = keep or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sigmgr-")))
        site = stack.enter_context(Site(home, plan))
        print_line(f"five processes over PostgreSQL and Redis: {plan}")
        findings = asyncio.run(Scenario(site, plan, print_line).run())
    print_line(findings.summary())
    return findings


def main() -> int:
    parser = argparse.ArgumentParser(description="The promise under fire.")
    parser.add_argument("--short", action="store_true", help="one minute, all outages in one wave")
    parser.add_argument("--seconds", type=int)
    parser.add_argument("--holders", type=int)
    parser.add_argument("--clients", type=int)
    parser.add_argument("--logs", type=Path, help="an existing directory to leave the logs in")
    asked = parser.parse_args()
    wanted = {
        name: getattr(asked, name)
        for name in ("seconds", "holders", "clients")
        if getattr(asked, name) is not None
    }
    try:
        plan = (short_plan if asked.short else long_plan)(**wanted)
    except ValueError as error:
        parser.error(str(error))

    def print_line(line: str) -> None:
        print(line, flush=True)

    return 1 if run(plan, print_line=print_line, keep=asked.logs).faults() else 0


if __name__ == "__main__":
    sys.exit(main())
