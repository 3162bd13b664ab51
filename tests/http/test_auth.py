"""Tokens: text, digest, and what is believed for how long."""

from __future__ import annotations

import asyncio
import time

import pytest

from sigmgr.http.auth import Auth, allow, digest_of, new_token
from sigmgr.model import errors
from sigmgr.model.app import Token
from tests.http.scripted import APP, House
from tests.http.tokens import KEY, Tokens


def test_a_new_token_is_random_and_its_digest_is_keyed():
    text, digest = new_token(KEY)
    assert text.startswith("smt_")
    assert len(text) == 47
    assert digest == digest_of(KEY, text) != digest_of(b"j" * 32, text)
    assert new_token(KEY)[0] != text


async def test_a_token_is_looked_up_once_in_five_seconds_and_then_again():
    house = House()
    for _ in range(3):
        assert (await house.auth.token(house.backend)).role == "backend"
    assert house.lookups == 1
    house.stored.clear()  # revoked
    house.seconds = 4.9
    await house.auth.token(house.backend)
    house.seconds = 5.1
    with pytest.raises(errors.TokenUnknown):
        await house.auth.token(house.backend)
    assert house.auth.peek(house.backend) is None


async def test_strangers_do_not_reach_the_store_twice_and_nonsense_never():
    house = House()
    stranger = "smt_" + "A" * 43
    for text in (stranger, stranger, "smt_short", "é" * 47):
        with pytest.raises(errors.TokenUnknown):
            await house.auth.token(text)
    assert house.lookups == 1
    for number in range(5000):
        with pytest.raises(errors.TokenUnknown):
            await house.auth.token(f"smt_{number:043d}")
    assert len(house.auth._unknown) <= 4096


async def test_while_the_store_is_away_known_tokens_go_on_for_a_while():
    house = House()
    await house.auth.token(house.backend)
    house.lookup_fails = True
    house.seconds = 59
    assert (await house.auth.token(house.backend)).role == "backend"
    with pytest.raises(errors.StoreUnavailable):
        await house.auth.token(house.ops)
    house.seconds = 61
    with pytest.raises(errors.StoreUnavailable):
        await house.auth.token(house.backend)


async def test_a_token_made_after_it_was_refused_works_at_the_next_look():
    house = House()
    text, digest = new_token(House.KEY)
    with pytest.raises(errors.TokenUnknown):
        await house.auth.token(text)
    house.stored[digest] = Token(9, "new", "ops", 0, 0)
    house.seconds = 6
    assert (await house.auth.token(text)).role == "ops"


def test_roles_and_apps():
    bound = Token(1, "", "backend", APP, 0)
    allow(bound, frozenset({"backend"}), APP)
    with pytest.raises(errors.AppDenied):
        allow(bound, frozenset({"backend"}), APP + 1)
    with pytest.raises(errors.AppDenied):  # what concerns all apps is not its own
        allow(bound, frozenset({"backend"}), None)
    with pytest.raises(errors.RoleDenied):
        allow(bound, frozenset({"admin"}), APP + 1)
    allow(Token(1, "", "backend", 0, 0), frozenset({"backend"}), None)


async def test_missing():
    auth = Auth(lambda _: None, KEY, lambda: 0.0)
    with pytest.raises(errors.TokenMissing):
        await auth.token(None)


async def test_a_token_in_use_is_looked_up_again_before_anybody_has_to_wait():
    tokens = Tokens()
    text = tokens.add()
    await tokens.auth.token(text)
    for second in range(1, 60):
        tokens.seconds = float(second)
        assert tokens.auth.peek(text) is not None
        await tokens.lands()
    assert 10 <= len(tokens.asked) <= 16


async def test_all_who_wait_for_a_token_share_its_lookup():
    tokens = Tokens()
    text = tokens.add()
    for tokens.seconds in (0.0, 100.0):
        tokens.asked.clear()
        found = await asyncio.gather(*(tokens.auth.token(text) for _ in range(50)))
        assert len({token.token_id for token in found}) == 1
        assert len(tokens.asked) == 1


async def test_a_store_that_hangs_keeps_known_tokens_waiting_once_and_never_again():
    tokens = Tokens(patience=0.2)
    used, idle = tokens.add(), tokens.add()
    await tokens.auth.token(used)
    await tokens.auth.token(idle)
    tokens.hangs = asyncio.Event()
    tokens.seconds = 5.5
    began = time.monotonic()
    assert (await tokens.auth.token(idle)).role == "backend"
    waited = time.monotonic() - began
    assert waited >= 0.19, "whether it was revoked may still become known"
    assert waited < 1.5, "somebody who is not known waits longer"
    for tokens.seconds in (5.6, 20.0, 59.0):
        # Not even a turn of the loop.
        assert tokens.auth.peek(used) is not None
        assert tokens.auth.peek(idle) is not None
    tokens.seconds = 61.0
    assert tokens.auth.peek(used) is None
    with pytest.raises(errors.StoreUnavailable):
        await tokens.auth.token(used)
    tokens.hangs.set()
    await tokens.lands()


async def test_a_store_that_hangs_is_asked_once_a_second_and_by_few():
    tokens = Tokens(patience=0.0)
    texts = [tokens.add() for _ in range(20)]
    for text in texts:
        await tokens.auth.token(text)
    tokens.asked.clear()
    tokens.hangs = asyncio.Event()
    for tenth in range(50, 590):
        tokens.seconds = tenth / 10
        for text in texts:
            await tokens.auth.token(text)
        await asyncio.sleep(0)
    assert 1 <= len(tokens.asked) <= 4, "these few still hang"
    tokens.hangs.set()
    await tokens.lands()
    assert (await tokens.auth.token(texts[0])).role == "backend"


