"""A clock that jumps costs nobody a sig, is reported, and is forgotten when clocks agree again.

Real processes, whose clocks are moved by libfaketime while those of the clients, of Valkey
and of the tests stay true. What was seen before jobs ran by the monotonic clock: set back by
60 s, no job ran for 60 s and nothing was reported; set ahead by 70 d, the loop hung for 75 s.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
import pytest

from sigmgr.model.reference import duration_text
from tests.conftest import lacking, started
from tests.process.moved import (
    DAY,
    Crowd,
    MovableClock,
    MovedPostgres,
    Pulse,
    cpu_seconds,
    find_faketime,
    sweep,
)
from tests.process.processes import Answer, ServeProcess, command, environment, get, new_master_key
from tests.process.test_hostile_revocation import post, until
from tests.servers import RedisServer, ServerMissing

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

#: Sigs of 60 s with open streams, and of 10 s that run into the emergency lane in each hold.
APP, URGENT = 1400000079, 1400000080
SECRET = "decade" * 10 + "beef"
STREAMS = [f"user-{number:02d}" for number in range(20)]
#: Wide, so that at any time some are soon due.
WINDOW = ("--policy", "renew_from=0.2", "--policy", "renew_to=0.6", "--policy", "idle_after=0")
HELD = 10.0
#: What is due is renewed so long after clocks agree, and on a busy machine a little later.
AGREED, BUSY = 2.0, 1.5
#: A jump is reported within a look, and over within one.
SOON = 4.0
BLOCKED = 0.5
#: Of a hold with 20 streams: four times what it takes, and a thirtieth of what 70 d took.
CPU = 2.5
ONLY_URGENT = "only sigs near their expiry are signed"


class Row(NamedTuple):
    """A holder's sig as SQL knows it."""

    userid: str
    issued_at: int
    renew_at: int
    expires_at: int
    reason: str


class Service:
    """One process of every role by a clock of its own."""

    def __init__(self, home: Path, clock: MovableClock, **settings: str) -> None:
        self.clock = clock
        # Commands by true time, until a test sets another.
        self.environ = environment(MASTER_KEY=new_master_key(), LOG__AS_JSON="true", **settings)
        command(self.environ, "db", "upgrade")
        self.furnish(APP, "60s", *WINDOW)
        made = command(self.environ, "token", "create", "--role", "backend", "--json")
        self.token: str = made.json["token"]
        self.process = ServeProcess("moved", self.environ | clock.environ, home)

    def furnish(self, app: int, ttl: str, *policy: str) -> None:
        command(self.environ, "app", "add", app, "--ttl", ttl, *policy)
        command(self.environ, "key", "add", app, "--file", "-", "--activate", stdin=SECRET)

    @contextlib.contextmanager
    def serving(self) -> Iterator[None]:
        """From where it is ready until it has ended in order."""
        with self.process as process:
            process.wait_ready("/readyz")
            pid = process.pid
            try:
                yield
                assert process.stop() == 0
            finally:
                process.kill()
                sweep(pid)
        assert "Traceback" not in process.log

    def path(self, app: int, user: str, rest: str = "/sig") -> str:
        return f"{self.process.url}/v1/apps/{app}/users/{user}{rest}"

    def sig(self, user: str, app: int = APP) -> Answer:
        return get(self.path(app, user), self.token)

    def reissue(self, user: str) -> Answer:
        return post(self.path(APP, user, "/sig/reissue"), self.token)

    def state(self) -> str:
        """Of the clock; readiness answers 200 all the time."""
        ready = get(f"{self.process.url}/readyz")
        assert ready.status == 200, ready
        answer: str = ready.json["checks"]["clock"]
        assert ready.json["status"] == ("ok" if answer == "ok" else "degraded"), ready
        return answer

    def is_well(self) -> bool:
        return self.state() == "ok"

    def is_held(self) -> str:
        answer = self.state()
        return answer if ONLY_URGENT in answer else ""

    def answer(self, after: int, **fields: Any) -> list[dict[str, Any]]:
        """The lines of the log after this place that hold these."""
        lines = [json.loads(line) for line in self.process.log[after:].splitlines()]
        return [line for line in lines if fields.items() <= line.items()]

    def doctor(self, *, moved: bool) -> str:
        """What it fails for, of clocks, on the machine of the process or on a true one."""
        environ = self.environ | (self.clock.environ if moved else {})
        done = command(environ, "doctor", "--json", check=False)
        failed = [one for one in done.json if one["verdict"] == "fail"]
        assert done.status == bool(failed), done
        assert {one["part"] for one in failed} <= {"clock"}, failed
        return "; ".join(one["text"] for one in failed)


