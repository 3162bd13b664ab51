"""``sigmgr`` as programs of their own: commands that end, and services that run.

A service listens on a loopback port, writes a log file per start, is ended by its process
id, and does not outlive its starter (Linux, setpriv). As in :mod:`tests.servers`, the kernel
watches the *thread* that started it, so start services in the main thread.
"""

from __future__ import annotations

import base64
import json
import os
import re
import secrets
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, Self

from tests.servers import free_port, run_as

ROOT = Path(__file__).parents[2]
START_SECONDS = 30.0
STOP_SECONDS = 20.0
#: In a log for people, and in JSON.
_SERVES = re.compile(
    r"sigmgr serves.*?http://[\d.]+:(\d+)|http://[\d.]+:(\d+)\".*?\"sigmgr serves\""
)


class Finished(NamedTuple):
    """What a command that has ended left."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def new_master_key() -> str:
    return base64.b64encode(secrets.token_bytes(32)).decode()


def environment(**settings: str) -> dict[str, str]:
    """An environment with these settings (``DATABASE__URL="..."``) and none of the caller's."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SIGMGR_")}
    kept |= {"PYTHONPATH": str(ROOT), "NO_COLOR": "1"}
    return kept | {f"SIGMGR_{name}": value for name, value in settings.items()}


def command(
    environ: Mapping[str, str], *arguments: object, stdin: str = "", check: bool = True
) -> Finished:
    """Run ``sigmgr ARGUMENTS`` to its end; a status that is not 0 fails where ``check``."""
    done = subprocess.run(
        [sys.executable, "-m", "sigmgr", *map(str, arguments)],
        env=dict(environ),
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    finished = Finished(done.returncode, done.stdout, done.stderr)
    assert not check or finished.status == 0, finished
    return finished


class ServeProcess:
    """One ``sigmgr serve``. Where no port is given it takes one that was free a moment ago
    and keeps it over restarts; 0 lets the service choose (see :attr:`port` once it serves).
    """

    def __init__(
        self,
        name: str,
        environ: Mapping[str, str],
        home: Path,
        *arguments: object,
        port: int | None = None,
    ) -> None:
        self.name = name
        self.port = free_port() if port is None else port
        self.starts = 0
        self._environ = dict(environ)
        self._home = home
        self._arguments = [str(one) for one in arguments]
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def log(self) -> str:
        """What the latest start has written."""
        return self._log_file().read_text(errors="replace")

    def logs(self) -> dict[str, str]:
        """The logs of all starts, by file name."""
        files = sorted(self._home.glob(f"{self.name}-*.log"))
        return {file.name: file.read_text(errors="replace") for file in files}

    def start(self) -> Self:
        """Start; do not wait."""
        self.kill()
        self.starts += 1
        line = [sys.executable, "-m", "sigmgr", "serve", "--port", str(self.port)]
        with self._log_file().open("wb") as log:
            self._process = subprocess.Popen(
                run_as(None, [*line, *self._arguments], death_signal="KILL"),
                env=self._environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self._home,
                start_new_session=True,
            )
        return self

    def wait_ready(self, path: str = "/livez") -> Self:
        """Until it says that it serves and ``path`` answers 200; fails with its log."""
        until = time.monotonic() + START_SECONDS
        while time.monotonic() < until:
            if not self.running:
                raise AssertionError(f"{self.name} ended by itself:\n{self.log}")
            if self._is_ready(path):
                return self
            time.sleep(0.05)
        raise AssertionError(f"{self.name} did not get ready:\n{self.log}")

    def kill(self) -> None:
        """As kill -9 does; nothing where it does not run."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait(STOP_SECONDS)

    def terminate(self) -> None:
        """SIGTERM, without waiting."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)

    def wait(self, within: float = STOP_SECONDS) -> int:
        """Its exit status; fails where it does not end in time."""
        assert self._process is not None
        status = self._process.wait(within)
        self._process = None
        return status

    def stop(self, within: float = STOP_SECONDS) -> int:
        """SIGTERM; answers the exit status."""
        self.terminate()
        return self.wait(within)

    def _is_ready(self, path: str) -> bool:
        # Its own word first: on a port that was snatched, a stranger might answer.
        output = _SERVES.search(self.log)
        if output is None:
            return False
        self.port = int(output[1] or output[2])
        return get(self.url + path).status == 200

    def _log_file(self) -> Path:
        return self._home / f"{self.name}-{self.starts:03d}.log"


class Answer(NamedTuple):
    """An HTTP answer; status 0 where there was none."""

    status: int
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def get(url: str, token: str = "", *, timeout: float = 5.0) -> Answer:
    """One GET over a connection of its own, past every proxy."""
    request = urllib.request.Request(url)
    if token:
        request.add_header("Authorization", f"Bearer {token}")
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=timeout) as answer:
            return Answer(answer.status, answer.read())
    except urllib.error.HTTPError as refused:
        with refused:
            return Answer(refused.code, refused.read())
    except OSError:
        return Answer(0, b"")
