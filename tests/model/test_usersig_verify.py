"""Every reason, the order in which they are found, and every flipped bit."""

from __future__ import annotations

import base64

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from sigmgr.model.errors import BadSig, SigReason
from sigmgr.model.usersig import (
    MAX_AHEAD,
    decode,
    ecdsa,
    issued_in_future,
    secret,
    sign,
    verify,
)
from tests.model.usersig_kit import (
    APP,
    HMAC,
    K1,
    LIFE,
    NOW,
    P256,
    V1,
    V1_ROOM,
    V2,
    V2_ROOM,
    dump,
    pem,
    unwrap,
    v1_members,
    v2_members,
    wrap,
)

PUBLIC_P256, PUBLIC_K1 = (ecdsa.load_public(key.public_pem) for key in (P256, K1))
STRANGER = secret.load_secret("f" * 64)
STRANGER_V1 = ecdsa.load_private(pem(ec.generate_private_key(ec.SECP256R1())))


def reason(text, *ring, now=NOW, **claims):
    with pytest.raises(BadSig) as caught:
        verify(text, ring, now=now, **claims)
    assert text not in caught.value.text
    return caught.value.reason


# --- each reason by name ------------------------------------------------------------------


def test_too_long():
    assert reason("a" * 5000, HMAC) is SigReason.TOO_LONG


def test_not_base64():
    assert reason("no sig at all", HMAC) is SigReason.NOT_BASE64


def test_not_zlib():
    assert reason("YWJj", HMAC) is SigReason.NOT_ZLIB


def test_too_large():
    assert reason(wrap(b" " * 20000), HMAC) is SigReason.TOO_LARGE


def test_not_json():
    assert reason(wrap(b"alice"), HMAC) is SigReason.NOT_JSON


def test_missing_field():
    assert reason(wrap(b"{}"), HMAC) is SigReason.MISSING_FIELD


def test_bad_field():
    assert reason(dump(v2_members(time=-1)), HMAC) is SigReason.BAD_FIELD


def test_wrong_format():
    assert reason(sign(V1, P256), HMAC) is SigReason.WRONG_FORMAT
    assert reason(sign(V2, HMAC), P256, PUBLIC_K1) is SigReason.WRONG_FORMAT
    assert reason(sign(V2, HMAC)) is SigReason.WRONG_FORMAT


def test_wrong_app():
    assert reason(sign(V2, HMAC), HMAC, sdkappid=APP + 1) is SigReason.WRONG_APP


def test_wrong_user():
    assert reason(sign(V1, P256), P256, userid="bob") is SigReason.WRONG_USER
    assert reason(sign(V1, P256), P256, userid="") is SigReason.WRONG_USER


def test_userbuf_missing():
    assert reason(sign(V2, HMAC), HMAC, userbuf=True) is SigReason.USERBUF_MISSING


def test_userbuf_unexpected():
    assert reason(sign(V1_ROOM, P256), P256, userbuf=False) is SigReason.USERBUF_UNEXPECTED


@pytest.mark.parametrize("size", [0, 31, 33, 64])
def test_bad_signature_of_v2(size):
    mark = base64.b64encode(bytes(size)).decode()
    assert reason(dump(v2_members() | {"TLS.sig": mark}), HMAC) is SigReason.BAD_SIGNATURE


@pytest.mark.parametrize("raw", [b"", b"0", bytes(64), bytes.fromhex("3006020100020100") + b"x"])
def test_bad_signature_of_v1(raw):
    mark = base64.b64encode(raw).decode()
    assert reason(dump(v1_members() | {"TLS.sig": mark}), P256) is SigReason.BAD_SIGNATURE


def test_wrong_key():
    assert reason(sign(V2, HMAC), STRANGER) is SigReason.WRONG_KEY
    assert reason(sign(V1, P256), STRANGER_V1, K1) is SigReason.WRONG_KEY
    assert reason(sign(V1, K1), P256) is SigReason.WRONG_KEY


