"""Receives every event: subscribes to the shard channels and repairs what they lose.

Rules:
1. A channel loses messages when a connection breaks; a shard's stream keeps them for a while.
   Each message names the stream id before it. Who has not seen exactly that id reads the
   stream from the last id seen.
2. An id that is gone from the stream, because the stream was trimmed, wiped or lost in a
   fail-over, is a loss: listeners get ``resync(shard)`` and look into the store. So they do
   when a message cannot be read, and for all that was before the first connection.
3. Every (re)connection subscribes first and then compares each shard's stream with what was
   seen, so nothing falls between. ``connected`` is true after that, never before.
4. Silence is checked with a ping: a frozen server looks like a quiet one. And every stream
   is compared again each ``round_every`` seconds: on a cluster a message may be lost between
   nodes while every connection lives, and a quiet shard would never show its gap.
5. Events come to listeners at least once. A listener that raises is logged and harms neither
   the others nor the loop.

What this module does not do: know holders, sigs or clients; or see a loss that leaves no trace: the
message lost while the stream was empty, and the stream wiped before the next one.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, NoReturn, Protocol

from redis.exceptions import RedisError

from sigmgr.model import errors, redis_layout
from sigmgr.model.event import Event
from sigmgr.model.redis_layout import StreamId
from sigmgr.ports import Draw, EventListener
from sigmgr.telemetry import get_logger

log = get_logger("sigmgr.push.shards")

#: Channels of one SUBSCRIBE.
_SUBSCRIBE_CHUNK: Final = 256
#: Shards whose streams are read in one pipeline; with ``repair_limit`` this bounds its answer.
_CHECK_CHUNK: Final = 8
_FIRST_WAIT: Final = 0.1
_LONGEST_WAIT: Final = 2.0
_SHORTEST_WAIT: Final = 0.01


class Redis(Protocol):
    """What is needed of ``cache.client.RedisParts``."""

    async def run(self, call: Callable[[Any], Awaitable[Any]]) -> Any: ...

    async def pubsub(self) -> Any: ...


@dataclass(slots=True)
class Counts:
    """How it went since the start. ``gaps``: messages that did not follow on what was seen."""

    gaps: int = 0
    repaired: int = 0
    missed: int = 0
    malformed: int = 0
    connections: int = 0


class _Lost(Exception):
    """The connection is of no more use."""


#: Of a shard, the events and what was brought, as bytes.
OpenMessage = Callable[[int, bytes, bytes], Sequence[bytes] | None]


def _nothing(_shard: int, _events: bytes, _brought: bytes) -> None:
    return None


class ShardChannels:
    """``open_message`` opens what a message of a shard brings for its events; None brings nothing.
    ``on_state`` is called when the channels go up (all is repaired then) or down. ``ping_after``:
    seconds of silence before a ping, and then for its answer. A gap of more than ``repair_limit``
    entries is not read but missed."""

    def __init__(
        self,
        redis: Redis,
        layout: redis_layout.Layout,
        *,
        draw: Draw,
        open_message: OpenMessage = _nothing,
        on_state: Callable[[bool], None] = lambda up: None,
        ping_after: float = 1.0,
        repair_limit: int = 1000,
        round_every: float = 10.0,
    ) -> None:
        self._redis = redis
        self._layout = layout
        self._draw = draw
        self._open = open_message
        self._on_state = on_state
        self._ping_after = ping_after
        self._repair_limit = repair_limit
        chunks = [
            range(first, min(first + _CHECK_CHUNK, layout.shards))
            for first in range(0, layout.shards, _CHECK_CHUNK)
        ]
        self._rounds = itertools.cycle(chunks)
        self._check_every = round_every / len(chunks)
        self._listeners: list[EventListener] = []
        self._seen: list[StreamId | None] = [None] * layout.shards
        self._shards = {layout.channel(s).encode(): s for s in range(layout.shards)}
        self._task: asyncio.Task[None] | None = None
        self.counts = Counts()
        self.connected = False
        #: Loop time at which Redis last answered; 0 before the first time.
        self.last_received = 0.0

    def add(self, listener: EventListener) -> None:
        self._listeners.append(listener)

    def start(self) -> None:
        """Run as a task until ``aclose``."""
        if self._task is None:
            self._task = asyncio.create_task(self.run(), name="shard-channels")

    async def aclose(self) -> None:
        task, self._task = self._task, None
        # More than once: wait_for of Python 3.11 swallows a cancellation that comes in the
        # same moment as its result, and the task would listen on.
        while task is not None and not task.done():
            task.cancel()
            await asyncio.wait([task], timeout=0.1)

    async def run(self) -> None:
        """Listen for ever, over any number of connections."""
        wait = _FIRST_WAIT
        try:
            while True:
                before = self.counts.connections
                self._set_state(up=False, why=await self._until_lost())
                if self.counts.connections > before:
                    wait = _FIRST_WAIT
                await asyncio.sleep(wait * (0.5 + self._draw() / 2))
                wait = min(2 * wait, _LONGEST_WAIT)
        finally:
            self._set_state(up=False, why="stopped")

    async def _until_lost(self) -> str:
        """Listen over one connection; answers why it ended."""
        try:
            await self._listen()
        except (RedisError, OSError, _Lost, errors.CacheUnavailable) as error:
            return type(error).__name__
        except Exception as error:
            log.exception("listening failed unexpectedly", action="shard-channels-failed")
            return type(error).__name__

    async def _listen(self) -> NoReturn:
        """One connection from subscription to its loss, which it raises."""
        pubsub = await self._redis.pubsub()
        try:
            await self._subscribe(pubsub)
            await self._check(range(self._layout.shards))
            self.counts.connections += 1
            self._set_state(up=True, why="subscribed")
            await self._receive(pubsub)
        finally:
            await self._drop(pubsub)

    async def _subscribe(self, pubsub: Any) -> None:
        """Returns when Redis has confirmed every channel."""
        channels = list(self._shards)
        for i in range(0, len(channels), _SUBSCRIBE_CHUNK):
            await pubsub.subscribe(*channels[i : i + _SUBSCRIBE_CHUNK])
        waiting = len(channels)
        while waiting:
            reply = await pubsub.get_message(timeout=2 * self._ping_after)
            if reply is None:
                raise _Lost("the subscription was not confirmed")
            if reply["type"] == "subscribe":
                waiting -= 1
            # A message that comes this early is in the stream that is read next.

    async def _receive(self, pubsub: Any) -> NoReturn:
        loop = asyncio.get_running_loop()
        pinged_at: float | None = None
        check_at = loop.time() + self._check_every
        while True:
            patience = min(self._ping_after, max(check_at - loop.time(), _SHORTEST_WAIT))
            message = await pubsub.get_message(timeout=patience)
            now = loop.time()
            if message is not None:
                pinged_at = None
                self.last_received = now
                if message["type"] == "message":
                    await self._take(message)
            elif pinged_at is not None and now - pinged_at >= self._ping_after:
                raise _Lost("no answer to a ping")
            elif pinged_at is None and now - self.last_received >= self._ping_after:
                await pubsub.ping()
                pinged_at = now
            if now >= check_at:
                check_at = now + self._check_every
                await self._check(next(self._rounds))

    async def _drop(self, pubsub: Any) -> None:
        """Close a connection that may be broken already."""
        try:
            await pubsub.aclose()
        except (RedisError, OSError) as error:
            log.debug("a lost connection", action="close-failed", error=type(error).__name__)

    async def _take(self, raw: dict[str, Any]) -> None:
        shard = self._shards.get(raw["channel"])
        if shard is None:
            return
        try:
            opened = partial(self._open, shard)
            previous, last, events, sigs = redis_layout.decode_message(raw["data"], opened)
        except ValueError:
            self.counts.malformed += 1
            self._miss(shard)
            return
        seen = self._seen[shard]
        if previous == seen:
            self._seen[shard] = last
            self._deliver(shard, events, sigs)
        elif seen is None or last > seen or previous == redis_layout.NO_ID:
            # Something is missing, or the stream is a new one: read it.
            self.counts.gaps += 1
            await self._check([shard])
            if (self._seen[shard] or redis_layout.NO_ID) < last:
                # The stream that had it is gone already. What was seen stays at what the
                # stream that is there has.
                self._deliver(shard, events)
        # Else a repair was faster than this message. Or ids went back on another server,
        # which the next round finds.

    async def _check(self, shards: Sequence[int]) -> None:
        """Read what these shards' streams have after what was seen, and deliver it."""
        for i in range(0, len(shards), _CHECK_CHUNK):
            some = shards[i : i + _CHECK_CHUNK]
            for shard, tail, entries in zip(some, *await self._read(some), strict=True):
                self._catch_up(shard, tail, entries)

    async def _read(self, shards: Sequence[int]) -> tuple[list[Any], list[Any]]:
        """For each shard the newest entry of its stream, and those from the one last seen on."""

        async def read(client: Any) -> list[Any]:
            async with client.pipeline(transaction=False) as pipe:
                for shard in shards:
                    key = self._layout.stream_key(shard)
                    pipe.xrevrange(key, count=1)
                    # Nothing seen: the tail says where to begin, the entries are not asked for.
                    start = redis_layout.format_id(self._seen[shard] or redis_layout.NO_ID)
                    count = self._repair_limit + 2 if self._seen[shard] is not None else 1
                    pipe.xrange(key, min=start, count=count)
                return list(await pipe.execute())

        answers = await self._redis.run(read)
        return answers[::2], answers[1::2]

    def _catch_up(self, shard: int, tail: list[Any], entries: list[Any]) -> None:
        newest = redis_layout.parse_id(tail[0][0]) if tail else redis_layout.NO_ID
        seen = self._seen[shard]
        if seen == newest:
            return
        ids = [redis_layout.parse_id(entry_id) for entry_id, _ in entries]
        if seen is None or not ids or ids[0] != seen or len(ids) > self._repair_limit + 1:
            self._seen[shard] = newest
            self._miss(shard)
            return
        try:
            events = [
                event
                for _, fields in entries[1:]
                for event in redis_layout.decode_events(fields[redis_layout.EVENT_FIELD])
            ]
        except (ValueError, KeyError):
            self.counts.malformed += 1
            self._seen[shard] = newest
            self._miss(shard)
            return
        self._seen[shard] = ids[-1]
        self.counts.repaired += len(events)
        self._deliver(shard, events)

    def _deliver(self, shard: int, events: Sequence[Event], sigs: Sequence[bytes] = ()) -> None:
        for listener in self._listeners:
            self._call(listener.receive, shard, events, sigs)

    def _miss(self, shard: int) -> None:
        self.counts.missed += 1
        for listener in self._listeners:
            self._call(listener.resync, shard)

    def _set_state(self, *, up: bool, why: str) -> None:
        if up != self.connected:
            self.connected = up
            self._call(self._on_state, up)
            log.info("the shard channels changed", action="shard-channels", up=up, why=why)

    def _call(self, receive: Callable[..., None], *what: Any) -> None:
        """See rule 5."""
        try:
            receive(*what)
        except Exception:
            log.exception("a listener failed", action="listener-failed", about=what[0])