async def test_when_the_store_is_back_a_revoked_token_is_refused_within_a_second():
    tokens = Tokens()
    text, other = tokens.add(), tokens.add()
    await tokens.auth.token(text)
    await tokens.auth.token(other)
    tokens.error = errors.StoreUnavailable()
    tokens.seconds = 6.0
    await tokens.auth.token(text)
    tokens.held.clear()
    tokens.seconds = 30.0
    assert tokens.auth.peek(text) is not None
    await tokens.lands()
    tokens.error = None
    tokens.seconds = 31.1
    tokens.auth.peek(text)
    await tokens.lands()
    for revoked in (text, other):
        with pytest.raises(errors.TokenUnknown):
            await tokens.auth.token(revoked)


async def test_an_unknown_token_waits_for_its_limit_and_then_gets_503(monkeypatch):
    monkeypatch.setattr("sigmgr.http.auth._FIRST_WAIT", 0.05)
    tokens = Tokens()
    texts = [tokens.add() for _ in range(50)]
    tokens.hangs = asyncio.Event()
    began = time.monotonic()
    for text in texts:
        with pytest.raises(errors.StoreUnavailable) as refused:
            await tokens.auth.token(text)
        assert refused.value.retry_after == 1
    assert len(tokens.asked) == 4, "while those hang nobody else is sent after them"
    assert time.monotonic() - began < 10
    tokens.hangs.set()
    await tokens.lands()
    assert (await tokens.auth.token(texts[7])).role == "backend"


async def test_an_answer_that_was_under_way_for_long_overrules_no_later_one():
    tokens = Tokens(patience=0.0)
    text = tokens.add()
    await tokens.auth.token(text)
    tokens.hangs = slow = asyncio.Event()
    tokens.seconds = 6.0
    await tokens.auth.token(text)  # left behind, with what the store answered then
    [digest] = tokens.held
    held = tokens.held.copy()
    tokens.hangs = None
    tokens.held.clear()
    tokens.seconds = 7.1
    tokens.auth.peek(text)
    for _ in range(10):
        await asyncio.sleep(0)
    tokens.held = held
    slow.set()
    await tokens.lands()
    assert digest not in tokens.auth._known


async def test_known_tokens_are_bounded(monkeypatch):
    monkeypatch.setattr("sigmgr.http.auth._POSITIVES", 10)
    tokens = Tokens()
    texts = [tokens.add() for _ in range(30)]
    for text in texts:
        await tokens.auth.token(text)
    assert len(tokens.auth._known) == 10
    assert tokens.auth.peek(texts[-1]) is not None
    assert (await tokens.auth.token(texts[0])).role == "backend"


async def test_a_fault_of_another_kind_is_not_taken_for_an_outage():
    tokens = Tokens()
    text = tokens.add()
    await tokens.auth.token(text)
    tokens.error = errors.NotMigrated()
    tokens.seconds = 6.0
    with pytest.raises(errors.NotMigrated):
        await tokens.auth.token(text)


# What the look reports of tokens


async def test_a_look_that_saw_no_change_keeps_a_token_without_a_lookup():
    house = House()
    await house.auth.token(house.backend)
    for _ in range(10):
        house.seconds += 50
        house.auth.looked(house.seconds, changed=False)
        assert house.auth.peek(house.backend) is not None
    assert house.lookups == 1


async def test_a_change_is_followed_at_once():
    house = House()
    await house.auth.token(house.backend)
    house.stored.clear()
    house.auth.looked(house.seconds, changed=True)
    assert house.auth.peek(house.backend) is None
    with pytest.raises(errors.TokenUnknown):
        await house.auth.token(house.backend)


def slow_auth(house: House, gate: asyncio.Event) -> Auth:
    """Its lookups read at once, and answer when the gate opens."""

    async def lookup(digest: bytes) -> Token | None:
        found = house.stored.get(digest)
        await gate.wait()
        return found

    return Auth(lookup, House.KEY, lambda: house.seconds)


async def test_a_lookup_from_before_the_change_is_not_kept():
    """It brings the token as it was, and the looks after it see no further change."""
    house, gate = House(), asyncio.Event()
    auth = slow_auth(house, gate)
    asking = asyncio.create_task(auth.token(house.backend))
    await asyncio.sleep(0.01)
    house.seconds += 1
    auth.looked(house.seconds, changed=True)
    gate.set()
    assert (await asking).role == "backend"
    house.stored.clear()
    auth.looked(house.seconds + 1, changed=False)
    assert auth.peek(house.backend) is None


async def test_a_lookup_from_before_the_revocation_is_not_kept_though_the_look_began_before_it():
    """The look begins, a lookup reads the token, it is revoked, the look sees that and is
    answered first."""
    house, gate = House(), asyncio.Event()
    auth = slow_auth(house, gate)
    look_began = house.seconds
    house.seconds += 0.001
    asking = asyncio.create_task(auth.token(house.backend))
    await asyncio.sleep(0.01)
    house.stored.clear()
    house.seconds += 0.001
    auth.looked(look_began, changed=True)
    gate.set()
    assert (await asking).role == "backend"
    for _ in range(3):
        house.seconds += 1
        auth.looked(house.seconds, changed=False)
        assert auth.peek(house.backend) is None
    with pytest.raises(errors.TokenUnknown):
        await auth.token(house.backend)