class Site(Service):
    """The process over PostgreSQL, by another clock of its own, and Valkey, with a crowd."""

    def __init__(
        self, home: Path, clock: MovableClock, postgres: MovedPostgres, redis: RedisServer
    ) -> None:
        self.database = postgres.create_database()
        self.postgres = postgres
        super().__init__(
            home, clock, DATABASE__URL=postgres.url(self.database), REDIS__URL=redis.url
        )
        self.furnish(URGENT, "10s", "--policy", "idle_after=0")
        self.crowd = Crowd(APP, SECRET, STREAMS, url=self.process.url, token=self.token)
        self.pulse = Pulse(self.process.port)

    def has_work(self) -> bool:
        """Some sigs are due within the next hold, and none is now."""
        until(self.is_well, SOON)
        now = time.time()
        due = [row.renew_at for row in self.rows().values()]
        return now < min(due) and any(now + 1 < at < now + HELD - 1 for at in due)

    def rows(self, app: int = APP) -> dict[str, Row]:
        url = self.postgres.url(self.database, driver="postgresql")
        names = ", ".join(Row._fields)
        with psycopg.connect(url, autocommit=True) as session:
            found = session.execute(
                f"SELECT {names} FROM holders WHERE sdkappid = {app} AND issued_at > 0"
            )
            return {row[0]: Row(*row) for row in found}


@pytest.fixture(scope="module")
def library() -> Path:
    try:
        return find_faketime()
    except ServerMissing as missing:
        lacking(missing)


@pytest.fixture(scope="module")
def site(tmp_path_factory, library: Path, redis_server: RedisServer) -> Iterator[Site]:
    home = tmp_path_factory.mktemp("clocks")
    redis_server.wipe()
    with started(lambda: MovedPostgres(library)) as postgres:
        made = Site(home, MovableClock(library, home / "clock"), postgres, redis_server)
        with made.serving():
            for number in range(4):
                assert made.sig(f"urgent-{number}", URGENT).status == 200
            with made.crowd, made.pulse:
                time.sleep(15)  # until sigs are of every age
                yield made