@pytest.mark.parametrize(
    "numbers", ["3006020100020100", "3006020101020101", "30060201ff0201ff"], ids=str
)
def test_impossible_numbers_in_a_signature_are_refused(numbers):
    mark = base64.b64encode(bytes.fromhex(numbers)).decode()
    found = reason(dump(v1_members() | {"TLS.sig": mark}), P256)
    assert found in {SigReason.WRONG_KEY, SigReason.BAD_SIGNATURE}


def test_a_changed_field_is_as_a_wrong_key():
    assert reason(dump(v2_members() | {"TLS.expire": LIFE * 2}), HMAC) is SigReason.WRONG_KEY
    assert reason(dump(v1_members() | {"TLS.identifier": "bob"}), P256) is SigReason.WRONG_KEY


@pytest.mark.parametrize(("make", "key"), [(v1_members, P256), (v2_members, HMAC)])
def test_a_userbuf_cannot_be_added_or_taken_away(make, key):
    plain, room = make(), make(userbuf="YWJj")
    assert reason(dump(plain | {"TLS.userbuf": "YWJj"}), key) is SigReason.WRONG_KEY
    del room["TLS.userbuf"]
    assert reason(dump(room), key) is SigReason.WRONG_KEY


@pytest.mark.parametrize(("fact", "key"), [(V1, P256), (V2, HMAC)])
def test_expired(fact, key):
    sig = sign(fact, key)
    assert verify(sig, [key], now=fact.expires_at - 1).expires_at == fact.expires_at
    assert reason(sig, key, now=fact.expires_at) is SigReason.EXPIRED


@pytest.mark.parametrize(("fact", "key"), [(V1, P256), (V2, HMAC)])
def test_a_sig_from_the_future_is_valid_for_a_day_and_reported(fact, key):
    sig = sign(fact, key)
    for ahead in (-1, 0, 1, MAX_AHEAD):
        found = verify(sig, [key], now=NOW - ahead)
        assert issued_in_future(found.issued_at, NOW - ahead) == max(0, ahead)
    with pytest.raises(BadSig) as caught:
        verify(sig, [key], now=NOW - MAX_AHEAD - 1)
    assert caught.value.reason is SigReason.ISSUED_IN_FUTURE
    assert f"{MAX_AHEAD + 1} s after now" in caught.value.text
    assert "clock" in caught.value.advice


def test_only_a_sig_that_is_good_else_is_called_one_from_the_future():
    sig = sign(V2, HMAC)
    assert reason(sig, STRANGER, now=1) is SigReason.WRONG_KEY
    assert reason(sig, HMAC, now=1, userid="bob") is SigReason.WRONG_USER
    assert reason(sig, HMAC, now=1) is SigReason.ISSUED_IN_FUTURE


@given(st.text(max_size=80))
def test_a_user_id_is_compared_and_not_judged(userid):
    sig = sign(V2, HMAC)
    if userid == "alice":
        assert verify(sig, [HMAC], now=NOW, userid=userid)
    else:
        assert reason(sig, HMAC, userid=userid) is SigReason.WRONG_USER


def test_the_order_in_which_reasons_are_found():
    """One sig that is wrong in every way, mended one way at a time."""
    late = NOW + LIFE
    broken = dump(v2_members() | {"TLS.sig": "YWJj"})
    foreign = sign(V2, STRANGER)
    room = sign(V2_ROOM, HMAC)
    for text, ring, claims, wanted in (
        ("YWJj", [P256], {"userid": "bob", "sdkappid": 1, "userbuf": True}, "not-zlib"),
        (broken, [P256], {"userid": "bob", "sdkappid": 1, "userbuf": True}, "wrong-format"),
        (broken, [HMAC], {"userid": "bob", "sdkappid": 1, "userbuf": True}, "wrong-app"),
        (broken, [HMAC], {"userid": "bob", "sdkappid": APP, "userbuf": True}, "wrong-user"),
        (broken, [HMAC], {"userid": "alice", "userbuf": True}, "userbuf-missing"),
        (room, [STRANGER], {"userid": "alice", "userbuf": False}, "userbuf-unexpected"),
        (broken, [HMAC], {"userid": "alice", "userbuf": False}, "bad-signature"),
        (foreign, [HMAC], {"userid": "alice", "userbuf": False}, "wrong-key"),
        (sign(V2, HMAC), [HMAC], {"userid": "alice", "userbuf": False}, "expired"),
    ):
        assert reason(text, *ring, now=late, **claims) == wanted


