"""What the helper processes do; see ``children``.

Servers, ours and bare ones, run on the same uvicorn with the same options and event loop
(``sigmgr.http.server.serve``), so that a ratio compares applications and nothing else. Ours
tune the garbage collector as ``sigmgr serve`` does; a bare one has Python's defaults.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from redis.asyncio import Redis

from benchmarks import clients
from benchmarks.stage import Handler
from sigmgr.http.protocol import ConnectionLimits, Connections
from sigmgr.http.server import bind, serve
from sigmgr.model.holder import Holder
from sigmgr.settings import Settings
from sigmgr.wiring.parts import open_parts
from sigmgr.wiring.service import open_service, tune_gc

Role = AsyncIterator[tuple[dict[str, Any], Handler]]


@asynccontextmanager
async def renewer(settings: dict[str, Any], feed: bool = False) -> Role:
    """A worker: ticks until nothing is due. ``feed``: and gives the events their numbers, as the
    job of ``serve`` does, until none waits."""
    tree = Settings.model_validate(settings)
    async with open_parts(tree) as parts:
        tune_gc()
        every = tree.scheduler.relay_every

        async def numbering(ended: asyncio.Event) -> None:
            while not ended.is_set():
                await parts.flows.relay.number(parts.base.clock())
                await asyncio.sleep(every)
            await parts.flows.relay.number(parts.base.clock())

        async def handle(do: str) -> dict[str, Any]:
            started, cpu, renewed, failed = time.monotonic(), time.process_time(), 0, 0
            ended, done = started, asyncio.Event()
            beside = asyncio.create_task(numbering(done)) if feed else None
            while (tally := await parts.flows.renew.tick(parts.base.clock())).total:
                renewed += tally.renewed
                failed += tally.failed
                ended = time.monotonic()
            if beside is not None:
                done.set()
                await beside
                ended = time.monotonic()
            cpu = time.process_time() - cpu
            return {"renewed": renewed, "failed": failed, "from": started, "to": ended, "cpu": cpu}

        yield {}, handle


@asynccontextmanager
async def service(settings: dict[str, Any], roles: list[str]) -> Role:
    """``sigmgr serve`` of these roles, on a free port."""
    async with AsyncExitStack() as stack:
        running = await stack.enter_async_context(
            open_service(Settings.model_validate(settings), frozenset(roles))
        )
        tune_gc()
        port: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        stop = asyncio.Event()
        task = asyncio.create_task(running.run(stop, bound=port.set_result))
        stack.push_async_callback(_end, stop, task)
        yield {"port": await _port(task, port)}, _nothing_to_do


@asynccontextmanager
async def acker(settings: dict[str, Any]) -> Role:
    """The flows of a gateway process, without its HTTP."""
    async with open_parts(Settings.model_validate(settings), serving=True) as parts:
        tune_gc()
        publisher = asyncio.create_task(parts.flows.publisher.run())

        async def handle(do: str, sdkappid: int, sigs: list[tuple[str, int]]) -> dict[str, Any]:
            take, now = parts.flows.deliver.ack, parts.base.clock()
            started = time.monotonic()
            answers = await asyncio.gather(
                *(take(Holder(sdkappid, userid), at, at, now) for userid, at in sigs),
                return_exceptions=True,
            )
            seconds = time.monotonic() - started
            return {"seconds": seconds, "refused": sum(one is not None for one in answers)}

        yield {}, handle
        publisher.cancel()


@asynccontextmanager
async def bare_get(url: str) -> Role:
    """A raw ASGI route: the path is the key, one GET, the value is the answer."""
    client = Redis.from_url(url, protocol=3)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        body: Any = await client.get(scope["raw_path"])
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(body)),
            (b"cache-control", b"no-store"),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async with _served(app) as port:
        yield {"port": port}, _nothing_to_do
    await client.aclose()


@asynccontextmanager
async def bare_stream(size: int) -> Role:
    """A raw ASGI SSE endpoint: one message of ``size`` bytes at once, and on ``POST`` one more
    to every stream, each its own.

    Not in the order of their opening: a wave comes in that of the users' hash, and to walk
    through memory as it was laid out is quicker, by a fifth when this was measured.
    """
    sends: dict[int, Any] = {}
    mixed: list[tuple[int, Any]] = []
    head = [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-store")]

    def message(kind: bytes, number: int) -> dict[str, Any]:
        frame = b"event: %b\nid: %d\ndata: " % (kind, number)
        return {
            "type": "http.response.body",
            "body": frame + b"x" * (size - len(frame) - 2) + b"\n\n",
            "more_body": True,
        }

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["method"] == "POST":
            if len(mixed) != len(sends):
                mixed[:] = random.sample(list(sends.items()), len(sends))
            for number, stream in mixed:
                await stream(message(b"sig.renewed", number))
            await send({"type": "http.response.start", "status": 204, "headers": []})
            await send({"type": "http.response.body", "body": b""})
            return
        number = id(send)
        await send({"type": "http.response.start", "status": 200, "headers": head})
        await send(message(b"sig.current", number))
        sends[number] = send
        try:
            while (await receive())["type"] != "http.disconnect":
                pass
        finally:
            mixed.clear()
            del sends[number]

    async with _served(app) as port:
        yield {"port": port}, _nothing_to_do


@asynccontextmanager
async def getter() -> Role:
    """A load of keep-alive requests."""
    yield {}, clients.load


@asynccontextmanager
async def asker() -> Role:
    """Gets at an easy pace, each timed."""
    yield {}, clients.ask


@asynccontextmanager
async def listener() -> Role:
    """Holds streams open and reports when all have got a message."""
    streams = clients.Streams()
    yield {}, streams.handle
    streams.close()


@asynccontextmanager
async def _served(app: Any) -> AsyncIterator[int]:
    port: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    stop = asyncio.Event()

    async def drain() -> None:
        return

    task = asyncio.create_task(
        serve(
            app,
            await bind("127.0.0.1", 0),
            stop=stop,
            drain=drain,
            graceful=0.5,
            bound=port.set_result,
            connections=Connections(ConnectionLimits()),
        )
    )
    try:
        yield await _port(task, port)
    finally:
        await _end(stop, task)


async def _port(task: asyncio.Task[None], port: asyncio.Future[int]) -> int:
    """Where the server listens, or why it does not."""
    task.add_done_callback(lambda _: port.done() or port.cancel())
    try:
        return await port
    except asyncio.CancelledError:
        if task.done():
            task.result()
        raise


async def _end(stop: asyncio.Event, task: asyncio.Task[None]) -> None:
    stop.set()
    await asyncio.wait([task], timeout=10)


async def _nothing_to_do(do: str) -> dict[str, Any]:
    return {}


ROLES: dict[str, Any] = {
    role.__name__: role
    for role in (renewer, service, acker, bare_get, bare_stream, getter, asker, listener)
}
