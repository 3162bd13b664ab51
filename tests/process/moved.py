"""Clocks that tests move, and who is watched while they are moved.

A :class:`MovableClock` is the wall clock of the programs that start in its environment
(libfaketime): their monotonic one stays as it is, and so does the clock of everybody else. A
:class:`Crowd` is emulated clients with open streams; they keep true time. A :class:`Pulse`
asks a service for a sign of life all the time, to see whether its loop was ever blocked.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any, Self

from sigmgr.sim.cloud import Cloud
from sigmgr.sim.fleet import ClientFleet
from sigmgr.sim.stats import Stats, World
from tests.servers import PostgresServer, ServerMissing

DAY = 86400


def find_faketime() -> Path:
    """The library that programs are started with, of Debian's package."""
    for library in sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1")):
        return library
    raise ServerMissing("libfaketime is missing: apt-get install faketime")


class MovableClock:
    """Its programs read ``file`` each time they ask for the time, so all of them jump at once."""

    def __init__(self, library: Path, file: Path) -> None:
        self._file = file
        self.environ = {
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            # Debian's build waits for conditions by the wall: threads took milliseconds to
            # hand over to each other, and SQLite a second for an answer.
            "FAKETIME_FORCE_MONOTONIC_FIX": "0",
            # Files keep their times: else Python would compile all modules anew.
            "NO_FAKE_STAT": "1",
        }
        self.move(0)

    def move(self, seconds: int) -> None:
        """So far from the true time, from now on."""
        new = self._file.with_suffix(".new")
        new.write_text(f"{seconds:+d}\n")
        new.chmod(0o644)  # a server may run as another user
        new.replace(self._file)

    @contextlib.contextmanager
    def moved(self, seconds: int) -> Iterator[None]:
        """For a while."""
        self.move(seconds)
        try:
            yield
        finally:
            self.move(0)


def sweep(pid: int) -> None:
    """The library leaves its memory behind where one program became another, or was killed."""
    for name in ("faketime_shm", "sem.faketime_sem"):
        Path(f"/dev/shm/{name}_{pid}").unlink(missing_ok=True)


class MovedPostgres(PostgresServer):
    """PostgreSQL by a clock of its own; ``clock`` is there once it was started."""

    clock: MovableClock

    def __init__(self, library: Path) -> None:
        super().__init__()
        self._library = library

    def _make_directory(self) -> Path:
        made = super()._make_directory()
        self.clock = MovableClock(self._library, made / "clock")
        return made

    def _command(self, directory: Path) -> list[str]:
        # Not in the environment: the library would share memory between the user that starts
        # it and the one that it becomes.
        named = [f"{name}={value}" for name, value in self.clock.environ.items()]
        return ["env", *named, *super()._command(directory)]


def cpu_seconds(pid: int) -> float:
    """What a process has used, in itself and in the kernel."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Pulse:
    """GET /livez over one connection, twenty times a second, in a thread.

    What a shared machine takes from both sides is separated by ``late``: how much longer
    than asked this thread itself slept before the question.
    """

    def __init__(self, port: int) -> None:
        self.answers: list[tuple[float, float, float]] = []
        self.failures: list[str] = []
        self._port = port
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join(10)

    def slowest(self, since: float, count: int = 3) -> list[float]:
        """Seconds that the slowest answers took since this monotonic second."""
        return sorted((took for at, took, _ in self.answers if at >= since), reverse=True)[:count]

    def latest(self, since: float) -> float:
        return max((late for at, _, late in self.answers if at >= since), default=0.0)

    def _beat(self) -> None:
        line = http.client.HTTPConnection("127.0.0.1", self._port, timeout=10)
        slept = time.monotonic()
        while not self._stopped.wait(0.05):
            began = time.monotonic()
            try:
                line.request("GET", "/livez")
                line.getresponse().read()
            except (OSError, http.client.HTTPException) as error:
                self.failures.append(repr(error))
                line.close()
            slept, late = time.monotonic(), began - slept - 0.05
            self.answers.append((began, slept - began, late))
        line.close()


class Crowd:
    """Clients of one app in a thread with a loop of its own. ``taken``: each sig that a client
    took, with the monotonic second. ``dead``: who held one that had run out."""

    def __init__(
        self, app: int, secret: str, users: Sequence[str], *, url: str, token: str
    ) -> None:
        self.taken: list[tuple[float, str, int]] = []
        self.dead: list[str] = []
        self.stats: Stats
        self._app, self._users = app, users
        self._cloud = Cloud()
        self._cloud.set_app(app, secrets=[secret])
        self._options: Mapping[str, Any] = {"base_urls": [url], "token": token}
        self._holds: dict[str, int] = {}
        self._stopped = False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        end = time.monotonic() + 20
        while len(self._holds) < len(self._users) or self.stats.streams < len(self._users):
            assert time.monotonic() < end and self._thread.is_alive(), self._error
            time.sleep(0.05)
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped = True
        self._thread.join(10)
        if self._error is not None:
            raise self._error

    def took(self, since: float) -> dict[str, float]:
        """When each client took its first sig since this monotonic second."""
        firsts: dict[str, float] = {}
        for at, user, _ in list(self.taken):
            if at >= since:
                firsts.setdefault(user, at)
        return firsts

    def _run(self) -> None:
        try:
            asyncio.run(self._live())
        except BaseException as error:
            self._error = error

    async def _live(self) -> None:
        fleet = ClientFleet(
            [(self._app, user) for user in self._users],
            World(
                cloud=self._cloud,
                clock=lambda: int(time.time()),
                rng=Random(1),
                **self._options,
            ),
            ramp=1.0,
        )
        self.stats = fleet.stats
        async with fleet:
            fleet.start()
            while not self._stopped:
                now = int(time.time())
                fleet.tick(now)
                self._cloud.tick(now)
                self._look(fleet, now)
                await asyncio.sleep(0.05)
            await fleet.stop()

    def _look(self, fleet: ClientFleet, now: int) -> None:
        for client in fleet.clients:
            held, user = client.state.held, client.state.userid
            if held is None:
                continue
            if held.issued_at != self._holds.get(user):
                self._holds[user] = held.issued_at
                self.taken.append((time.monotonic(), user, held.issued_at))
            if held.expires_at <= now:
                self.dead.append(f"{user}: ran out at {held.expires_at}, it is {now}")
