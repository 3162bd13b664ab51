"""Our own compression: zlib reads it, whatever stands where."""

from __future__ import annotations

import random
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sigmgr.model import errors
from sigmgr.model.usersig import deflate
from sigmgr.model.usersig.deflate import Bits, Form

DICE = random.Random(7)
FAR = bytes(DICE.randrange(128) for _ in range(32768))

# Few letters, so that repetitions are many; a percent sign is a trap in a template.
near = st.text("ab%", max_size=40).map(str.encode)
ascii_ = st.binary(max_size=60).map(lambda raw: bytes(c & 0x7F for c in raw))
pieces = st.lists(near | ascii_, min_size=1, max_size=6)


def inflated(stream: bytes) -> bytes:
    reader = zlib.decompressobj(-15)
    document = reader.decompress(stream)
    assert reader.eof
    assert reader.unused_data == b""
    return document


@given(pieces=pieces, data=st.data())
def test_zlib_reads_what_was_filled_in(pieces, data):
    form = Form(*pieces)
    count = len(pieces) - 1
    for _ in range(2):
        gaps = tuple(data.draw(st.lists(near | ascii_, min_size=count, max_size=count)))
        whole = b"".join(part for pair in zip(pieces, gaps, strict=False) for part in pair)
        assert form.fill(gaps) == whole + pieces[-1]
        assert inflated(form.deflate(gaps)) == form.fill(gaps)


@pytest.mark.parametrize("length", range(3, 259))
def test_every_length_is_said_right(length):
    for distance in (1, length, 300, 32768):
        assert repeated(length, distance) == expected(length, distance)


@pytest.mark.parametrize("power", range(15))
def test_every_distance_is_said_right(power):
    for distance in {1 << power, (1 << power) + 1, (3 << power) // 2, (2 << power) - 1}:
        assert repeated(5, distance) == expected(5, distance)


def repeated(length: int, distance: int) -> bytes:
    """FAR, and a repetition behind it."""
    literals = int.from_bytes(FAR.translate(deflate._LITERALS), "little")
    bits = Bits(0b011, 3).and_then(literals, 8 * len(FAR))
    bits = bits.and_then(*deflate._repetition(length, distance)).and_then(0, 7)
    return inflated(bits.value.to_bytes((bits.size + 7) // 8, "little"))


def expected(length: int, distance: int) -> bytes:
    text = bytearray(FAR)
    for _ in range(length):
        text.append(text[-distance])
    return bytes(text)


def test_repetitions_are_found():
    form = Form(b'{"TLS.one":"', b'","TLS.two":"', b'","TLS.three":"', b'"}')
    gaps = (b"x", b"y", b"z")
    assert len(form.deflate(gaps)) < len(form.fill(gaps)) - 5


@pytest.mark.parametrize("gap", [b"\x80", "é".encode(), b"a\xff"])
def test_what_is_not_ascii_is_refused(gap):
    with pytest.raises(errors.BadRequest):
        Form(b"a", b"b").deflate((gap,))


def test_layouts_are_bounded(monkeypatch):
    monkeypatch.setattr(deflate, "_KEPT", 3)
    form = Form(b"a", b"b")
    for n in range(10):
        assert inflated(form.deflate((b"x" * n,))) == b"a" + b"x" * n + b"b"
        assert len(form._layouts) <= 3
