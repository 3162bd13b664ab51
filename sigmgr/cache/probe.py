"""Tests whether Redis takes writes, with a key without meaning on every node.

A full server and a replica answer a ping as usual and refuse every write.

What this module does not do: schedule itself.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from typing import Any, Final

from redis.exceptions import RedisError

from sigmgr.cache.client import RedisParts
from sigmgr.model import errors
from sigmgr.model.redis_layout import Layout

#: What a process does while Redis takes no writes.
WITHOUT: Final = "gets are answered from the database, what is new reaches clients later"
#: Seconds after which the key expires.
_EXPIRY: Final = 60
_WHY: Final = {
    "OOM": "full",
    "READONLY": "read-only",
    "NOAUTH": "refuses the login (NOAUTH)",
    "WRONGPASS": "refuses the login (WRONGPASS)",
}


async def probe(redis: RedisParts, layout: Layout) -> str:
    """What is wrong, in a few words; empty where nothing is: ``does not answer``, ``full``,
    ``read-only``, ``refuses writes (CODE)`` or ``refuses the login (CODE)``; for a cluster the
    state of most of its nodes, and of how many."""
    try:
        keys = await redis.run(lambda client: _one_key_a_node(client, layout))
    except errors.CacheUnavailable as error:
        return _described(error)
    found = await asyncio.gather(*(_write(redis, key) for key in keys))
    wrong = Counter(filter(None, found))
    if not wrong:
        return ""
    [(why, nodes)] = wrong.most_common(1)
    return why if len(keys) == 1 else f"{why} on {nodes} of {len(keys)} nodes"


async def _one_key_a_node(client: Any, layout: Layout) -> list[str]:
    keys = [layout.probe_key(shard) for shard in range(layout.shards)]
    if not hasattr(client, "get_node_from_key"):
        return keys[:1]
    await client.initialize()
    return list({client.get_node_from_key(key).name: key for key in keys}.values())


async def _write(redis: RedisParts, key: str) -> str:
    try:
        await redis.run(lambda client: client.set(key, b"1", ex=_EXPIRY))
    except errors.CacheUnavailable as error:
        return _described(error)
    return ""


def _described(error: errors.CacheUnavailable) -> str:
    code = _code_of(error.__cause__)
    return _WHY.get(code) or (f"refuses writes ({code})" if code else "does not answer")


def _code_of(error: BaseException | None) -> str:
    """The first word of a refusal, such as READONLY; empty where there is none."""
    if not isinstance(error, RedisError):
        return ""
    if error.status_code:
        return error.status_code
    code = re.match(r"[A-Z]{3,}\b", str(error))
    return code[0] if code else ""