class Figures:
    """What a hold costs, by who looks from outside."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.log_at = len(site.process.log)
        self.began = time.monotonic()
        self._cpu = cpu_seconds(site.process.pid)

    def check(self, name: str, renewed: dict[str, float]) -> None:
        """Nobody was kicked or held a sig that had run out, and the loop was never blocked."""
        site, stats = self.site, self.site.crowd.stats
        took = time.monotonic() - self.began
        cpu = cpu_seconds(site.process.pid) - self._cpu
        slowest, late = site.pulse.slowest(self.began), site.pulse.latest(self.began)
        print(
            f"\n{name}: kicked {stats.kicked}, {len(renewed)} due renewed within"
            f" {max(renewed.values()):.2f} s, CPU {cpu:.2f} s of {took:.1f} s, slowest answers"
            f" {', '.join(f'{one * 1000:.0f}' for one in slowest)} ms (slept late"
            f" {late * 1000:.0f} ms)"
        )
        assert site.crowd.dead == []
        assert (stats.kicked, stats.went_back, stats.bad_sigs) == (0, 0, 0), stats
        assert stats.streams == len(STREAMS) and stats.reconnects == 0, stats
        assert site.pulse.failures == []
        # What the machine kept from everybody was no doing of the loop.
        assert slowest[0] < BLOCKED + late
        assert cpu < CPU


class Hold:
    """From where ordinary signing is held, until it has been for its time."""

    def __init__(self, site: Site) -> None:
        self.ends = time.monotonic() + HELD
        until(site.is_held, SOON)
        self._site = site
        self._second = int(time.time())
        self._before = site.rows()

    def due(self) -> dict[str, Row]:
        """What is due at the end. Until then valid sigs are served, and only urgent ones made."""
        site, user = self._site, STREAMS[0]
        assert site.sig(user).json["issued_at"] == self._before[user].issued_at
        for refused in (site.reissue(user), site.sig("somebody-new")):
            assert (refused.status, refused.json["code"]) == (503, "clock-apart"), refused
        time.sleep(max(0.0, self.ends - time.monotonic()))
        now, after, urgent = time.time(), site.rows(), site.rows(URGENT)
        assert after == self._before
        # At the true second, whoever's clock was moved: it was made in the hold.
        assert all(row.issued_at <= now for row in urgent.values()), urgent
        made = [row for row in urgent.values() if row.issued_at > self._second]
        assert {row.reason for row in made} == {"Emergency"}, urgent
        due = {user: row for user, row in after.items() if row.renew_at <= now}
        assert due, after
        return due


def renewed(site: Site, due: dict[str, Row], agreed_at: float) -> dict[str, float]:
    """Seconds after which each client holds the next of its sigs that were due."""
    until(lambda: due.keys() <= site.crowd.took(agreed_at).keys(), HELD)
    took = {user: at - agreed_at for user, at in site.crowd.took(agreed_at).items() if user in due}
    assert max(took.values()) < AGREED + BUSY, took
    return took


def reported(seconds: int) -> tuple[str, ...]:
    """How far and to which side, to the second."""
    return tuple(duration_text(seconds + off) for off in (-1, 0, 1))


@pytest.mark.parametrize("jump", [-60, 60, -DAY, DAY, 70 * DAY], ids=duration_text)
def test_a_process_whose_clock_jumps(site: Site, jump: int) -> None:
    until(site.has_work, 3 * HELD)
    figures = Figures(site)
    with site.clock.moved(jump):
        hold = Hold(site)
        doctor = site.doctor(moved=True)
        due = hold.due()
        answer = site.state()
    agreed_at = time.monotonic()
    took = renewed(site, due, agreed_at)
    until(site.is_well, SOON)
    figures.check(duration_text(jump), took)

    assert any(
        f": this machine's clock is {far} the database's; " in answer for far in reported(jump)
    )
    assert "Redis agrees with the database: this machine's clock differs" in answer
    assert "the database's clock differs by" in doctor
    assert "the database and Redis agree; this machine's clock is the one that differs" in doctor
    jumps = [line["seconds"] for line in site.answer(figures.log_at, action="clock-jumped")]
    assert jumps == pytest.approx([jump, -jump], abs=1)
    assert site.answer(figures.log_at, action="date-jumped") == []
    changes = [line["state"] for line in site.answer(figures.log_at, action="health", part="clock")]
    assert changes[0].startswith("degraded: this machine's clock is ") and changes[-1] == "ok"


def test_a_database_whose_clock_jumps(site: Site) -> None:
    until(site.has_work, 3 * HELD)
    figures = Figures(site)
    with site.postgres.clock.moved(DAY):
        hold = Hold(site)
        doctor = site.doctor(moved=False)
        due = hold.due()
        answer = site.state()
    agreed_at = time.monotonic()
    took = renewed(site, due, agreed_at)
    until(site.is_well, SOON)
    figures.check("the database's, 1 d ahead", took)
    assert site.doctor(moved=False) == ""

    assert "the database's clock has jumped 1 d" in answer
    assert "Redis agrees with this machine: the database's clock differs" in answer
    assert "this machine and Redis agree; the database's clock is the one that differs" in doctor
    assert site.answer(figures.log_at, action="clock-jumped") == []
    assert site.answer(figures.log_at, action="date-jumped") == []


def test_on_sqlite_a_jump_holds_until_it_is_over(tmp_path: Path, library: Path) -> None:
    """It has no clock of its own: this machine's is trusted when it has been steady."""
    accept = 8.0
    alone = Service(
        tmp_path,
        MovableClock(library, tmp_path / "clock"),
        DATABASE__URL=f"sqlite+aiosqlite:///{tmp_path}/sigmgr.db",
        CLOCK__ACCEPT=str(accept),
    )
    with alone.serving():
        for jump in (-DAY, DAY):
            first = current(alone)
            with alone.clock.moved(jump):
                check_held(alone, jump, accept)
                assert alone.sig("alice").json["usersig"] == first["usersig"]
            began = time.monotonic()
            again = until(lambda: (one := alone.reissue("alice")).status == 200 and one, SOON)
            assert time.monotonic() - began < AGREED
            assert abs(again.json["issued_at"] - time.time()) < 2
            until(alone.is_well, SOON)
        assert alone.answer(0, action="date-jumped") == []

        current(alone)
        with alone.clock.moved(DAY):
            began = time.monotonic()
            check_held(alone, DAY, accept)
            answer = until(
                lambda: (one := alone.reissue("alice")).status == 200 and one, accept + SOON
            )
            assert time.monotonic() - began >= accept - 0.5
            assert abs(answer.json["issued_at"] - time.time() - DAY) < 2
            until(alone.is_well, SOON)
            [line] = alone.answer(0, action="date-jumped")
            assert line["seconds"] == pytest.approx(DAY, abs=1)


def current(service: Service) -> dict[str, Any]:
    """A user's sig of a second that is over: within it, a reissue answers with it."""
    sig: dict[str, Any] = service.sig("alice").json
    until(lambda: time.time() > sig["issued_at"] + 1, SOON)
    return sig


def check_held(service: Service, jump: int, accept: float) -> None:
    """It reports it, and makes no sig that is not urgent."""
    answer = until(service.is_held, SOON)
    assert any(f"clock has jumped {far} where it stood" in answer for far in reported(jump))
    assert f"it is believed after {accept:g} s" in answer
    refused = service.reissue("alice")
    assert (refused.status, refused.json["code"]) == (503, "clock-apart"), refused
