"""Tokens: text, digest, and what is believed for how long."""

from __future__ import annotations

import pytest

from sigmgr.http.auth import Auth, allow, bearer, digest_of, new_token
from sigmgr.model import errors
from sigmgr.model.app import Token
from tests.http.scripted import APP, House

KEY = b"k" * 32


def test_a_new_token_is_random_and_its_digest_is_keyed():
    text, digest = new_token(KEY)
    assert text.startswith("smt_")
    assert len(text) == 47
    assert digest == digest_of(KEY, text) != digest_of(b"j" * 32, text)
    assert new_token(KEY)[0] != text


@pytest.mark.parametrize(
    ("value", "text"),
    [(b"Bearer abc", "abc"), (b"bearer  abc ", "abc"), (b"Basic abc", None), (b"Bearer ", None)],
)
def test_the_header(value, text):
    assert bearer([(b"host", b"x"), (b"authorization", value)]) == text


def test_no_header():
    assert bearer([]) is None


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
    house.seconds = 299
    assert (await house.auth.token(house.backend)).role == "backend"
    with pytest.raises(errors.StoreUnavailable):
        await house.auth.token(house.ops)
    house.seconds = 301
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
    with pytest.raises(errors.RoleDenied):
        allow(bound, frozenset({"admin"}), APP + 1)


async def test_missing():
    auth = Auth(lambda _: None, KEY, lambda: 0.0)
    with pytest.raises(errors.TokenMissing):
        await auth.token(None)
