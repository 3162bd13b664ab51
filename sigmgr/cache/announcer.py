"""Events on their way to gateways, through Redis: fulfils ``ports.Announcer``.

Rules:
1. One script call per shard puts or buries the sigs, adds the events to the shard's stream and
   publishes them on its channel; the calls of a batch travel together.
2. A revocation leaves a tombstone in the sig's place, so that a slow writer cannot put back a
   sig from before it (``sigs``).
3. The stream keeps facts and no sig. The channel's message brings each sig that was given.

What this module does not do: derive sigs, know how a value is sealed, or read a clock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final

from sigmgr.cache import scripts
from sigmgr.cache.client import RedisParts
from sigmgr.cache.scripts import Call
from sigmgr.cache.sigs import CHUNK, chunks
from sigmgr.model import redis_layout
from sigmgr.model.event import Event, EventType
from sigmgr.model.sig import Current
from sigmgr.model.values import encode, tombstone
from sigmgr.ports import Announcement, Values

#: The first message of a wide batch brings so many events.
_FIRST: Final = 125
#: Outlives any writer that read before a revocation.
_TOMBSTONE_SECONDS: Final = 3600

_REVOKED: Final = EventType.REVOKED.value
_NEW_SIG: Final = frozenset({EventType.ISSUED.value, EventType.RENEWED.value})


class RedisAnnouncer:
    """``values`` makes what lies in Redis. ``serve_until`` answers the Unix second from which a
    sig may no longer be served without a look into the store. A shard's stream keeps so many
    entries, and none for much longer than ``stream_seconds``: an entry may have a thousand events.
    """

    def __init__(
        self,
        redis: RedisParts,
        layout: redis_layout.Layout,
        *,
        values: Values,
        serve_until: Callable[[Current], int],
        stream_length: int = 10_000,
        stream_seconds: int = 120,
    ) -> None:
        self._redis = redis
        self._layout = layout
        self._values = values
        self._serve_until = serve_until
        self._stream_length = stream_length
        self._stream_ms = stream_seconds * 1000

    async def announce(self, batch: Sequence[Announcement], now: int) -> list[bool]:
        positions: dict[int, list[int]] = {}
        for i, one in enumerate(batch):
            positions.setdefault(self._layout.shard(one.event.holder), []).append(i)
        answers = [True] * len(batch)
        for flight in _flights(positions):
            calls = [
                self._announcing(shard, [batch[i] for i in where], now) for shard, where in flight
            ]
            for (_, where), flags in zip(
                flight, await scripts.run(self._redis, scripts.ANNOUNCE, calls), strict=True
            ):
                for i, flag in zip(where, flags, strict=True):
                    answers[i] = flag != scripts.MISSING
        return answers

    def _announcing(self, shard: int, batch: list[Announcement], now: int) -> Call:
        """The script's call for the announcements of one shard."""
        layout = self._layout
        keys: list[str | bytes] = [layout.stream_key(shard)]
        tasks: list[bytes] = []
        sigs: list[bytes] = []
        brought: list[bytes] = []
        for event, current in batch:
            todo, seconds, value = self._task(event, current, now)
            tasks.append(scripts.TASK.pack(todo, seconds))
            if todo == scripts.NOTHING:
                brought.append(b"")
                continue
            key = layout.sig_key_in(shard, event.holder).encode()
            keys.append(key)
            put = todo == scripts.PUT_IF_NEWER
            sigs.append(self._values.seal(shard, key, value) if put else value)
            brought.append(value if put else b"")
        events = redis_layout.encode_events([one.event for one in batch])
        args = [
            layout.channel(shard),
            self._stream_length,
            self._stream_ms,
            events,
            b"".join(tasks),
            redis_layout.encode_values(sigs),
            self._values.seal_message(shard, events, brought, now),
        ]
        return Call(keys, args)

    def _task(self, event: Event, current: Current | None, now: int) -> tuple[int, int, bytes]:
        """What the script is to do with the cached sig: the task, seconds to live, plain value."""
        if current is not None and event.type != _REVOKED:
            seconds = self._serve_until(current) - now
            if seconds > 0:
                return scripts.PUT_IF_NEWER, seconds, encode(current)
        elif event.type == _REVOKED:
            return scripts.BURY, _TOMBSTONE_SECONDS, tombstone(event.issued_at)
        elif event.type in _NEW_SIG and event.expires_at > now:
            return scripts.LOOK, 0, tombstone(event.issued_at)
        return scripts.NOTHING, 0, b""


def _flights(positions: dict[int, list[int]]) -> Iterable[list[tuple[int, list[int]]]]:
    """Whole shards, about a chunk's worth at a time, in one pipeline: a message for each shard. A
    shard with more than a chunk has several calls. The first flights of a wide batch are small, so
    that readers begin while the rest is packed."""
    flight: list[tuple[int, list[int]]] = []
    size = 0
    most = CHUNK if sum(map(len, positions.values())) <= CHUNK else _FIRST
    for shard, where in positions.items():
        for some in chunks(where):
            if flight and size + len(some) > most:
                yield flight
                flight, size, most = [], 0, min(2 * most, CHUNK)
            flight.append((shard, list(some)))
            size += len(some)
    if flight:
        yield flight
