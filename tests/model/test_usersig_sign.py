"""The strict encoder: exact strings, round trips, and refusals."""

from __future__ import annotations

import base64
import json
import zlib

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from sigmgr.model import errors, userbuf
from sigmgr.model.holder import Holder, Room
from sigmgr.model.sig import SigFacts
from sigmgr.model.usersig import FORMATS, secret, sign, sign_checked, verify
from sigmgr.model.usersig.claims import claims
from tests.model.usersig_kit import (
    ALICE,
    ALL_KEYS,
    APP,
    HMAC,
    IN_ROOM,
    LIFE,
    NOW,
    P256,
    P256_KEY,
    V1,
    V1_ROOM,
    V2,
    V2_ROOM,
    VECTORS,
    facts,
    lines,
    unwrap,
)

V2_MACS = [vector for vector in VECTORS if vector["format"] == "v2-mac"]
BASES = [(V1, P256), (V2, HMAC), (V1_ROOM, P256), (V2_ROOM, HMAC)]


def vector_facts(vector):
    if vector["userbuf_hex"] is None:
        return V2
    grant = userbuf.decode(bytes.fromhex(vector["userbuf_hex"]))
    holder = IN_ROOM._replace(scope=grant.room.scope)
    return V2_ROOM._replace(holder=holder, privileges=grant.privileges)


@pytest.mark.parametrize("vector", V2_MACS, ids=lambda vector: vector["name"])
def test_macs_are_those_of_the_official_packages(vector):
    sig = sign(vector_facts(vector), secret.load_secret(vector["secret_key"]))
    assert json.loads(unwrap(sig))["TLS.sig"] == vector["mac_base64"]


@pytest.mark.parametrize("vector", [v for v in VECTORS if v["format"] == "v2"])
def test_the_official_strings_say_the_same(vector):
    """The strings differ in JSON order and spaces, never in a member."""
    key = secret.load_secret(vector["secret_key"])
    room = vector["userbuf_base64"] is not None
    ours = sign(V2_ROOM._replace(privileges=171) if room else V2, key)
    assert json.loads(unwrap(ours)) == json.loads(unwrap(vector["sig"]))


def test_the_v2_document():
    assert unwrap(sign(V2, HMAC)).startswith(
        b'{"TLS.ver":"2.0","TLS.identifier":"alice","TLS.sdkappid":1400000000,'
        b'"TLS.expire":7776000,"TLS.time":1700000000,"TLS.sig":"'
    )


def test_the_v1_document():
    assert unwrap(sign(V1, P256)).startswith(
        b'{"TLS.account_type":"0","TLS.identifier":"alice","TLS.appid_at_3rd":"0",'
        b'"TLS.sdk_appid":"1400000000","TLS.expire_after":"7776000",'
        b'"TLS.version":"201803230000","TLS.time":"1700000000","TLS.sig":"'
    )


@pytest.mark.parametrize("fact", [V1, V1_ROOM])
def test_the_v1_signature_is_over_the_lines_of_the_notes(fact):
    members = json.loads(unwrap(sign(fact, P256)))
    pairs = [
        ("appid_at_3rd", 0),
        ("account_type", 0),
        ("identifier", "alice"),
        ("sdk_appid", APP),
        ("time", NOW),
        ("expire_after", LIFE),
    ]
    if fact is V1_ROOM:
        pairs.append(("userbuf", members["TLS.userbuf"]))
    raw = base64.b64decode(members["TLS.sig"])
    P256_KEY.public_key().verify(raw, lines(*pairs), ec.ECDSA(hashes.SHA256()))


def test_the_userbuf_is_that_of_the_notes():
    for fact, key in ((V1_ROOM, P256), (V2_ROOM, HMAC)):
        raw = base64.b64decode(json.loads(unwrap(sign(fact, key)))["TLS.userbuf"])
        assert raw.hex() == "000005616c69636553724e000000271065ca9800000000ff00000000"


@pytest.mark.parametrize(("fact", "key"), BASES)
def test_the_same_facts_give_the_same_string(fact, key):
    assert sign(fact, key) == sign(fact._replace(key_id=77), key)


@pytest.mark.parametrize("key", ALL_KEYS.values(), ids=ALL_KEYS)
@given(data=st.data())
def test_what_is_signed_verifies_and_has_the_facts(key, data):
    fact = data.draw(facts(key.format))
    sig = sign(fact, key)
    assert len(sig) <= 600  # what a database column or a URL may count on
    found = verify(
        sig,
        [key],
        now=fact.expires_at - 1,
        userid=fact.holder.userid,
        sdkappid=fact.holder.sdkappid,
        userbuf=fact.holder.kind == "room",
    )
    assert (found.format, found.issued_at, found.ttl) == (fact.format, fact.issued_at, fact.ttl)
    assert found.expires_at == fact.expires_at
    if fact.holder.kind == "room":
        grant = userbuf.decode(found.userbuf or b"")
        assert grant.room == Room.from_scope(fact.holder.scope)
        assert (grant.userid, grant.sdkappid) == (fact.holder.userid, fact.holder.sdkappid)
        assert (grant.expires_at, grant.privileges) == (fact.expires_at, fact.privileges)


