"""The tolerant reader: every layout seen in the wild, and what people are shown of a sig."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sigmgr.model.errors import BadSig, SigReason
from sigmgr.model.usersig import decode, ecdsa, secret, sign, verify
from tests.model.usersig_kit import (
    APP,
    HMAC,
    LIFE,
    NOW,
    P256,
    USERBUF,
    V1,
    V1_ROOM,
    V2,
    V2_ROOM,
    VECTORS,
    dump,
    reorder,
    v1_members,
    v2_members,
    wrap,
)

PHP = "account_type identifier appid_at_3rd sdk_appid expire_after version time userbuf sig"
LAYOUTS_V1 = {
    "c++ node php": (PHP, {"separators": (",", ":")}),
    "c++ ticket": (
        "sdk_appid identifier time expire_after account_type appid_at_3rd userbuf sig",
        {"indent": 3},
    ),
    "go": (
        "account_type appid_at_3rd expire_after identifier sdk_appid sig time userbuf version",
        {"separators": (",", ":")},
    ),
    "python": (PHP, {"separators": (", ", ": ")}),
    "java 2018": (
        "account_type identifier appid_at_3rd sdk_appid expire_after sig time userbuf version",
        {"separators": (",", ":")},
    ),
}
LAYOUTS_V2 = {
    "c++": ("ver sdkappid identifier time expire userbuf sig", {"separators": (",", ":")}),
    "python php go": ("ver identifier sdkappid expire time userbuf sig", {}),
    "node": ("ver identifier sdkappid time expire userbuf sig", {"separators": (",", ":")}),
    "c#": ("ver identifier sdkappid expire time sig userbuf", {"indent": "\t"}),
    "ver last": ("sig time userbuf expire sdkappid identifier ver", {}),
}


# --- what others make ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "vector", [v for v in VECTORS if "sig" in v], ids=lambda vector: vector["name"]
)
def test_vectors(vector):
    if vector["format"] == "v1":
        key = ecdsa.load_public(vector["public_key_pem"].encode())
        assert key.curve == vector["curve"]
    else:
        key = secret.load_secret(vector["secret_key"])
    found = verify(
        vector["sig"],
        [key],
        now=vector["issued_at"],
        userid=vector["identifier"],
        sdkappid=vector["sdkappid"],
        userbuf=vector["userbuf_base64"] is not None,
    )
    assert (found.issued_at, found.ttl) == (vector["issued_at"], vector["ttl"])
    assert found.userbuf_base64 == vector["userbuf_base64"]


@pytest.mark.parametrize("level", range(10))
@pytest.mark.parametrize("userbuf", [None, USERBUF])
@pytest.mark.parametrize("layout", LAYOUTS_V1)
def test_v1_layouts_at_every_level(layout, userbuf, level):
    order, style = LAYOUTS_V1[layout]
    members = reorder(v1_members(userbuf=userbuf), order)
    found = verify(dump(members, level, **style), [P256], now=NOW)
    assert (found.userid, found.sdkappid, found.userbuf_base64) == ("alice", APP, userbuf)


@pytest.mark.parametrize("level", range(10))
@pytest.mark.parametrize("userbuf", [None, USERBUF])
@pytest.mark.parametrize("layout", LAYOUTS_V2)
def test_v2_layouts_at_every_level(layout, userbuf, level):
    order, style = LAYOUTS_V2[layout]
    members = reorder(v2_members(userbuf=userbuf), order)
    found = verify(dump(members, level, **style), [HMAC], now=NOW)
    assert (found.userid, found.sdkappid, found.userbuf_base64) == ("alice", APP, userbuf)


@given(st.permutations(list(v1_members(userbuf=USERBUF))), st.integers(0, 9))
def test_any_order(order, level):
    members = v1_members(userbuf=USERBUF)
    assert verify(dump({name: members[name] for name in order}, level), [P256], now=NOW)


def test_a_missing_third_party_appid_is_not_signed():
    found = verify(dump(v1_members(appid_at_3rd=None)), [P256], now=NOW)
    assert found.appid_at_3rd is None
    assert found.signed_text.startswith(b"TLS.account_type:0\n")


@pytest.mark.parametrize("value", ["", "0", "123", "wx12ab"])
def test_a_third_party_appid_is_signed_as_it_stands(value):
    found = verify(dump(v1_members(appid_at_3rd=value)), [P256], now=NOW)
    assert found.appid_at_3rd == value


@pytest.mark.parametrize("raw_line_end", [False, True])
def test_line_ends_inside_the_signature(raw_line_end):
    members = v1_members()
    mark = members["TLS.sig"]
    members["TLS.sig"] = f"{mark[:64]}\r\n{mark[64:]}\r\n"
    document = json.dumps(members)
    if raw_line_end:
        document = document.replace("\\r\\n", "\r\n")
    assert verify(wrap(document.encode()), [P256], now=NOW).userid == "alice"


@pytest.mark.parametrize("version", [None, "", "20151204", "201803230000", 201512300000])
def test_any_version_or_none(version):
    members = v1_members() | ({} if version is None else {"TLS.version": version})
    found = verify(dump(members), [P256], now=NOW)
    assert found.version == (None if version is None else str(version))


def test_numbers_may_be_strings_and_strings_numbers():
    as_numbers = {
        name: int(value) if str(value).isdecimal() else value
        for name, value in v1_members(identifier="12345").items()
    }
    assert verify(dump(as_numbers), [P256], now=NOW).userid == "12345"
    as_strings = {name: str(value) for name, value in v2_members().items()}
    assert verify(dump(as_strings), [HMAC], now=NOW).sdkappid == APP


def test_escapes():
    document = json.dumps(v1_members(userbuf=USERBUF, identifier="a/b<c>&é")).encode()
    document = document.replace(b"/", b"\\/").replace(b"<", b"\\u003c").replace(b"T", b"\\u0054")
    found = verify(wrap(document), [P256], now=NOW)
    assert (found.userid, found.userbuf_base64) == ("a/b<c>&é", USERBUF)


def test_user_ids_beyond_ascii_can_be_read():
    members = v2_members(identifier="用户一")
    for ascii_only in (True, False):
        assert verify(dump(members, ensure_ascii=ascii_only), [HMAC], now=NOW).userid == "用户一"


def test_a_line_end_after_the_json_and_whitespace_around_the_sig():
    sig = wrap(json.dumps(v2_members()).encode() + b"\n", 0)
    assert verify(f" \t{sig}\r\n", [HMAC], now=NOW).userid == "alice"


def test_go_leaves_out_a_zero():
    members = v2_members(expire=0)
    del members["TLS.expire"]
    assert decode(dump(members)).ttl == 0
    with pytest.raises(BadSig) as caught:
        verify(dump(members), [HMAC], now=NOW)
    assert caught.value.reason is SigReason.EXPIRED


def test_c_plus_plus_prints_large_appids_as_negative():
    found = verify(dump(v1_members(sdk_appid="-294967296")), [P256], now=NOW)
    assert found.sdkappid == 4000000000
    for wrong in ("-0", "-2147483649", "--1", "-", "-01"):
        with pytest.raises(BadSig) as caught:
            decode(dump(v1_members(sdk_appid=wrong)))
        assert caught.value.reason is SigReason.BAD_FIELD


def test_unknown_members_are_passed_over():
    assert verify(dump(v2_members() | {"TLS.new": "x", "other": 5}), [HMAC], now=NOW)


def test_without_the_version_mark_it_is_v1():
    assert decode(dump(v1_members() | {"TLS.ver": "1.0"})).format == "v1"
    with pytest.raises(BadSig) as caught:
        decode(dump(v2_members() | {"TLS.ver": "2.1"}))
    assert caught.value.reason is SigReason.BAD_FIELD
    assert "TLS.ver is another text" in caught.value.text


@pytest.mark.parametrize(
    ("mark", "reason", "words"),
    [
        (2, SigReason.BAD_FIELD, 'TLS.ver is a number; in v2 it is the text "2.0"'),
        (2.0, SigReason.BAD_FIELD, 'TLS.ver is a number; in v2 it is the text "2.0"'),
        (None, SigReason.MISSING_FIELD, "TLS.ver is missing"),
    ],
)
def test_a_v2_sig_that_is_not_marked_as_one_gets_an_error(mark, reason, words):
    members = v2_members()
    del members["TLS.ver"]
    if mark is not None:
        members["TLS.ver"] = mark
    for extra in ({}, {"TLS.userbuf": USERBUF}):
        with pytest.raises(BadSig) as caught:
            decode(dump(members | extra))
        assert caught.value.reason is reason
        assert words in caught.value.text
        assert '"2.0"' in caught.value.text + caught.value.advice


@pytest.mark.parametrize("gone", ["TLS.sdk_appid", "TLS.expire_after", "TLS.account_type"])
def test_a_v1_sig_that_misses_a_member_is_not_taken_for_v2(gone):
    members = v1_members()
    del members[gone]
    with pytest.raises(BadSig) as caught:
        decode(dump(members))
    assert gone in caught.value.text


# --- for people ---------------------------------------------------------------------------


def test_fields_of_a_plain_sig():
    assert decode(sign(V1, P256)).fields() == {
        "format": "v1",
        "userid": "alice",
        "sdkappid": APP,
        "issued_at": NOW,
        "ttl": LIFE,
        "expires_at": NOW + LIFE,
        "account_type": 0,
        "appid_at_3rd": "0",
        "version": "201803230000",
        "userbuf": None,
    }
    assert decode(sign(V2, HMAC)).fields()["appid_at_3rd"] is None


def test_fields_of_a_room_sig():
    assert decode(sign(V2_ROOM._replace(privileges=42), HMAC)).fields()["userbuf"] == {
        "base64": "AAAFYWxpY2VTck4AAAAnEGXKmAAAAAAqAAAAAA==",
        "userid": "alice",
        "sdkappid": APP,
        "room_id": 10000,
        "expires_at": NOW + LIFE,
        "privilege_mask": 42,
        "privileges": ["enter", "receive_audio", "receive_video"],
        "account_type": 0,
    }
    named = V1_ROOM._replace(holder=V1_ROOM.holder._replace(scope="name:10000"))
    shown = decode(sign(named, P256)).fields()["userbuf"]
    assert shown["room_name"] == "10000"
    assert "room_id" not in shown


def test_a_userbuf_that_is_no_grant_is_shown_as_it_is():
    found = decode(dump(v2_members(userbuf="YWJj")))
    assert found.userbuf == b"abc"
    assert found.fields()["userbuf"] == {"base64": "YWJj"}


@pytest.mark.parametrize(("fact", "key"), [(V1, P256), (V2, HMAC), (V2_ROOM, HMAC)])
def test_nothing_shown_holds_the_signature(fact, key):
    found = decode(sign(fact, key))
    mark = base64.b64encode(found.signature).decode()
    for shown in (repr(found), str(found), json.dumps(found.fields())):
        assert mark not in shown
        assert found.signature.hex() not in shown
        assert "signature" not in shown


@pytest.mark.parametrize(
    ("mark", "kind"),
    [
        (2, "a number"), (2.0, "a number"), (-1.5e3, "a number"), (True, "true or false"),
        (False, "true or false"), (None, "null"), ([], "no text"), ({}, "no text"),
        ("2", "another text"),
    ],
)  # fmt: skip
def test_what_the_mark_of_v2_is_instead_is_reported(mark, kind):
    with pytest.raises(BadSig) as caught:
        decode(dump(v2_members() | {"TLS.ver": mark}))
    assert caught.value.text == f'TLS.ver is {kind}; in v2 it is the text "2.0"'
