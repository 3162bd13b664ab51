"""The verifier against sigs made by other implementations, and every code it answers."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from sigmgr.sim.verifier import (
    AppKeys,
    Code,
    Rejected,
    check,
    check_room_key,
    open_sig,
    open_userbuf,
)
from tests.sim.kit import APP, NOW, SECRET, new_key, pack, sign_v1, sign_v2, userbuf

VECTORS = json.loads((Path(__file__).parents[1] / "data" / "usersig.json").read_text())
SIGS = [vector for vector in VECTORS if "sig" in vector]
KEYS = AppKeys.load(secrets=[SECRET])


def keys_of(vector):
    if vector["format"] == "v1":
        return AppKeys.load(public_pems=[vector["public_key_pem"]])
    return AppKeys.load(secrets=[vector["secret_key"]])


def code_of(sig, *, keys=KEYS, sdkappid=APP, userid="alice", now=NOW, **more):
    with pytest.raises(Rejected) as caught:
        check(sig, sdkappid=sdkappid, userid=userid, keys=keys, now=now, **more)
    return caught.value.code


@pytest.mark.parametrize("vector", SIGS, ids=lambda vector: vector["name"])
def test_sigs_of_other_implementations_verify(vector):
    buf = vector["userbuf_base64"]
    end = vector["issued_at"] + vector["ttl"]
    who = {"sdkappid": vector["sdkappid"], "userid": vector["identifier"], "keys": keys_of(vector)}
    opened = check(vector["sig"], now=end, userbuf=buf is not None, **who)
    assert (opened.format, opened.issued_at, opened.ttl) == (
        vector["format"],
        vector["issued_at"],
        vector["ttl"],
    )
    assert opened.userbuf == (None if buf is None else base64.b64decode(buf))
    assert code_of(vector["sig"], now=end + 1, userbuf=buf is not None, **who) == Code.EXPIRED
    assert code_of(vector["sig"], now=end, userbuf=buf is None, **who) == Code.CHECK_FAILED


@pytest.mark.parametrize(
    "vector", [v for v in VECTORS if v["format"] == "v2-mac"], ids=lambda vector: vector["name"]
)
def test_macs_of_other_implementations(vector):
    buf = None if vector["userbuf_hex"] is None else bytes.fromhex(vector["userbuf_hex"])
    sig = sign_v2(
        vector["identifier"],
        vector["issued_at"],
        vector["ttl"],
        sdkappid=vector["sdkappid"],
        secret=vector["secret_key"],
        buf=buf,
    )
    assert open_sig(sig).proof == base64.b64decode(vector["mac_base64"])
    assert open_sig(sig).userbuf == buf


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP256K1()])
@pytest.mark.parametrize(
    "quirk",
    [
        {},
        {"crlf": True},
        {"third": None},
        {"third": ""},
        {"indent": 4},
        {"level": 0},
        {"third": None, "crlf": True, "indent": 2, "level": 1},
    ],
    ids=str,
)
def test_v1_as_old_tools_wrote_it(curve, quirk):
    key, pem = new_key(curve)
    sig = sign_v1(key, "alice", NOW, 60, **quirk)
    keys = AppKeys.load(public_pems=[pem])
    assert check(sig, sdkappid=APP, userid="alice", keys=keys, now=NOW).ttl == 60


@pytest.mark.parametrize("quirk", [{"indent": 1}, {"level": 0}, {"level": 1}], ids=str)
def test_v2_as_other_tools_write_it(quirk):
    sig = sign_v2("alice", NOW, 60, **quirk)
    assert check(sig, sdkappid=APP, userid="alice", keys=KEYS, now=NOW).expires_at == NOW + 60


def test_any_of_several_keys_fits():
    key, pem = new_key()
    other = new_key()[1]
    keys = AppKeys.load([other, pem], ["another secret", SECRET])
    for sig in (sign_v1(key, "alice", NOW, 60), sign_v2("alice", NOW, 60)):
        check(sig, sdkappid=APP, userid="alice", keys=keys, now=NOW)


def test_good_through_the_second_of_expiry_and_from_the_future():
    sig = sign_v2("alice", NOW, 60)
    for now in (NOW - 10_000, NOW + 60):
        check(sig, sdkappid=APP, userid="alice", keys=KEYS, now=now)
    assert code_of(sig, now=NOW + 61) == Code.EXPIRED


def test_every_code():
    sig = sign_v2("alice", NOW, 60)
    assert code_of("") == Code.EMPTY == 70002
    assert code_of(sig[:-9]) == Code.CHECK_FAILED == 70003
    assert code_of(sig, keys=AppKeys.load(secrets=["x"])) == Code.WRONG_KEY == 70009
    assert code_of(sig, userid="bob") == Code.WRONG_USER == 70013
    assert code_of(sig, sdkappid=APP + 1) == Code.WRONG_APP == 70014
    assert code_of(sig, keys=AppKeys()) == Code.NO_KEY == 70016
    assert code_of(sig, now=NOW + 61) == Code.EXPIRED == 70001


def test_order_of_the_checks_differs_by_format():
    key, pem = new_key()
    v1, v2 = sign_v1(key, "alice", NOW, 60), sign_v2("alice", NOW, 60)
    wrong = AppKeys.load([new_key()[1]], ["wrong"])
    assert code_of(v1, keys=wrong, userid="bob", now=NOW + 61) == Code.WRONG_KEY
    assert code_of(v2, keys=wrong, userid="bob", now=NOW + 61) == Code.WRONG_USER
    assert code_of(v2, keys=wrong, now=NOW + 61) == Code.EXPIRED
    assert code_of(v1, keys=AppKeys.load([pem]), now=NOW + 61) == Code.EXPIRED


@pytest.mark.parametrize(
    "members",
    [
        [],
        {},
        {"TLS.ver": "2.0"},
        {"TLS.ver": "2.0", "TLS.identifier": 1, "TLS.sdkappid": 1, "TLS.time": 1, "TLS.sig": ""},
        {"TLS.ver": "2.0", "TLS.identifier": "a", "TLS.sdkappid": "1", "TLS.time": 1},
        {"TLS.ver": "2.0", "TLS.identifier": "a", "TLS.sdkappid": 1, "TLS.time": 1.5},
    ],
    ids=str,
)
def test_members_that_are_missing_or_of_another_type(members):
    assert code_of(pack(members)) == Code.CHECK_FAILED


def test_what_is_no_sig_at_all():
    bomb = pack({"TLS.sig": "0" * 1_000_000})
    for sig in ("A", "not a sig", "ab+/", "é", bomb, sign_v2("alice", NOW, 60) + "A"):
        assert code_of(sig) == Code.CHECK_FAILED


@given(st.text(max_size=60))
def test_no_text_makes_it_fall_over(text):
    with pytest.raises(Rejected):
        open_sig(text)


@given(st.integers(0, 500), st.sampled_from("ABCabc019*-_"))
def test_a_changed_character_never_verifies_as_something_else(at, letter):
    sig = sign_v2("alice", NOW, 60)
    at %= len(sig)
    changed = sig[:at] + letter + sig[at + 1 :]
    try:
        opened = check(changed, sdkappid=APP, userid="alice", keys=KEYS, now=NOW)
    except Rejected:
        return
    assert opened == open_sig(sig)


def test_a_public_key_must_be_on_a_known_curve():
    pem = new_key(ec.SECP384R1())[1]
    with pytest.raises(ValueError, match="P-256"):
        AppKeys.load(public_pems=[pem])


def room_code(sig, now=NOW):
    with pytest.raises(Rejected) as caught:
        check_room_key(sig, sdkappid=APP, userid="alice", keys=KEYS, now=now)
    return caught.value.code


def test_room_keys_name_the_user_and_the_app_inside_too():
    def key(buf, ttl=60):
        return sign_v2("alice", NOW, ttl, buf=buf)

    good = key(userbuf("alice", "room-1", 42, NOW + 60))
    _, grant = check_room_key(good, sdkappid=APP, userid="alice", keys=KEYS, now=NOW)
    assert (grant.room_name, grant.room_id, grant.privileges) == ("room-1", 0, 42)
    assert room_code(key(userbuf("bob", 1, 42, NOW + 60))) == Code.WRONG_USER
    assert room_code(key(userbuf("alice", 1, 42, NOW + 60, sdkappid=1))) == Code.WRONG_APP
    assert room_code(key(userbuf("alice", 1, 42, NOW - 1))) == Code.EXPIRED
    assert room_code(key(userbuf("alice", 1, 42, NOW + 99)), NOW + 61) == Code.EXPIRED
    assert room_code(key(b"abc")) == Code.CHECK_FAILED
    assert room_code(sign_v2("alice", NOW, 60)) == Code.CHECK_FAILED


def test_userbuf_bytes():
    raw = bytes.fromhex("000005616c69636553724e000000271065ca9800000000ff00000000")
    grant = open_userbuf(raw)
    assert grant == ("alice", 1400000000, 10000, "", 1707776000, 255, 0)
    for broken in (raw[:-1], raw + b"\0", b"", b"\2" + raw[1:], b"\1" + raw[1:]):
        with pytest.raises(Rejected):
            open_userbuf(broken)