# --- keys ---------------------------------------------------------------------------------


class Recorder:
    """A key that verifies nothing, and records when it was asked."""

    def __init__(self, fmt, name, asked):
        self.format, self.name, self.asked = fmt, name, asked

    def verify(self, _text, _signature):
        self.asked.append(self.name)
        return self.name == "good"


def test_keys_are_tried_newest_first_and_only_those_of_the_format():
    asked = []
    ring = [
        Recorder(fmt, name, asked)
        for fmt, name in [("v2", "oldest"), ("v2", "good"), ("v1", "other"), ("v2", "newest")]
    ]
    assert verify(sign(V2, HMAC), ring, now=NOW)
    assert asked == ["newest", "good"]


@pytest.mark.parametrize("key", [P256, PUBLIC_P256, K1, PUBLIC_K1])
def test_either_half_of_a_key_verifies(key):
    signer = P256 if key.curve == "P-256" else K1
    assert verify(sign(V1, signer), [STRANGER, STRANGER_V1, key, HMAC], now=NOW)


# --- flipped bits -------------------------------------------------------------------------

CASES = [(V1, P256), (V2, HMAC), (V1_ROOM, P256), (V2_ROOM, HMAC)]


def check(flipped, key, original):
    try:
        found = verify(flipped, [key], now=NOW)
    except BadSig:
        return 0
    assert found.signed_text == original.signed_text
    assert (found.format, found.fields() | {"version": 0}) == (
        original.format,
        original.fields() | {"version": 0},
    )
    return 1


@pytest.mark.parametrize(("fact", "key"), CASES[:2], ids=["v1", "v2"])
def test_every_flipped_bit_of_the_string(fact, key):
    sig = sign(fact, key)
    original = decode(sig)
    for place, character in enumerate(sig):
        for bit in range(8):
            changed = chr(ord(character) ^ (1 << bit))
            check(f"{sig[:place]}{changed}{sig[place + 1 :]}", key, original)


@pytest.mark.parametrize(("fact", "key"), CASES, ids=["v1", "v2", "v1 room", "v2 room"])
def test_every_flipped_bit_of_the_document(fact, key):
    """Wrapped again, so that the checksum of the stream does not hide the rest."""
    sig = sign(fact, key)
    original, document = decode(sig), bytearray(unwrap(sig))
    passed = 0
    for place in range(len(document)):
        for bit in range(8):
            document[place] ^= 1 << bit
            passed += check(wrap(bytes(document), 1), key, original)
            document[place] ^= 1 << bit
    # What passes is the unsigned version of v1, its name, and such; v2 has nothing of the kind.
    assert passed > 0 if fact.format == "v1" else passed == 0


def test_each_reason_reports_what_to_do():
    answer = {reason: BadSig(reason).advice for reason in SigReason}
    assert BadSig.advice not in answer.values()
    # A damage is named with its remedy where it is found.
    for reason, advice in answer.items():
        assert advice.endswith("."), reason
    assert "current sig" in answer[SigReason.REVOKED]
    assert "current sig" in answer[SigReason.EXPIRED]


def test_a_sig_that_has_just_expired_is_described_so():
    sig = sign(V2, HMAC)
    for late, answer in ((0, "which is now"), (1, "1 s before now"), (90, "90 s before now")):
        with pytest.raises(BadSig) as caught:
            verify(sig, [HMAC], now=V2.expires_at + late)
        assert caught.value.text == f"the sig expired at {V2.expires_at}, {answer}"
