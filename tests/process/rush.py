"""Clients in raw asyncio: a rush that opens streams and acks, and gets whose time is taken.

    python -m tests.process.rush --clients 3000

starts a PostgreSQL, a Valkey, an api process and a gateway, sends all clients at once, and
says how many streams were refused and how many acks failed.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import resource
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Self
from urllib.parse import urlsplit

from tests.process.processes import ServeProcess, command, environment, new_master_key
from tests.servers import PostgresServer, RedisServer

APP = 1400000081
SECRET = "5ca1ab1e" * 8


class Said(NamedTuple):
    """An answer: its status (0 where there was none), headers, body, seconds it took."""

    status: int
    headers: dict[str, str]
    body: bytes
    seconds: float

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Caller:
    """One keep-alive connection, opened when it is needed; an async context manager."""

    def __init__(self, url: str) -> None:
        split = urlsplit(url)
        self._host, self._port = split.hostname or "", split.port or 80
        self._ends: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def __call__(
        self, method: str, path: str, bearer: str, body: Any = None, *, within: float = 60.0
    ) -> Said:
        began = time.monotonic()
        try:
            async with asyncio.timeout(within):
                reader, writer = await self._connected()
                writer.write(_request(method, path, bearer, body))
                status, headers = await read_head(reader)
                text = await reader.readexactly(int(headers.get("content-length", "0")))
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            await self.aclose()
            return Said(0, {}, b"", time.monotonic() - began)
        return Said(status, headers, text, time.monotonic() - began)

    async def _connected(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._ends is None or self._ends[1].is_closing():
            self._ends = await asyncio.open_connection(self._host, self._port)
        return self._ends

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        if self._ends is not None:
            await closed(self._ends[1])
        self._ends = None


async def once(url: str, method: str, path: str, bearer: str, body: Any = None) -> Said:
    """A request over a connection of its own."""
    async with Caller(url) as call:
        return await call(method, path, bearer, body)


async def closed(*writers: asyncio.StreamWriter) -> None:
    for writer in writers:
        writer.close()
    for writer in writers:
        with contextlib.suppress(OSError):
            await writer.wait_closed()


def _request(method: str, path: str, bearer: str, body: Any) -> bytes:
    data = b"" if body is None else json.dumps(body).encode()
    lines = [f"{method} {path} HTTP/1.1", "Host: x", f"Authorization: Bearer {bearer}"]
    if data:
        lines += ["Content-Type: application/json", f"Content-Length: {len(data)}"]
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + data


async def read_head(reader: asyncio.StreamReader) -> tuple[int, dict[str, str]]:
    """Status and headers, their names in lower case."""
    start, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    pairs = (line.partition(":") for line in lines if line)
    return int(start.split()[1]), {name.lower(): value.strip() for name, _, value in pairs}


@dataclass(slots=True)
class Rush:
    """What became of the clients."""

    opened: int = 0
    acked: int = 0
    refused: Counter[int] = field(default_factory=Counter)
    failed: Counter[int] = field(default_factory=Counter)
    slowest: float = 0.0

    def __str__(self) -> str:
        return (
            f"{self.opened} streams opened, refused {dict(self.refused)}; {self.acked} acks"
            f" durable, failed {dict(self.failed)}; the slowest took {self.slowest:.1f} s"
        )


async def rush(url: str, sigs: Sequence[dict[str, Any]], *, ack: bool = True) -> Rush:
    """All at once: each opens its stream, waits for its state, and acks what it was sent."""
    found = Rush()
    open_ends: list[asyncio.StreamWriter] = []
    split = urlsplit(url)

    async def client(sig: dict[str, Any]) -> None:
        began = time.monotonic()
        status = 0
        with contextlib.suppress(OSError, TimeoutError, asyncio.IncompleteReadError):
            async with asyncio.timeout(60):
                ends = await asyncio.open_connection(split.hostname, split.port)
                open_ends.append(ends[1])
                ends[1].write(_request("GET", "/v1/stream", sig["ticket"], None))
                status, _ = await read_head(ends[0])
                if status == 200:
                    await ends[0].readuntil(b"event: sig.current")
        if status != 200:
            found.refused[status] += 1
            return
        found.opened += 1
        if not ack:
            return
        body = {"issued_at": sig["issued_at"]}
        answer = await once(url, "POST", "/v1/stream/ack", sig["ticket"], body)
        if answer.status == 204:
            found.acked += 1
        else:
            found.failed[answer.status] += 1
        found.slowest = max(found.slowest, time.monotonic() - began)

    try:
        await asyncio.gather(*map(client, sigs))
    finally:
        await closed(*open_ends)
    return found


class Place:
    """An api process and a gateway over a PostgreSQL and a Valkey of their own."""

    def __init__(self, home: Path, **settings: str) -> None:
        self.postgres = PostgresServer()
        self.redis = RedisServer()
        self._home = home
        self._settings = settings
        self.token = ""
        self.environ: dict[str, str] = {}
        self.processes: dict[str, ServeProcess] = {}

    def __enter__(self) -> Self:
        raise_file_limit()
        try:
            self._open()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.processes.values():
            process.kill()
        self.redis.close()
        self.postgres.close()

    @property
    def api(self) -> ServeProcess:
        return self.processes["api"]

    @property
    def gateway(self) -> ServeProcess:
        return self.processes["gateway"]

    def logs(self) -> str:
        return "".join(text for one in self.processes.values() for text in one.logs().values())

    def sigs(self, userids: Iterable[str]) -> list[dict[str, Any]]:
        """The current sigs of these users, issued where there are none. It asks again after a 503,
        as a backend does: on a busy machine a look takes more than its second now and then."""
        return asyncio.run(self._sigs(list(userids)))

    async def _sigs(self, userids: list[str]) -> list[dict[str, Any]]:
        path, found = f"/v1/apps/{APP}/sigs/batch-get", []
        async with Caller(self.api.url) as call:
            for at in range(0, len(userids), 500):
                body = {"userids": userids[at : at + 500]}
                until = time.monotonic() + 10
                answer = await call("POST", path, self.token, body)
                while answer.status == 503 and time.monotonic() < until:
                    await asyncio.sleep(int(answer.headers["retry-after"]))
                    answer = await call("POST", path, self.token, body)
                assert answer.status == 200, answer
                found += answer.json["sigs"]
        assert all("ticket" in sig for sig in found), found[:3]
        return found

    def _open(self) -> None:
        self.postgres.start()
        self.redis.start()
        self.environ = environment(
            DATABASE__URL=self.postgres.url(self.postgres.create_database()),
            REDIS__URL=self.redis.url,
            MASTER_KEY=new_master_key(),
            **self._settings,
        )
        command(self.environ, "db", "upgrade")
        command(self.environ, "app", "add", APP)
        command(self.environ, "key", "add", APP, "--file", "-", "--activate", stdin=SECRET)
        made = command(self.environ, "token", "create", "--role", "backend", "--json")
        self.token = made.json["token"]
        for role in ("api", "gateway"):
            self.add(role, role)

    def add(self, name: str, role: str, **settings: str) -> ServeProcess:
        """One more process, ready."""
        changed = {f"SIGMGR_{key}": value for key, value in settings.items()}
        process = ServeProcess(name, self.environ | changed, self._home, "--role", role)
        self.processes[name] = process
        return process.start().wait_ready("/readyz")


def raise_file_limit() -> None:
    """A client has two connections. Children inherit the limit."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


@contextlib.contextmanager
def _home() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="sigmgr-") as home:
        yield Path(home)


def main() -> int:
    parser = argparse.ArgumentParser(description="Clients that come all at once.")
    parser.add_argument("--clients", type=int, default=3000)
    count = parser.parse_args().clients
    with _home() as home, Place(home) as place:
        sigs = place.sigs(f"user{n}" for n in range(count))
        found = asyncio.run(rush(place.gateway.url, sigs))
    print(found)
    return 0 if found.opened == found.acked == count else 1


if __name__ == "__main__":
    sys.exit(main())
