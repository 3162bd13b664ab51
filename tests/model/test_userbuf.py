"""The binary part of a room sig: exact bytes, exact lengths, honest limits."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sigmgr.model import userbuf
from sigmgr.model.errors import BadSig, SigReason
from sigmgr.model.holder import Room
from sigmgr.model.userbuf import Userbuf
from tests.model.usersig_kit import VECTORS, rooms, sdkappids, userids

ALICE = Userbuf("alice", 1400000000, Room(id=10000), 1707776000, 255)
NAMED = Userbuf("alice", 1400000000, Room(name="room-1"), 1707776000, 42)

uint32 = st.integers(0, 2**32 - 1)
userbufs = st.builds(
    Userbuf, userids, sdkappids, rooms, st.integers(1, 2**32 - 1), st.integers(1, 255), uint32
)


def refused(raw: bytes) -> str:
    with pytest.raises(BadSig) as caught:
        userbuf.decode(raw)
    assert caught.value.reason is SigReason.BAD_FIELD
    return caught.value.text


def test_bytes_of_the_vectors():
    wanted = {v["name"]: v.get("userbuf_hex") for v in VECTORS}
    assert userbuf.encode(ALICE).hex() == wanted["mac room 10000, mask 255"]
    watcher = ALICE._replace(privileges=171)
    assert userbuf.encode(watcher).hex() == wanted["mac room 10000, mask 171"]
    assert userbuf.encode(NAMED).hex() == wanted["mac string room room-1, mask 42"]


@given(userbufs)
def test_round_trip(value):
    assert userbuf.decode(userbuf.encode(value)) == value


@given(userbufs, st.integers(1, 40))
def test_a_missing_or_an_extra_byte_is_refused(value, count):
    raw = userbuf.encode(value)
    refused(raw[:-count])
    refused(raw + b"\0" * count)


@given(st.binary(max_size=120))
def test_any_bytes_are_refused_or_have_this_one_encoding(raw):
    try:
        value = userbuf.decode(raw)
    except BadSig:
        return
    if 1 <= value.privileges <= 255 and value.expires_at:
        assert userbuf.encode(value) == raw


@given(userbufs, st.data())
def test_one_changed_byte_is_refused_or_is_another_value(value, data):
    raw = bytearray(userbuf.encode(value))
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        assert userbuf.decode(bytes(raw)) != value
    except BadSig as error:
        assert error.reason is SigReason.BAD_FIELD


def test_privileges_beyond_the_eight_bits_can_be_read():
    raw = userbuf.encode(ALICE).replace(b"\0\0\0\xff", b"\xff\xff\xff\xff")
    assert userbuf.decode(raw).privileges == 2**32 - 1


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\0",
        b"abc",
        b"\2" + userbuf.encode(ALICE)[1:],
        b"\1" + userbuf.encode(ALICE)[1:],
        b"\0" + userbuf.encode(NAMED)[1:],
        userbuf.encode(NAMED).replace(b"\0\0\0\0\x65", b"\0\0\0\7\x65", 1),  # an id and a name
        userbuf.encode(NAMED)[:-8] + b"\0\0",  # as the Node generator does for an empty name
        userbuf.encode(ALICE).replace(b"alice", b"al\nce"),
        userbuf.encode(ALICE).replace(b"alice", b"al\xe9ce"),
        userbuf.encode(ALICE).replace(b"\0\0\x27\x10", b"\0\0\0\0"),
        userbuf.encode(ALICE).replace(b"\0\0\x27\x10", b"\xff\xff\xff\xff"),
    ],
)
def test_other_layouts_are_refused(raw):
    assert "userbuf" in refused(raw)
