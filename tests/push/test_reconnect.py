"""Between two connections of the shard channels: longer and longer pauses, up to a limit."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from sigmgr.model import errors
from sigmgr.model.redis_layout import Layout
from sigmgr.push.shards import ShardChannels


class Away:
    """A Redis that refuses every connection."""

    async def run(self, call: Any) -> Any:
        raise errors.CacheUnavailable

    async def pubsub(self) -> Any:
        raise errors.CacheUnavailable


async def test_pauses_double_up_to_two_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 9:
            raise asyncio.CancelledError

    draws = iter([1.0] * 8 + [0.0])
    monkeypatch.setattr(asyncio, "sleep", sleep)
    channels = ShardChannels(Away(), Layout(4), draw=lambda: next(draws))
    with pytest.raises(asyncio.CancelledError):
        await channels.run()
    assert pauses == [0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0, 2.0, 1.0]
