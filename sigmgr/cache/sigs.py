"""Cached sigs in Redis; fulfils ``ports.SigCache``.

Rules:
1. A sig is only replaced by one issued in a later second; Redis itself compares (``scripts``).
2. A tombstone, which a revocation leaves (``announcer``), reads as a miss.
3. An entry expires at ``serve_until(current)``, by a relative time to live, which is correct under
   any clock; one that is already past that is not written. Redis may still return it late, so
   callers check it.
4. An unreadable value is a miss, is counted, and is replaced: by its head it would win against a
   readable one of the same second. A tombstone of the second before takes its place for a while, so
   that no slow writer puts an older value there.
5. One script call per shard; the calls of a batch travel together.

What this module does not do: announce events, derive sigs, know how a value is sealed, look into
the store, or read a clock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any, Final

from sigmgr.cache import scripts
from sigmgr.cache.client import RedisParts
from sigmgr.cache.scripts import Call
from sigmgr.model import errors, redis_layout
from sigmgr.model.holder import Holder
from sigmgr.model.sig import Current
from sigmgr.model.values import VERSION, encode, is_tombstone, tombstone
from sigmgr.ports import Values
from sigmgr.telemetry import get_logger

log = get_logger("sigmgr.cache")

#: Keys or events that travel together; the time-out is meant for about this much work.
CHUNK: Final = 1000

_VERSION: Final = bytes([VERSION])
#: The bytes of a value that the scripts read.
_COMPARED: Final = 5
#: Longer than the time between any caller's read and put.
_ROOM_SECONDS: Final = 60


class RedisSigCache:
    """``values`` encodes and decodes the values in Redis. ``serve_until`` is the Unix second from
    which a sig may no longer be served without a look into the store."""

    def __init__(
        self,
        redis: RedisParts,
        layout: redis_layout.Layout,
        *,
        values: Values,
        serve_until: Callable[[Current], int],
    ) -> None:
        self._redis = redis
        self._layout = layout
        self._values = values
        self._serve_until = serve_until
        #: How many values were unreadable. Should be 0, except during an upgrade.
        self.damaged = 0

    async def get(self, holders: Sequence[Holder]) -> list[Current | None]:
        if len(holders) == 1:
            key = self._layout.sig_key(holders[0])
            return await self._read(holders, [await self._redis.run(lambda c: c.get(key))])
        found: list[Current | None] = []
        for chunk in chunks(holders):
            fetch = self._fetch_by_shard if self._redis.cluster else self._fetch
            found += await self._read(chunk, await fetch(chunk))
        return found

    async def put(self, currents: Sequence[Current], now: int) -> None:
        for chunk in chunks(currents):
            calls: dict[int, Call] = {}
            for current in chunk:
                until = self._serve_until(current)
                if until <= now:
                    continue
                shard = self._layout.shard(current.holder)
                call = calls.setdefault(shard, Call([], []))
                key = self._layout.sig_key_in(shard, current.holder).encode()
                call.keys.append(key)
                value = self._values.seal(shard, key, encode(current))
                call.args += (current.issued_at, (until - now) * 1000, value)
            await scripts.run(self._redis, scripts.PUT, list(calls.values()))

    async def _fetch(self, holders: Sequence[Holder]) -> list[Any]:
        """One MGET, for a server without slots."""
        keys = [self._layout.sig_key(holder) for holder in holders]
        found: list[Any] = await self._redis.run(lambda client: client.mget(keys))
        return found

    async def _fetch_by_shard(self, holders: Sequence[Holder]) -> list[Any]:
        """An MGET for each shard, in one pipeline."""
        positions: dict[int, list[int]] = {}
        for i, holder in enumerate(holders):
            positions.setdefault(self._layout.shard(holder), []).append(i)

        async def fetch(client: Any) -> list[Any]:
            async with client.pipeline(transaction=False) as pipe:
                for shard, where in positions.items():
                    keys = [self._layout.sig_key_in(shard, holders[i]) for i in where]
                    pipe.execute_command("MGET", *keys)
                return _checked(await pipe.execute(raise_on_error=False))

        found: list[Any] = [None] * len(holders)
        answers = await self._redis.run(fetch)
        for where, some in zip(positions.values(), answers, strict=True):
            for i, value in zip(where, some, strict=True):
                found[i] = value
        return found

    async def _read(
        self, holders: Sequence[Holder], raw: Sequence[bytes | None]
    ) -> list[Current | None]:
        found: list[Current | None] = []
        unread: list[tuple[Holder, bytes]] = []
        for holder, value in zip(holders, raw, strict=True):
            current = None if value is None else self._values.decode(holder, value)
            if current is None and value is not None and not is_tombstone(value):
                unread.append((holder, value))
            found.append(current)
        if unread:
            await self._make_room(unread)
        return found

    async def _make_room(self, unread: Sequence[tuple[Holder, bytes]]) -> None:
        """Make these unreadable values replaceable by one of the same second."""
        if not self.damaged:
            text = "cached values could not be read; sigmgr_cache_unread counts them"
            log.warning(text, action="unread", count=len(unread))
        self.damaged += len(unread)
        calls: dict[int, Call] = {}
        for holder, value in unread:
            # A value without such a head counts for nothing with the scripts, and is overwritten.
            if value[:1] == _VERSION and len(value) >= _COMPARED:
                issued_at = int.from_bytes(value[1:_COMPARED], "big")
                before = tombstone(max(issued_at - 1, 0))
                shard = self._layout.shard(holder)
                call = calls.setdefault(shard, Call([], []))
                call.keys.append(self._layout.sig_key_in(shard, holder))
                call.args += (value, before, _ROOM_SECONDS)
        with suppress(errors.CacheUnavailable):
            await scripts.run(self._redis, scripts.REPLACE, list(calls.values()))


def chunks(things: Sequence[Any]) -> Iterable[Sequence[Any]]:
    return (things[i : i + CHUNK] for i in range(0, len(things), CHUNK))


def _checked(answers: list[Any]) -> list[Any]:
    for answer in answers:
        if isinstance(answer, Exception):
            raise answer
    return answers
