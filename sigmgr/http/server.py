"""Runs an ASGI app on uvicorn until it is set to stop, and stops within a limit.

Rules:
1. The socket is bound here before anything starts, so that a port in use is one sentence
   and not a traceback.
2. Signals are not ours: whoever calls sets ``stop``.
3. Stopping: no new connections, then ``drain`` (streams get their ``bye``, and find
   another process), then requests in flight, then whatever is left is cancelled. All of
   it within ``graceful`` seconds and a fraction.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import errno
import logging
import os
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from typing import Any

import uvicorn
from starlette.types import ASGIApp

from sigmgr.http.protocol import Connection, Connections
from sigmgr.model import errors

log = logging.getLogger("sigmgr.http")

BACKLOG = 4096
PATIENCE = 5.0  # for a name server, before anything is served

#: In other words than the system's.
_WHY = {
    socket.EAI_NONAME: "there is no such host",
    socket.EAI_AGAIN: "no name server answers",
    errno.EADDRNOTAVAIL: "no interface of this machine has this address",
}
_Address = tuple[socket.AddressFamily, Any]


class BadAddress(errors.BadSettings):
    """The address cannot be listened on."""

    advice = (
        "Give --host an address of this machine (127.0.0.1, or 0.0.0.0 for all of them), and"
        " --port a number from 1024 up, or 0 for any that is free."
    )


class _Server(uvicorn.Server):
    """uvicorn without signal handlers, which calls back once it listens."""

    def __init__(self, config: uvicorn.Config, started: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_started = started

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_started()


async def bind(host: str, port: int, *, patience: float = PATIENCE) -> socket.socket:
    """A bound TCP socket; port 0 takes a free one. Raises AddressInUse or BadAddress, the
    latter also where a name is not resolved within ``patience`` seconds."""
    given = f"{bracketed(host)}:{port}"
    try:
        async with asyncio.timeout(patience):
            family, address = await _resolved(host, port)
        # On Linux this only skips TIME_WAIT; a port that is listened on stays refused.
        return socket.create_server(address, family=family, backlog=BACKLOG)
    except TimeoutError:
        why = f"the name was not resolved within {patience:g} s"
        raise BadAddress(f"cannot listen on {given}: {why}") from None
    except (OSError, UnicodeError) as error:
        raise _refused(given, error) from error


async def bind_unless(stop: asyncio.Event, host: str, port: int) -> socket.socket | None:
    """As :func:`bind`; None where ``stop`` is set before there is an answer."""
    binding = asyncio.create_task(bind(host, port))
    try:
        await _first(binding, stop)
    finally:
        binding.cancel()  # nothing, where it is done
    return binding.result() if binding.done() else None


def bracketed(host: str) -> str:
    """A host as URLs write it."""
    return f"[{host}]" if ":" in host else host


async def serve(
    app: ASGIApp,
    listener: socket.socket,
    *,
    stop: asyncio.Event,
    drain: Callable[[], Awaitable[None]],
    graceful: float,
    bound: Callable[[int], None],
    connections: Connections,
) -> None:
    """Serve until ``stop`` is set; returns when everything has ended.

    ``bound`` is called with the port once connections are accepted. ``connections`` brings the
    limits that they have here.
    """
    number = listener.getsockname()[1]
    listening = asyncio.Event()
    server = _Server(_config(app, connections), listening.set)
    running = asyncio.create_task(server.serve([listener]), name="http server")
    sweeping = asyncio.create_task(connections.run(), name="http sweep")
    try:
        await _first(running, listening)
        if not running.done():
            bound(number)
        await _first(running, stop)
    finally:
        await _stop(server, running, drain, graceful)
        sweeping.cancel()
        listener.close()


def _config(app: ASGIApp, connections: Connections) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=partial(Connection, connections),  # type: ignore[arg-type]  # it is called only
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=True,
        proxy_headers=False,
        backlog=BACKLOG,
    )


async def _first(running: asyncio.Task[Any], event: asyncio.Event) -> None:
    """Until the event, or until the task ends by itself. Raises what that raised."""
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
        log.warning("not all streams were sent to reconnect within %.1f s", graceful / 2)
    except Exception:
        log.exception("sending streams to reconnect failed")
    left = max(0.1, until - loop.time())
    server.config.timeout_graceful_shutdown = left  # type: ignore[assignment]  # any number does
    server.should_exit = True
    await asyncio.wait([running])
    if server.server_state.tasks:
        await asyncio.wait(list(server.server_state.tasks), timeout=0.5)
    if not running.cancelled():
        running.result()


async def _resolved(host: str, port: int) -> _Address:
    """Family and address. A name is looked up in a thread of its own that nobody waits for:
    a name server that does not answer holds neither the loop nor the end of the process."""
    with contextlib.suppress(OSError):
        return _looked_up(host, port, socket.AI_NUMERICHOST)
    found: concurrent.futures.Future[_Address] = concurrent.futures.Future()
    found.set_running_or_notify_cancel()  # from now on a cancel leaves it alone

    def ask() -> None:
        try:
            found.set_result(_looked_up(host, port))
        except (OSError, UnicodeError) as error:
            found.set_exception(error)

    threading.Thread(target=ask, name="resolver", daemon=True).start()
    return await asyncio.wrap_future(found)


def _looked_up(host: str, port: int, flags: int = 0) -> _Address:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE | flags)
    family, _, _, _, address = found[0]
    return family, address


def _refused(address: str, error: OSError | UnicodeError) -> errors.SetupError:
    if isinstance(error, UnicodeError):
        number = int(socket.EAI_NONAME)
    else:
        number = error.errno or errno.EINVAL
    if number == errno.EADDRINUSE:
        return errors.AddressInUse(f"{address} is in use by another process")
    # Python's own text of a refused address repeats the address.
    why = error.strerror if isinstance(error, socket.gaierror) else os.strerror(number)
    return BadAddress(f"cannot listen on {address}: {_WHY.get(number, why)}")
