"""Runs an ASGI app on uvicorn until it is told to stop, and stops within a limit.

Rules:
1. The socket is bound here before anything starts, so that a port in use is one sentence
   and not a traceback.
2. Signals are not ours: whoever calls sets ``stop``.
3. Stopping: no new connections, then ``drain`` (streams are told to reconnect, and find
   another process), then requests in flight, then whatever is left is cancelled. All of
   it within ``graceful`` seconds and a fraction.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import socket
import stat
from collections.abc import Awaitable, Callable, Iterator

import uvicorn
from starlette.types import ASGIApp

from sigmgr.model import errors

log = logging.getLogger("sigmgr.http")

BACKLOG = 4096
KEEP_ALIVE = 65  # longer than the idle time of common load balancers


class _Server(uvicorn.Server):
    """uvicorn without signal handlers, which says when it listens."""

    def __init__(self, config: uvicorn.Config, started: Callable[[], None]) -> None:
        super().__init__(config)
        self._said_started = started

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._said_started()


def bind(host: str, port: int) -> socket.socket:
    """A bound TCP socket. Raises AddressInUse or BadSettings; port 0 takes a free one."""
    place = f"{host}:{port}"
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, _, _, _, address = found[0]
        # On Linux this only skips TIME_WAIT; a port that is listened on stays refused.
        return socket.create_server(address[:2], family=family, backlog=BACKLOG)
    except OSError as error:
        raise _refused(place, error) from error


def bind_unix(path: str) -> socket.socket:
    """A bound Unix socket; one that a dead process left behind is replaced."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if _left_behind(path):
            os.unlink(path)  # noqa: PTH108  # a path, not a Path, all through here
        listener.bind(path)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise _refused(path, error) from error
    return listener


async def serve(
    app: ASGIApp,
    host: str,
    port: int,
    *,
    stop: asyncio.Event,
    drain: Callable[[], Awaitable[None]],
    graceful: float = 3.0,
    uds: str | None = None,
    sock: socket.socket | None = None,
    bound: Callable[[int], None] | None = None,
) -> None:
    """Serve until ``stop`` is set; returns when everything has ended.

    ``bound`` is called with the port once connections are accepted (0 for a Unix socket).
    ``sock`` is a listening socket that somebody else has bound.
    """
    listener = sock or (bind_unix(uds) if uds else bind(host, port))
    name = listener.getsockname()
    number = name[1] if isinstance(name, tuple) else 0
    listening = asyncio.Event()
    server = _Server(_config(app), listening.set)
    running = asyncio.create_task(server.serve([listener]), name="http server")
    try:
        await _first(running, listening)
        if bound is not None and not running.done():
            bound(number)
        await _first(running, stop)
    finally:
        await _stop(server, running, drain, graceful)
        listener.close()
        if uds and sock is None:
            with contextlib.suppress(OSError):
                os.unlink(uds)  # noqa: PTH108


def _config(app: ASGIApp) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http="httptools",
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=True,
        proxy_headers=False,
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE,
    )


async def _first(running: asyncio.Task[None], event: asyncio.Event) -> None:
    """Until the event, or until the server ends by itself."""
    waiting = asyncio.create_task(event.wait())
    try:
        await asyncio.wait([running, waiting], return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiting.cancel()
    if running.done():
        running.result()


async def _stop(
    server: _Server,
    running: asyncio.Task[None],
    drain: Callable[[], Awaitable[None]],
    graceful: float,
) -> None:
    loop = asyncio.get_running_loop()
    until = loop.time() + graceful
    for listening in getattr(server, "servers", ()):
        listening.close()
    try:
        async with asyncio.timeout(graceful / 2):
            await drain()
    except TimeoutError:
        log.warning("streams were not all told to reconnect within %.1f s", graceful / 2)
    except Exception:
        log.exception("telling streams to reconnect failed")
    left = max(0.1, until - loop.time())
    server.config.timeout_graceful_shutdown = left  # type: ignore[assignment]  # any number does
    server.should_exit = True
    await asyncio.wait([running])
    if server.server_state.tasks:
        await asyncio.wait(list(server.server_state.tasks), timeout=0.5)
    if not running.cancelled():
        running.result()


def _left_behind(path: str) -> bool:
    """There is a socket at this path that nobody listens on. Raises where somebody does."""
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):  # noqa: PTH116
            raise OSError(errno.EADDRINUSE, "a file is in the way")
    except FileNotFoundError:
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            return True
    raise OSError(errno.EADDRINUSE, "in use")


def _refused(place: str, error: OSError) -> errors.SetupError:
    if error.errno == errno.EADDRINUSE:
        return errors.AddressInUse(f"{place} is in use by another process")
    return errors.BadSettings(f"cannot listen on {place}: {error.strerror or error}")
