"""What nobody should make: bounds, damage and forgery, each refused with its reason."""

from __future__ import annotations

import json
import tracemalloc
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sigmgr.model.errors import BadSig, SigReason
from sigmgr.model.usersig import decode, sign
from sigmgr.model.usersig.container import MAX_JSON_BYTES, MAX_SIG_CHARS
from sigmgr.model.usersig.members import bad_field
from sigmgr.model.usersig.reading import read
from tests.model.usersig_kit import (
    HMAC,
    NOW,
    USERBUF,
    V2,
    dump,
    unwrap,
    v1_members,
    v2_members,
    wrap,
    wrap_stream,
)


def refused(text: str) -> SigReason:
    """The structural reason; the explanation is tested beside ``diagnosis``."""
    with pytest.raises(BadSig) as caught:
        read(text)
    assert caught.value.text
    with pytest.raises(BadSig) as reported:
        decode(text)
    assert reported.value.text
    return caught.value.reason


def test_too_long_is_found_before_anything_else():
    assert refused("!" * (MAX_SIG_CHARS + 1)) is SigReason.TOO_LONG
    assert refused(" " * (MAX_SIG_CHARS + 1)) is SigReason.TOO_LONG
    assert refused("!" * MAX_SIG_CHARS) is SigReason.NOT_BASE64


@pytest.mark.parametrize(
    "text",
    [
        "",
        "   ",
        "é",
        "!",
        "eJyr",
        "a",
        '{"TLS.time":"2012-01-01 00:00:00"}',
        sign(V2, HMAC)[:-20],
        sign(V2, HMAC)[:-1],
        sign(V2, HMAC) + "_",
        sign(V2, HMAC)[:50] + "\n" + sign(V2, HMAC)[50:],
        sign(V2, HMAC).replace("_", "=").replace("*", "+").replace("-", "/") + "=",
    ],
)
def test_what_is_no_sig_text(text):
    assert refused(text) in {SigReason.NOT_BASE64, SigReason.NOT_ZLIB}


def test_the_alphabet_of_plain_base64_is_refused():
    for fact in (V2._replace(issued_at=NOW + step) for step in range(30)):
        sig = sign(fact, HMAC)
        if "*" in sig:
            assert refused(sig.replace("*", "+")) is SigReason.NOT_BASE64
            return
    pytest.fail("no sig had a star in it")


def test_stray_bits_in_the_last_character_are_refused():
    text = wrap_stream(b"x" * 100)  # 100 = 1 modulo 3: "eA__"
    assert text.endswith("eA__")
    assert refused(text[:-3] + "B__") is SigReason.NOT_BASE64
    assert refused(text) is SigReason.NOT_ZLIB


def test_damaged_streams():
    stream = zlib.compress(unwrap(sign(V2, HMAC)))
    for broken in (
        b"",
        stream[:-1],
        stream[:-4],
        stream[:20],
        stream + b"\0",
        stream + stream,
        stream[:-1] + bytes([stream[-1] ^ 1]),
        stream[2:],
        b"\x1f\x8b" + stream[2:],
    ):
        assert refused(wrap_stream(broken)) is SigReason.NOT_ZLIB


def test_a_preset_dictionary_is_refused():
    deflate = zlib.compressobj(zdict=b"TLS.identifier")
    stream = deflate.compress(unwrap(sign(V2, HMAC))) + deflate.flush()
    assert refused(wrap_stream(stream)) is SigReason.NOT_ZLIB


def test_the_largest_document_is_read_and_one_byte_more_is_not():
    document = json.dumps(v2_members()).encode()
    assert decode(wrap(document.ljust(MAX_JSON_BYTES))).userid == "alice"
    assert refused(wrap(document.ljust(MAX_JSON_BYTES + 1))) is SigReason.TOO_LARGE


def test_a_zip_bomb_is_not_inflated():
    bomb = wrap(b" " * 3_000_000, 9)
    assert len(bomb) <= MAX_SIG_CHARS
    tracemalloc.start()
    try:
        assert refused(bomb) is SigReason.TOO_LARGE
        assert tracemalloc.get_traced_memory()[1] < 200_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"\xff",
        b"null",
        b"[]",
        b'"text"',
        b"5",
        b"{",
        b"{}{}",
        b'{"a":NaN}',
        b'{"a":-Infinity}',
        b"{'a':1}",
        b'\xef\xbb\xbf{"a":1}',
        b"[" * 16000,
        b'{"a":' * 3000,
        b'{"a":' + b"9" * 16000 + b"}",
        '{"a":1}'.encode("utf-16"),
    ],
)
def test_what_is_no_json_object(document):
    assert refused(wrap(document)) is SigReason.NOT_JSON


