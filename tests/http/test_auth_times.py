"""Tokens: until when each thing that is known holds, and what is asked in between."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from sigmgr.http.auth import new_token
from sigmgr.model import errors
from sigmgr.model.app import Token
from tests.http.scripted import APP
from tests.http.tokens import KEY, Tokens


@contextmanager
def complaints() -> Iterator[list[str]]:
    """What the loop would log meanwhile, such as an error that nobody retrieved."""
    heard: list[str] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: heard.append(context["message"]))
    yield heard
    loop.set_exception_handler(None)


async def test_what_is_known_holds_to_the_last_moment_of_its_time():
    tokens = Tokens()
    text = tokens.add()
    await tokens.auth.token(text)
    tokens.error = errors.StoreUnavailable()
    tokens.seconds = 5.0
    assert tokens.auth.peek(text) is not None
    await tokens.lands()
    tokens.seconds = 60.0
    assert tokens.auth.peek(text) is not None
    await tokens.lands()
    tokens.seconds = 60.001
    assert tokens.auth.peek(text) is None


async def test_whoever_asks_first_after_an_outage_began_is_believed_to_the_end_of_the_grace():
    for seconds, believed in ((60.0, True), (60.001, False)):
        tokens = Tokens()
        text = tokens.add()
        await tokens.auth.token(text)
        tokens.error = errors.StoreUnavailable()
        tokens.seconds = seconds
        if believed:
            assert (await tokens.auth.token(text)).role == "backend"
        else:
            with pytest.raises(errors.StoreUnavailable):
                await tokens.auth.token(text)


async def test_while_lookups_fail_one_is_tried_each_second():
    tokens = Tokens()
    texts = [tokens.add() for _ in range(3)]
    for text in texts:
        await tokens.auth.token(text)
    tokens.error = errors.StoreUnavailable()
    tokens.seconds = 10.0
    await tokens.auth.token(texts[0])
    tokens.asked.clear()
    for quarter in range(1, 41):
        tokens.seconds = 10.0 + quarter / 4
        for text in texts:
            assert tokens.auth.peek(text) is not None
        await tokens.lands()
    assert len(tokens.asked) == 10


async def test_a_stranger_is_refused_without_a_lookup_for_as_long_as_a_token_is_believed():
    tokens = Tokens()
    text, digest = new_token(KEY)
    for seconds, lookups in ((0.0, 1), (5.0, 1), (5.001, 2)):
        tokens.seconds = seconds
        with pytest.raises(errors.TokenUnknown):
            await tokens.auth.token(text)
        assert tokens.asked == [digest] * lookups


async def test_strangers_that_were_refused_are_remembered_apart(monkeypatch):
    monkeypatch.setattr("sigmgr.http.auth._NEGATIVES", 3)
    tokens = Tokens()
    strangers = [new_token(KEY)[0] for _ in range(3)]
    for text in strangers * 2:
        with pytest.raises(errors.TokenUnknown):
            await tokens.auth.token(text)
    assert len(tokens.asked) == 3
    with pytest.raises(errors.TokenUnknown):
        await tokens.auth.token(new_token(KEY)[0])
    assert len(tokens.auth._unknown) <= 3


async def test_whoever_waits_while_the_process_stops_is_told_so():
    tokens = Tokens()
    text = tokens.add()
    tokens.hangs = asyncio.Event()
    asking = asyncio.create_task(tokens.auth.token(text))
    while not tokens.auth._pending:
        await asyncio.sleep(0)
    for task in list(tokens.auth._pending.values()):
        task.cancel()
    with complaints() as heard, pytest.raises(errors.Stopping):
        await asking
    assert heard == []
    assert tokens.auth._pending == {}
    tokens.hangs.set()
    await tokens.lands()


async def test_a_lookup_that_fails_behind_its_requests_is_no_complaint_of_the_loop():
    tokens = Tokens()
    text = tokens.add()
    await tokens.auth.token(text)
    tokens.error = errors.StoreUnavailable()
    tokens.seconds = 4.5
    with complaints() as heard:
        assert tokens.auth.peek(text) is not None
        await tokens.lands()
        gc.collect()
    assert heard == []
    assert len(tokens.asked) == 2


async def test_a_token_that_was_refused_and_then_found_is_not_refused_after_a_change(monkeypatch):
    """Two lookups hang; the token is made between them, and they answer in their order."""
    monkeypatch.setattr("sigmgr.http.auth._FIRST_WAIT", 0.0)
    tokens = Tokens()
    text, digest = new_token(KEY)
    first, second = asyncio.Event(), asyncio.Event()
    for tokens.seconds, tokens.hangs in ((0.0, first), (2.0, second)):
        with pytest.raises(errors.StoreUnavailable):
            await tokens.auth.token(text)
    first.set()
    while not tokens.auth._unknown:
        await asyncio.sleep(0)
    tokens.held[digest] = Token(1, "", "backend", APP, 0)
    second.set()
    await tokens.lands()
    tokens.hangs = None
    tokens.auth.looked(2.5, changed=True)
    tokens.seconds = 3.0
    monkeypatch.undo()
    assert (await tokens.auth.token(text)).role == "backend"


async def test_whether_a_token_was_ever_right_is_known_after_its_time():
    tokens = Tokens()
    text = tokens.add()
    assert not tokens.auth.was_known(text)
    await tokens.auth.token(text)
    tokens.seconds = 1000.0
    assert tokens.auth.was_known(text)
    assert tokens.auth.peek(text) is None
    assert not tokens.auth.was_known(new_token(KEY)[0])


async def test_the_token_looked_up_the_longest_ago_is_forgotten_first(monkeypatch):
    monkeypatch.setattr("sigmgr.http.auth._POSITIVES", 2)
    tokens = Tokens()
    first, second, third = (tokens.add() for _ in range(3))
    await tokens.auth.token(first)
    await tokens.auth.token(second)
    tokens.seconds = 6.0
    await tokens.auth.token(first)
    await tokens.auth.token(third)
    known = [tokens.auth.was_known(text) for text in (first, second, third)]
    assert known == [True, False, True]
