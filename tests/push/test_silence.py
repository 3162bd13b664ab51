"""The shard channels over one connection: what they make of silence, and how often they compare.

The connection is scripted, and the time is its own: a wait lasts as long as it may.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest
from structlog.testing import capture_logs

from sigmgr.model.redis_layout import Layout
from sigmgr.push.shards import ShardChannels

START = 1000.0
#: Not a multiple of what is read at a time.
LAYOUT = Layout(20)


class Scripted:
    """A Redis with empty streams, and its pub/sub connection. It ends with the first pause between
    two connections, or after ``lasts`` seconds."""

    def __init__(self, lasts: float = 100.0, confirms: bool = True, answers: bool = True) -> None:
        self.now, self.end = START, START + lasts
        self.confirms, self.answers = confirms, answers
        self.inbox: list[tuple[float, dict[str, Any]]] = []
        self.waits: list[float] = []
        self.pings: list[float] = []
        self.compared: list[tuple[float, str]] = []
        self.subscribed: list[str] = []
        self.closed = 0

    async def run(self, call: Any) -> Any:
        return await call(self)

    async def pubsub(self) -> Any:
        return self

    # -- the connection ----------------------------------------------------------------------

    async def subscribe(self, *channels: str | bytes) -> None:
        self.subscribed += [c.decode() if isinstance(c, bytes) else c for c in channels]
        if self.confirms:
            self.inbox += [(self.now, {"type": "subscribe", "channel": c}) for c in channels]

    async def get_message(self, timeout: float) -> dict[str, Any] | None:
        if self.now >= self.end:
            raise asyncio.CancelledError
        self.waits.append(timeout)
        if self.inbox and self.inbox[0][0] <= self.now + timeout:
            at, message = self.inbox.pop(0)
            self.now = max(self.now, at)
            return message
        self.now += timeout
        return None

    async def ping(self) -> None:
        self.pings.append(self.now - START)
        if self.answers:
            self.inbox.append((self.now + 0.25, {"type": "pong", "channel": None}))

    async def aclose(self) -> None:
        self.closed += 1

    # -- the streams -------------------------------------------------------------------------

    def pipeline(self, transaction: bool) -> Scripted:
        self._asked = 0
        return self

    async def __aenter__(self) -> Scripted:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    def xrevrange(self, key: str, count: int) -> None:
        self.compared.append((self.now - START, key))
        self._asked += 1

    def xrange(self, key: str, min: str, count: int) -> None:  # noqa: A002
        self._asked += 1

    async def execute(self) -> list[list[Any]]:
        return [[] for _ in range(self._asked)]


async def listened(
    redis: Scripted, monkeypatch: pytest.MonkeyPatch, **options: Any
) -> ShardChannels:
    """To the end of the script."""

    async def sleep(seconds: float) -> None:
        raise asyncio.CancelledError

    channels = ShardChannels(redis, LAYOUT, draw=lambda: 0.5, **options)
    with monkeypatch.context() as patch:
        patch.setattr(asyncio, "sleep", sleep)
        patch.setattr(asyncio, "get_running_loop", lambda: SimpleNamespace(time=lambda: redis.now))
        with pytest.raises(asyncio.CancelledError):
            await channels.run()
    return channels


async def test_a_server_that_answers_no_ping_is_lost_and_nothing_unexpected(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    redis, states = Scripted(answers=False), []
    with capture_logs() as lines:
        channels = await listened(
            redis, monkeypatch, ping_after=0.5, round_every=500.0, on_state=states.append
        )
    assert redis.pings == [0.5]
    assert redis.now == START + 1.0
    assert (states, redis.closed, channels.counts.connections) == ([True, False], 1, 1)
    assert [line["log_level"] for line in lines] == ["info", "info"]


async def test_a_server_that_answers_is_pinged_when_it_is_silent_and_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    redis = Scripted(lasts=10.0)
    channels = await listened(redis, monkeypatch, ping_after=0.5, round_every=500.0)
    # Half a second of silence, and a quarter for the answer.
    assert redis.pings == [0.5 + 0.75 * n for n in range(len(redis.pings))]
    assert redis.pings[-1] > 9.0
    assert channels.last_received > START + 9.0
    assert channels.counts.connections == 1


async def test_what_is_received_puts_the_ping_off(monkeypatch: pytest.MonkeyPatch) -> None:
    redis = Scripted(lasts=2.0, answers=False)
    redis.inbox = [(START + 0.25 * n, {"type": "message", "channel": b"other"}) for n in range(4)]
    await listened(redis, monkeypatch, ping_after=0.5, round_every=500.0)
    assert redis.pings == [1.25]


async def test_a_subscription_that_is_not_confirmed_is_given_up_quietly(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    redis, states = Scripted(confirms=False), []
    with capture_logs() as lines:
        channels = await listened(redis, monkeypatch, ping_after=0.5, on_state=states.append)
    assert START < redis.now <= START + 3 * 0.5
    assert (states, lines, redis.closed) == ([], [], 1)
    assert redis.compared == []
    assert (channels.counts.connections, channels.last_received) == (0, 0)


async def test_it_is_up_when_every_channel_is_confirmed_and_every_shard_compared(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Messages that come before are no confirmations, and are in the streams that are read next."""
    redis = Scripted(lasts=1.0)
    early = {"type": "message", "channel": LAYOUT.channel(3).encode(), "data": b""}
    redis.inbox = [(START, early)] * 3
    seen: list[tuple[int, int]] = []
    channels = await listened(
        redis, monkeypatch, round_every=500.0,
        on_state=lambda up: seen.append((len(redis.inbox), len(redis.compared))),
    )  # fmt: skip
    assert seen[0] == (0, LAYOUT.shards)
    assert channels.counts.malformed == 0
    assert sorted(redis.subscribed) == sorted(LAYOUT.channel(s) for s in range(LAYOUT.shards))


async def test_every_shard_is_compared_once_a_round_and_they_take_turns(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    redis = Scripted(lasts=12.2)
    await listened(redis, monkeypatch, ping_after=0.5, round_every=3.0)
    keys = {LAYOUT.stream_key(shard) for shard in range(LAYOUT.shards)}
    for first in (0.5, 3.5, 6.5):
        round_ = [key for at, key in redis.compared if first <= at < first + 3.0]
        assert Counter(round_) == Counter(keys)
    assert len({at for at, _ in redis.compared if 0.5 <= at < 3.5}) > 1
    # Nor does it wait in tiny steps.
    assert len(redis.waits) < LAYOUT.shards + 60


async def test_a_round_waits_for_no_ping(monkeypatch: pytest.MonkeyPatch) -> None:
    redis = Scripted(lasts=4.0)
    await listened(redis, monkeypatch, ping_after=2.0, round_every=0.75)
    times = sorted({at for at, _ in redis.compared})
    assert times[:9] == [0.25 * n for n in range(9)]