@pytest.mark.parametrize("name", ["TLS.sig", "TLS.identifier", "TLS.sdkappid", "TLS.time"])
def test_v2_members_that_must_be_there(name):
    members = v2_members()
    del members[name]
    assert refused(dump(members)) is SigReason.MISSING_FIELD


@pytest.mark.parametrize("name", sorted(set(v1_members()) - {"TLS.appid_at_3rd"}))
def test_v1_members_that_must_be_there(name):
    members = v1_members()
    del members[name]
    assert refused(dump(members)) is SigReason.MISSING_FIELD


NUMBERS = ("TLS.sdkappid", "TLS.time", "TLS.expire")
ODD_VALUES = [None, True, {}, [], {"a": 1}, 1.5, 1.0, 1e300, float(10**10)]
ODD_NUMBERS = [-1, 2**32, 10**400, "", " 1", "1 ", "+1", "01", "1.0", "0x1", "1_0", "١", "1\n"]
ODD_TEXTS = ["", "a\nb", "a\rb", "a\0b", "a\x7f", "\ud800"]


@pytest.mark.parametrize("value", ODD_VALUES, ids=repr)
@pytest.mark.parametrize("name", [*NUMBERS, "TLS.identifier", "TLS.userbuf", "TLS.sig", "other"])
def test_values_that_are_no_text_or_number(name, value):
    assert refused(dump(v2_members() | {name: value})) is SigReason.BAD_FIELD
    assert refused(dump(v1_members() | {name: value})) is SigReason.BAD_FIELD


@pytest.mark.parametrize("value", ODD_NUMBERS, ids=repr)
def test_numbers_that_are_none(value):
    for name in NUMBERS:
        assert refused(dump(v2_members() | {name: value})) is SigReason.BAD_FIELD
    for name in ("TLS.account_type", "TLS.sdk_appid", "TLS.time", "TLS.expire_after"):
        if (name, value) != ("TLS.sdk_appid", -1):
            assert refused(dump(v1_members() | {name: value})) is SigReason.BAD_FIELD


def test_an_appid_of_zero_is_refused():
    assert refused(dump(v2_members(sdkappid=0))) is SigReason.BAD_FIELD
    assert refused(dump(v1_members(sdk_appid="0"))) is SigReason.BAD_FIELD


@pytest.mark.parametrize("value", ODD_TEXTS, ids=repr)
def test_texts_that_could_forge_lines(value):
    assert refused(dump(v2_members() | {"TLS.identifier": value})) is SigReason.BAD_FIELD
    for name in ("TLS.identifier", "TLS.appid_at_3rd", "TLS.version", "TLS.userbuf"):
        if value or name == "TLS.identifier":
            assert refused(dump(v1_members() | {name: value})) is SigReason.BAD_FIELD


@pytest.mark.parametrize("value", ["!", "YWJ", "YWJj\r\n", "YWJjZB==", "*-__", "é"])
def test_a_userbuf_that_is_not_base64(value):
    assert refused(dump(v2_members() | {"TLS.userbuf": value})) is SigReason.BAD_FIELD


@pytest.mark.parametrize("value", ["!", "YWJ", "YWJjZB==", "*-__", "é", "\ud800"])
def test_a_signature_that_is_not_base64(value):
    assert refused(dump(v2_members() | {"TLS.sig": value})) is SigReason.BAD_FIELD


def test_a_member_given_twice_is_refused():
    document = json.dumps(v2_members())[:-1] + ',"TLS.identifier":"alice"}'
    assert refused(wrap(document.encode())) is SigReason.BAD_FIELD
    document = json.dumps(v2_members())[:-1] + ',"TLS.identifie\\u0072":"bob"}'
    assert refused(wrap(document.encode())) is SigReason.BAD_FIELD


@given(st.text(max_size=400))
def test_any_text_is_refused_cleanly(text):
    refused(text)


@given(st.binary(max_size=300), st.integers(0, 9))
def test_any_document_is_refused_cleanly(document, level):
    refused(wrap(document, level))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(st.sampled_from([v1_members, v2_members]), st.data())
def test_any_value_of_any_member_is_read_or_refused_cleanly(make, data):
    members = make(userbuf=USERBUF)
    members[data.draw(st.sampled_from([*members, "x"]))] = data.draw(json_values)
    try:
        found = decode(dump(members))
    except BadSig:
        return
    json.dumps(found.fields())


@pytest.mark.parametrize("name", ["a" * 33, "TLS sig", "", "{}", "TLS.sig\n"])
def test_an_odd_name_of_a_member_is_not_repeated(name):
    assert bad_field(name, "is odd").text == "member of the sig is odd"
    assert bad_field("TLS.sig_2" + "a" * 23, "is odd").text == "TLS.sig_2" + "a" * 23 + " is odd"
