"""Cached values: their bytes are a contract between releases, which run beside each other."""

from __future__ import annotations

import base64
import struct

import pytest

from sigmgr.model.holder import Holder
from sigmgr.model.sig import Current, Reason
from sigmgr.model.usersig import sign
from sigmgr.model.values import decode, encode, is_sealed, is_tombstone, tombstone
from tests.model.usersig_kit import ALICE, HMAC, LIFE, NOW, P256, V1, V2

HEAD = struct.Struct(">BIBIIIB")
SIGS = {"v1": sign(V1, P256), "v2": sign(V2, HMAC)}


def current(**changes: object) -> Current:
    made = Current(ALICE, "v2", 9, NOW, NOW + LIFE, NOW + 60, SIGS["v2"], "Forced")
    return made._replace(**changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(("name", "code"), [("v1", 1), ("v2", 2)])
def test_a_value_that_another_release_cached_is_read(name: str, code: int) -> None:
    sig = SIGS[name]
    raw = base64.b64decode(sig.translate(str.maketrans("*-_", "+/=")))
    value = HEAD.pack(1, NOW, code, NOW + LIFE, NOW + 60, 9, 1) + raw
    made = current(format=name, usersig=sig, reason="Missing")
    assert encode(made) == value
    assert decode(ALICE, value) == made


def test_the_order_of_reasons_is_that_of_what_is_cached() -> None:
    """A new reason goes to the end."""
    numbers = [encode(current(reason=reason))[HEAD.size - 1] for reason in ("", *Reason)]
    assert numbers == list(range(len(Reason) + 1))


def test_a_sig_that_is_no_base64_of_tencents_is_cached_as_text() -> None:
    for text in ("not base64!", "a+b/", "", "YQ", "é", "YR__"):
        made = current(usersig=text)
        value = encode(made)
        assert value[5] == 2 | 8
        assert value[HEAD.size :] == text.encode()
        assert decode(ALICE, value) == (made if text else None)


@pytest.mark.parametrize("sig", ["YQ__", "YWI_", "YWJj", "****", "--8_"])
def test_every_end_of_a_base64_comes_back(sig: str) -> None:
    value = encode(current(usersig=sig))
    assert value[5] == 2
    assert decode(ALICE, value) == current(usersig=sig)


def test_a_tombstone_is_a_head_and_no_sig() -> None:
    value = tombstone(NOW)
    assert value == HEAD.pack(1, NOW, 4, 0, 0, 0, 0)
    assert is_tombstone(value)
    assert not is_sealed(value)
    assert decode(ALICE, value) is None
    for other in (value[:-1], value + b"x", b"\x02" + value[1:], encode(current()), b""):
        assert not is_tombstone(other)
    assert not is_tombstone(encode(current())[: HEAD.size])


def test_a_sealed_value_is_known_by_its_sixth_byte_and_unreadable_without_the_key() -> None:
    sealed = HEAD.pack(1, NOW, 3, 0, 0, 0, 0) + b"sealed"
    assert is_sealed(sealed)
    assert is_sealed(sealed[:6])
    assert decode(ALICE, sealed) is None
    for other in (sealed[:5], b"", b"\x02" + sealed[1:], encode(current())):
        assert not is_sealed(other)


@pytest.mark.parametrize("at", [0, 5, HEAD.size - 1])
def test_what_another_release_may_have_written_is_no_value(at: int) -> None:
    """A version, a format or a reason that is not known."""
    value = bytearray(encode(current()))
    value[at] = 0xF3 if at == 5 else 99
    assert decode(ALICE, bytes(value)) is None


def test_a_head_without_a_sig_is_no_value() -> None:
    assert decode(ALICE, encode(current())[: HEAD.size]) is None
    assert decode(Holder(1, "x"), b"") is None
