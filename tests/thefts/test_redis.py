"""A thief of Redis: its memory, its file, its channels and the traffic to it hold no sig."""

from __future__ import annotations

import asyncio
import codecs
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from sigmgr.cache.client import RedisParts
from sigmgr.model import values
from tests.contract.cache_kit import opened as open_parts
from tests.contract.cache_kit import sig_text
from tests.servers import RedisServer
from tests.thefts.loot import container, found, inflated
from tests.thefts.scene import USERS, Scene, opened


async def memory(redis: RedisParts) -> bytes:
    """Every key with its name and all that is in it."""

    async def read(client: Any) -> bytes:
        loot = []
        async for key in client.scan_iter(count=1000):
            kind = await client.type(key)
            if kind == b"string":
                loot += [key, await client.get(key)]
            else:
                assert kind == b"stream", f"{key!r} is a {kind!r}: read it here"
                entries = await client.xrange(key)
                loot += [key, *(part for _, fields in entries for part in fields.values())]
        return b"\0".join(loot)

    return await redis.run(read)


async def snapshot(redis: RedisParts, server: RedisServer) -> bytes:
    """The file that a backup of Redis is."""
    assert server.directory is not None
    await redis.run(lambda client: client.config_set("rdbcompression", "no"))
    await redis.run(lambda client: client.save())
    file: Path = server.directory / "dump.rdb"
    loot = file.read_bytes()
    file.unlink()
    return loot


class Tap:
    """Reads along: all messages of all channels, and every command with its arguments."""

    def __init__(self, redis: RedisParts, server: RedisServer) -> None:
        self._redis = redis
        self._server = server
        self.messages: list[bytes] = []
        self._wire = bytearray()

    @property
    def wire(self) -> bytes:
        """What MONITOR shows, with its escapes undone."""
        unescaped, _ = codecs.escape_decode(bytes(self._wire))
        assert isinstance(unescaped, bytes)
        return unescaped

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[None]:
        pubsub = await self._redis.pubsub()
        await pubsub.psubscribe("*")
        reader, writer = await asyncio.open_connection("127.0.0.1", self._server.port)
        writer.write(b"MONITOR\r\n")
        assert await reader.readline() == b"+OK\r\n"
        tasks = [asyncio.create_task(self._listen(pubsub)), asyncio.create_task(self._tap(reader))]
        try:
            yield
            await self._redis.run(lambda client: client.echo("the end"))
            async with asyncio.timeout(10):
                while b"the end" not in self._wire:
                    await asyncio.sleep(0.01)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()
            await pubsub.aclose()

    async def _listen(self, pubsub: Any) -> None:
        while True:
            message = await pubsub.get_message(timeout=1)
            if message is not None and message["type"] == "pmessage":
                self.messages.append(message["data"])

    async def _tap(self, reader: asyncio.StreamReader) -> None:
        while data := await reader.read(1 << 16):
            self._wire += data


@pytest.fixture
def wiped(redis_server: RedisServer) -> RedisServer:
    redis_server.wipe()
    return redis_server


async def stolen(scene: Scene, server: RedisServer) -> dict[str, bytes]:
    """All that can be had of Redis while the service works."""
    redis = scene.parts.redis
    assert redis is not None
    tap = Tap(redis, server)
    async with tap.reading():
        await scene.issue()
        first = await memory(redis)
        await scene.renew()
    cached = await scene.parts.flows.issue.many(USERS[:-1], scene.clock())
    assert len(cached) == len(USERS) - 1
    return {
        "memory": first + await memory(redis),
        "file": await snapshot(redis, server),
        "channels": b"\0".join(tap.messages),
        "wire": tap.wire,
    }


@pytest.mark.parametrize("seal", [True, False])
async def test_nothing_that_is_there_is_a_sig(
    wiped: RedisServer, tmp_path: Path, seal: bool
) -> None:
    """And without the seal the same search finds them everywhere: it can find."""
    database = f"sqlite+aiosqlite:///{tmp_path}/sigmgr.db"
    async with opened(database, wiped.url, seal=seal) as scene:
        loot = await stolen(scene, wiped)
        assert len(scene.sigs) > 2 * len(USERS)
        for place, data in loot.items():
            assert b"user3" in data, f"the search of {place} saw nothing of the service"
            assert bool(found(data, scene.sigs)) is not seal, place


async def test_sealed_sigs_are_what_the_service_answers_from(
    wiped: RedisServer, tmp_path: Path
) -> None:
    """What is cached is read back by another process, without the store."""
    database = f"sqlite+aiosqlite:///{tmp_path}/sigmgr.db"
    async with opened(database, wiped.url) as scene:
        await scene.issue()
        flows = scene.parts.flows
        async with open_parts(wiped.url) as redis:
            raw = await redis.run(
                lambda c: c.mget([scene.parts.layout.sig_key(one) for one in USERS])
            )
        assert all(values.is_sealed(value) for value in raw)
        answers = [scene.parts.values.decode(*pair) for pair in zip(USERS, raw, strict=True)]
        assert answers == await flows.issue.many(USERS, scene.clock())


def test_the_search_knows_a_sig_in_every_form() -> None:
    import json
    import zlib
    from base64 import b64encode

    text = json.dumps({"TLS.ver": "2.0", "TLS.sig": sig_text("x", 44)}, separators=(",", ":"))
    sig = b64encode(zlib.compress(text.encode())).decode().translate(str.maketrans("+/=", "*-_"))
    other = zlib.compress(b'{"TLS.ver":"2.0"}')
    for loot in (sig, sig.translate(str.maketrans("*-_", "+/=")), text, sig_text("x", 44)):
        assert found(b"before " + loot.encode() + b" after", [sig])
    assert found(b"\x00\x01" + container(sig)[2:] + b"\xff", [sig])
    assert found(b"\x00" + other + b"tail", [sig])
    assert [*inflated(b"x" * 45 + b64encode(other))]
    assert not found(b"nothing " + bytes(range(256)) + sig_text("y").encode(), [sig])
