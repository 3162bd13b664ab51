"""Sealed keys open for the right master key, app and id, and for nothing else."""

from __future__ import annotations

import pickle
from base64 import b64encode, urlsafe_b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sigmgr.keys.sealing import MasterKey, key_context
from sigmgr.model import errors

SECRET = bytes(range(32))
MASTER = MasterKey(SECRET)
CONTEXT = key_context(1400000000, 7)

secrets = st.binary(min_size=32, max_size=32)


@given(st.binary(max_size=300), st.binary(max_size=40))
def test_what_was_sealed_opens(plaintext, context):
    sealed = MASTER.seal(plaintext, context=context)
    assert MasterKey(SECRET).open(sealed, context) == plaintext


@given(st.data())
def test_one_flipped_bit_anywhere_does_not_open(data):
    sealed = bytearray(MASTER.seal(b"material", context=CONTEXT))
    bit = data.draw(st.integers(0, len(sealed) * 8 - 1))
    sealed[bit // 8] ^= 1 << bit % 8
    with pytest.raises(errors.WrongMasterKey):
        MASTER.open(bytes(sealed), CONTEXT)


@given(st.integers(0, 36))
def test_a_shortened_value_does_not_open(size):
    sealed = MASTER.seal(b"material", context=CONTEXT)
    assert size < len(sealed)
    with pytest.raises(errors.WrongMasterKey):
        MASTER.open(sealed[:size], CONTEXT)


@given(st.integers(1, 2**32 - 1), st.integers(1, 2**31))
def test_a_key_moved_to_another_app_or_id_does_not_open(sdkappid, key_id):
    sealed = MASTER.seal(b"material", context=CONTEXT)
    if (sdkappid, key_id) == (1400000000, 7):
        return
    with pytest.raises(errors.WrongMasterKey):
        MASTER.open(sealed, key_context(sdkappid, key_id))


@given(secrets)
def test_another_master_key_opens_nothing_and_is_recognised(other):
    sealed = MASTER.seal(b"material", context=CONTEXT)
    if other == SECRET:
        return
    assert not MasterKey(other).matches(MASTER.check_value())
    with pytest.raises(errors.WrongMasterKey):
        MasterKey(other).open(sealed, CONTEXT)


def test_sealing_twice_gives_two_values():
    assert len({MASTER.seal(b"material", context=CONTEXT) for _ in range(50)}) == 50


def test_a_sealed_value_does_not_contain_what_it_seals():
    assert b"material" not in MASTER.seal(b"material", context=CONTEXT)


def test_derived_keys_differ_by_purpose_and_master_key():
    made = [
        MASTER.derive("tickets"),
        MASTER.derive("tokens"),
        MasterKey(b"x" * 32).derive("tokens"),
    ]
    assert len({*made, SECRET}) == 4
    assert {len(key) for key in made} == {32}
    assert MasterKey(SECRET).derive("tickets") == MASTER.derive("tickets")


def test_derivation_stays_the_same_over_versions():
    """Tickets, tokens and sealed keys of an older version must go on working."""
    assert MASTER.check_value() == "efbab139a9c9015a7ab310b2ae31ef3b"
    assert (
        MASTER.derive("tickets").hex()
        == "07fac96d57ef1a1cf1a0834760981617da40d133ba9df84ded8592cd8c9ecb7d"
    )
    sealed = bytes.fromhex(
        "01e8612251210d26508803091e06be046bcbc8cea8fa1042cc2edd48407d3af0c74dbf1313"
    )
    assert MASTER.open(sealed, CONTEXT) == b"material"


def test_the_check_value_recognises_its_master_key_only():
    assert MASTER.matches(MasterKey(SECRET).check_value())
    assert not MASTER.matches("")
    assert not MASTER.matches("\N{SNOWMAN}")


@given(secrets)
def test_base64_of_both_alphabets_is_read(secret):
    sealed = MasterKey(secret).seal(b"material", context=CONTEXT)
    for text in (b64encode(secret), urlsafe_b64encode(secret), urlsafe_b64encode(secret)[:-1]):
        master = MasterKey.from_base64(f"\n{text.decode()} \n")
        assert master.open(sealed, CONTEXT) == b"material"


@pytest.mark.parametrize(
    "text",
    ["", "x", "abcde", "not base64!", b64encode(b"x" * 31).decode(), b64encode(b"x" * 33).decode()],
)
def test_what_is_no_master_key_is_reported_with_how_to_make_one(text):
    with pytest.raises(errors.BadSettings, match="head -c 32 /dev/urandom") as caught:
        MasterKey.from_base64(text)
    assert not text or text not in caught.value.text.removeprefix("the master key")


KEY = b64encode(bytes(range(200, 232))).decode()


@pytest.mark.parametrize(
    ("text", "phrase"),
    [
        (f'"{KEY}"', "a text in quotation marks"),
        (f"SIGMGR_MASTER_KEY={KEY}", "an assignment, NAME=VALUE"),
        (f"master_key: {KEY}", "a line 'NAME: VALUE'"),
        (bytes(range(200, 232)).hex(), "in hex"),
        ("/etc/sigmgr/master.key", "the name of a file"),
        ("<your key>", "a placeholder"),
    ],
)
def test_what_a_master_key_stands_in_is_named(text, phrase):
    """It is not to be made anew: that would open none of the keys."""
    with pytest.raises(errors.BadSettings, match=phrase) as caught:
        MasterKey.from_base64(text)
    assert "urandom" not in caught.value.text
    assert KEY[4:12] not in caught.value.text


@given(secrets)
def test_every_master_key_is_taken(secret):
    for text in (b64encode(secret).decode(), urlsafe_b64encode(secret).decode().rstrip("=")):
        assert MasterKey.from_base64(text).check_value() == MasterKey(secret).check_value()


@given(secrets)
def test_nothing_shown_contains_the_secret(secret):
    master = MasterKey(secret)
    shown = f"{master!r} {master} {master.check_value()}"
    assert repr(master) == "MasterKey(...)"
    assert secret.hex() not in shown
    assert b64encode(secret).decode() not in shown


def test_a_master_key_is_not_pickled():
    with pytest.raises(TypeError):
        pickle.dumps(MASTER)