@pytest.mark.parametrize("fact", [V1, V2, V1_ROOM, V2_ROOM], ids=["v1", "v2", "room 1", "room 2"])
def test_a_sig_is_hardly_longer_than_zlib_would_make_it(fact):
    key = P256 if fact.format == "v1" else HMAC
    sigs = [sign(fact._replace(issued_at=NOW + 7919 * n), key) for n in range(50)]
    usual = [base64.b64encode(zlib.compress(unwrap(sig))) for sig in sigs]
    assert sum(map(len, sigs)) <= 1.15 * sum(map(len, usual))


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"ttl": 0}, errors.BadTtl),
        ({"ttl": -1}, errors.BadTtl),
        ({"ttl": 60.5}, errors.BadTtl),
        ({"ttl": True}, errors.BadTtl),
        ({"ttl": 2**32}, errors.BadTtl),
        ({"issued_at": 0}, errors.BadTime),
        ({"issued_at": -5}, errors.BadTime),
        ({"issued_at": 1.5}, errors.BadTime),
        ({"issued_at": True}, errors.BadTime),
        ({"issued_at": 2**32 - LIFE}, errors.BadTime),
        ({"holder": ALICE._replace(sdkappid=0)}, errors.BadSdkAppId),
        ({"holder": ALICE._replace(sdkappid=2**32)}, errors.BadSdkAppId),
        ({"holder": ALICE._replace(sdkappid=1.5)}, errors.BadSdkAppId),
        ({"holder": ALICE._replace(userid="")}, errors.BadUserId),
        ({"holder": ALICE._replace(userid="a" * 33)}, errors.BadUserId),
        ({"holder": ALICE._replace(userid="a\nTLS.sdkappid:1")}, errors.BadUserId),
        ({"holder": ALICE._replace(userid="é")}, errors.BadUserId),
        ({"holder": ALICE._replace(scope="id:1")}, errors.BadRoom),
        ({"holder": ALICE._replace(kind="robot")}, errors.BadRequest),
        ({"holder": IN_ROOM, "privileges": 0}, errors.BadPrivileges),
        ({"holder": IN_ROOM, "privileges": 256}, errors.BadPrivileges),
        ({"holder": IN_ROOM._replace(scope=""), "privileges": 1}, errors.BadRoom),
        ({"holder": IN_ROOM._replace(scope="id:0"), "privileges": 1}, errors.BadRoom),
        ({"holder": IN_ROOM._replace(scope="id:01"), "privileges": 1}, errors.BadRoom),
        ({"holder": IN_ROOM._replace(scope="id:4294967296"), "privileges": 1}, errors.BadRoom),
        ({"holder": IN_ROOM._replace(scope="id:-1"), "privileges": 1}, errors.BadRoom),
        ({"holder": IN_ROOM._replace(scope="name:"), "privileges": 1}, errors.BadRoom),
        ({"holder": IN_ROOM._replace(scope="name:a/b"), "privileges": 1}, errors.BadRoom),
    ],
)
@pytest.mark.parametrize(("fact", "key"), BASES[:2])
def test_facts_that_no_sig_can_carry_are_refused(fact, key, change, error):
    with pytest.raises(error):
        sign(fact._replace(**change), key)


def test_the_last_second_of_32_bits_can_be_signed():
    last = V2._replace(issued_at=2**32 - 1 - LIFE)
    assert verify(sign(last, HMAC), [HMAC], now=last.issued_at).expires_at == 2**32 - 1


@pytest.mark.parametrize(
    ("fact", "key"), [(V1, HMAC), (V2, P256), (V2._replace(format="v3"), HMAC)]
)
def test_a_key_that_does_not_fit_is_refused(fact, key):
    with pytest.raises(errors.BadKey):
        sign(fact, key)


@pytest.mark.parametrize("userid", ['"', "\\", 'a"b\\c', "\\u0041", "</script>", " ~"])
@pytest.mark.parametrize(("fact", "key"), BASES)
def test_user_ids_are_escaped(fact, key, userid):
    fact = fact._replace(holder=fact.holder._replace(userid=userid))
    assert json.loads(unwrap(sign(fact, key)))["TLS.identifier"] == userid
    assert verify(sign(fact, key), [key], now=NOW).userid == userid


def test_an_admin_sig_is_a_user_sig():
    assert sign(V2._replace(holder=Holder(APP, "alice", "admin")), HMAC) == sign(V2, HMAC)


@given(st.integers(1, 10**9), st.integers(10, 10**8))
def test_the_cheap_check_takes_the_sig_of_these_facts_only(issued_at, ttl):
    key = secret.load_secret("5" * 64)
    facts = SigFacts(Holder(1400000000, "alice"), "v2", 1, issued_at, ttl)
    text = sign(facts, key)
    assert sign_checked(facts, key) == (text, True)

    def holds(text: str, facts: SigFacts, key: secret.HmacKey) -> bool:
        return FORMATS.named("v2").holds(text, claims(facts), key)

    assert holds(text, facts, key)
    assert not holds(text, facts, secret.load_secret("6" * 64))
    assert not holds(text, facts._replace(ttl=ttl + 1), key)
    assert not holds(text, facts._replace(issued_at=issued_at + 1), key)
    assert not holds(text, facts._replace(holder=Holder(1400000000, "alicf")), key)
    assert not holds(text[:-4], facts, key)
    assert not holds("x" * 5000, facts, key)


def test_documents_stay_as_they_are_to_the_byte():
    """Processes of different versions derive the same sig, whatever compresses it."""
    assert unwrap(sign(V2, HMAC)) == (
        b'{"TLS.ver":"2.0","TLS.identifier":"alice","TLS.sdkappid":1400000000,'
        b'"TLS.expire":7776000,"TLS.time":1700000000,"TLS.sig":"w7YMMfv67/LTx3R0G09by9h0dam/rXl4RhozjUPYAsI="}'
    )
