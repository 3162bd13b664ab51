"""What the registry promises, with two formats and with a third."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from sigmgr.keys.keychain import generate
from sigmgr.model import pasted, values
from sigmgr.model.errors import BadKey, BadSig, SigReason
from sigmgr.model.holder import Holder
from sigmgr.model.sig import Current, SigFacts
from sigmgr.model.usersig import FORMATS, decode, sign, verify
from sigmgr.model.usersig.formats import MAX_CODE
from tests.architecture.sources import modules, name
from tests.formats import toy

NOW = 1_900_000_000
FACTS = SigFacts(Holder(1400000001, "alice"), "toy", 1, NOW, 86400)
V2_SECRET = b"0123456789abcdef" * 4


@pytest.fixture(autouse=True)
def three() -> Iterator[None]:
    with toy.registered():
        yield


def test_formats_stand_in_the_order_of_their_registration() -> None:
    assert [one.name for one in FORMATS] == ["v1", "v2", "toy"]


def test_a_name_and_a_code_are_given_once() -> None:
    for name_, code in (("toy", 4), ("new", 3), ("new", 0), ("new", MAX_CODE + 1)):
        one = toy.Toy()
        one.name, one.code = name_, code
        with pytest.raises(ValueError, match=name_):
            FORMATS.register(one)


def test_a_name_from_outside_is_checked_and_the_known_ones_are_reported() -> None:
    with pytest.raises(BadKey, match="'v9' is no format; there are v1 and v2 and toy"):
        FORMATS.named("v9")
    with pytest.raises(BadKey, match="looks like an API token"):
        FORMATS.named("smt_" + "a" * 40)


def test_a_reader_of_several_formats_is_asked_once_and_the_fallback_last() -> None:
    tencent = FORMATS.named("v2").reader
    assert FORMATS.readers() == [toy.read, tencent]
    assert FORMATS.named("v1").reader is tencent


def test_each_format_reads_its_own_sigs_and_explains_its_own_damage() -> None:
    key = FORMATS.named("toy").keys.signer(generate("toy"))
    text = sign(FACTS, key)
    assert (decode(text).format, decode(text).userid) == ("toy", "alice")
    with pytest.raises(BadSig, match="the toy sig is damaged"):
        decode(text[:-1])
    with pytest.raises(BadSig, match="the sig is not in the base64 of sigs"):
        decode("no sig of any format")


def test_a_sig_is_verified_by_keys_of_its_own_format_only() -> None:
    key = FORMATS.named("toy").keys.signer(generate("toy"))
    other = FORMATS.named("v2").keys.signer(generate("v2"))
    text = sign(FACTS, key)
    assert verify(text, [other, key], now=NOW).format == "toy"
    with pytest.raises(BadSig) as caught:
        verify(text, [other], now=NOW)
    assert caught.value.reason is SigReason.WRONG_FORMAT
    assert caught.value.advice == "Verify it with the toy key."
    with pytest.raises(BadKey, match="a v2 key cannot make a sig of format 'toy'"):
        sign(FACTS, other)


def test_a_key_is_read_by_the_format_that_it_looks_like() -> None:
    for form in ("v1", "v2", "toy"):
        found = pasted.read(b"\n" + generate(form) + b"\n")
        assert (found.format, found.odd) == (form, "")
    assert pasted.read(b"whatever else it is").format == "v2"
    assert pasted.read(b"toy-key-" + b"0" * 64).odd == "the key is all zeros"
    assert pasted.doubt("toy", b"toy-key-" + b"0" * 64) == ("the key is all zeros", False)


@pytest.mark.parametrize(
    ("content", "wanted", "phrase"),
    [
        (generate("v1"), "v2", "this is a PEM, which belongs to format v1; v2 takes a secret"),
        (generate("v1"), "toy", "this is a PEM, which belongs to format v1; toy takes a toy key"),
        (V2_SECRET, "v1", "this is a secret, which belongs to format v2; v1 takes a PEM"),
        (b"toy-key-" + b"1" * 64, "v2", "this is a toy key, which belongs to format toy"),
        (b"what is this", "toy", "this is no toy key"),
    ],
)
def test_a_key_of_another_format_is_refused_by_its_name(
    content: bytes, wanted: str, phrase: str
) -> None:
    with pytest.raises(BadKey, match=re.escape(phrase)):
        pasted.read(content, wanted)


@pytest.mark.parametrize("code", [3, 4, MAX_CODE])
def test_a_cached_value_reports_the_format_by_its_code(code: int) -> None:
    FORMATS.unregister("toy")
    one = toy.Toy()
    one.code = code
    FORMATS.register(one)
    for text in ("toy.eyJ9.00ff", "AAAA"):
        sig = Current(FACTS.holder, "toy", 1, NOW, NOW + 86400, NOW + 5000, text, "Missing")
        value = values.encode(sig)
        assert values.decode(sig.holder, value) == sig
        assert not values.is_sealed(value)
        FORMATS.unregister("toy")
        assert values.decode(sig.holder, value) is None, "a process that does not know it"
        FORMATS.register(one)


def test_nobody_asks_which_of_the_formats_it_is() -> None:
    """The emulated cloud does: it is written from the format notes, apart from the signer."""
    asks = re.compile(r"""(==|!=|\bis|\bis not|\bin)\s*[({]?\s*["']v[12]["']|Format\.V|\bV[12]\b""")
    apart = ("sigmgr/model/usersig/", "sigmgr/sim/")
    found = [
        name(path)
        for path in modules()
        if not name(path).startswith(apart) and asks.search(path.read_text())
    ]
    assert found == []
