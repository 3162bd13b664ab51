"""Keys in every clothing they come in, and a plain sentence for everything else."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from functools import partial

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa
from hypothesis import given
from hypothesis import strategies as st

from sigmgr.model.errors import BadKey
from sigmgr.model.usersig import FORMATS, ecdsa, secret
from sigmgr.model.usersig.likeness import likeness
from sigmgr.model.usersig.pem import key_block
from tests.model.usersig_kit import K1_KEY, P256_KEY, SECRET, VECTORS, pem

PEM = serialization.Encoding.PEM
PRIVATE = serialization.PrivateFormat
PARAMETERS_OF_K1 = b"-----BEGIN EC PARAMETERS-----\nBgUrgQQACg==\n-----END EC PARAMETERS-----\n"
CURVES = [(P256_KEY, "P-256"), (K1_KEY, "secp256k1")]


def sec1(key):
    return key.private_bytes(PEM, PRIVATE.TraditionalOpenSSL, serialization.NoEncryption())


def spki(key):
    return key.public_key().public_bytes(PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def refusal(load, text):
    with pytest.raises(BadKey) as caught:
        load(text)
    return caught.value.text


@pytest.mark.parametrize(("key", "curve"), CURVES)
@pytest.mark.parametrize(
    "clothe",
    [
        pem,
        sec1,
        lambda key: PARAMETERS_OF_K1 + sec1(key),
        lambda key: sec1(key).replace(b"\n", b"\r\n"),
        lambda key: b"a comment\n\n  " + sec1(key).replace(b"\n", b"\n  ") + b"trailing\n",
        lambda key: sec1(key).rstrip(b"\n"),
    ],
    ids=["pkcs8", "sec1", "parameters", "crlf", "indented", "no line end"],
)
def test_a_private_key_in_every_clothing(key, curve, clothe):
    loaded = ecdsa.load_private(clothe(key))
    assert (loaded.format, loaded.curve) == ("v1", curve)
    assert loaded.public_pem == spki(key)
    key.public_key().verify(loaded.sign(b"text"), b"text", ec.ECDSA(hashes.SHA256()))
    assert loaded.verify(b"text", loaded.sign(b"text"))
    assert not loaded.verify(b"other", loaded.sign(b"text"))


@pytest.mark.parametrize(("key", "curve"), CURVES)
@pytest.mark.parametrize("clothe", [spki, pem, sec1])
def test_a_public_key_from_either_half(key, curve, clothe):
    loaded = ecdsa.load_public(clothe(key))
    der = key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    assert loaded.fingerprint == hashlib.sha256(der).hexdigest()[:16]
    assert (loaded.format, loaded.curve, loaded.public_pem) == ("v1", curve, spki(key))
    assert type(loaded) is ecdsa.EcdsaVerifier


def test_v1_signatures_repeat():
    key = ecdsa.load_private(pem(P256_KEY))
    assert key.sign(b"text") == ecdsa.load_private(sec1(P256_KEY)).sign(b"text")


OTHERS = {
    "RSA": rsa.generate_private_key(65537, 2048),
    "Ed25519": ed25519.Ed25519PrivateKey.generate(),
    "secp384r1": ec.generate_private_key(ec.SECP384R1()),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_other_keys_are_named_and_refused(kind):
    assert kind in refusal(ecdsa.load_private, pem(OTHERS[kind]))
    assert kind in refusal(ecdsa.load_public, pem(OTHERS[kind]))
    assert kind in refusal(ecdsa.load_public, spki(OTHERS[kind]))


def test_an_old_rsa_pem_is_refused():
    assert "RSA" in refusal(ecdsa.load_private, sec1(OTHERS["RSA"]))


@pytest.mark.parametrize(
    ("text", "phrase"),
    [
        (b"", "no PEM block"),
        (SECRET.encode(), "no PEM block"),
        (b"\xff\xfe\x00", "no PEM block"),
        (pem(P256_KEY)[:100], "cut off"),
        (sec1(P256_KEY).replace(b"END EC", b"END XX"), "cut off"),
        (PARAMETERS_OF_K1, "curve parameters and no key"),
        (pem(P256_KEY) + pem(K1_KEY), "2 keys"),
        (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "CERTIFICATE"),
        (b"x" * 20000, "more than 16384 bytes"),
    ],
    # Named: the keys are new in every process, and test workers compare the names.
    ids=["empty", "secret", "junk", "half", "end", "parameters", "two", "certificate", "huge"],
)
@pytest.mark.parametrize("load", [ecdsa.load_private, ecdsa.load_public])
def test_what_is_no_key_is_reported(load, text, phrase):
    assert phrase in refusal(load, text)


def test_a_public_key_cannot_sign():
    assert "public key" in refusal(ecdsa.load_private, spki(P256_KEY))


def test_encrypted_keys_are_refused():
    for form in (PRIVATE.PKCS8, PRIVATE.TraditionalOpenSSL):
        locked = P256_KEY.private_bytes(PEM, form, serialization.BestAvailableEncryption(b"pw"))
        assert "encrypted" in refusal(ecdsa.load_private, locked)
        assert "encrypted" in refusal(ecdsa.load_public, locked)


@pytest.mark.parametrize("load", [ecdsa.load_private, ecdsa.load_public])
@given(data=st.data())
def test_damaged_keys_never_crash(load, data):
    raw = bytearray(data.draw(st.sampled_from([pem(P256_KEY), sec1(K1_KEY), spki(P256_KEY)])))
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    try:
        load(bytes(raw))
    except BadKey as error:
        assert error.text
        assert b"MIG" not in error.text.encode()


def test_a_doubled_begin_line_is_refused():
    doubled = b"-----BEGIN PUBLIC KEY-----\n" + spki(P256_KEY)
    assert "damaged" in refusal(ecdsa.load_public, doubled)


def test_a_sec1_key_as_openssl_writes_it():
    """The command puts a parameters block in front."""
    key = ec.generate_private_key(ec.SECP256K1())
    traditional = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )
    named = b"-----BEGIN EC PARAMETERS-----\nBgUrgQQACg==\n-----END EC PARAMETERS-----\n"
    assert ecdsa.load_private(named + traditional).curve == "secp256k1"


@given(st.text("0123456789abcdefxyz", min_size=1, max_size=200))
def test_the_mac_is_the_standard_one(text):
    wanted = hmac.digest(text.encode(), b"text", "sha256")
    assert secret.load_secret(text).sign(b"text") == wanted


def test_a_secret():
    key = secret.load_secret(f" \t{SECRET}\r\n")
    assert (key.format, key.curve, key.public_pem) == ("v2", "", b"")
    assert key.fingerprint == hashlib.sha256(SECRET.encode()).hexdigest()[:16]
    assert key.verify(b"text", hmac.digest(SECRET.encode(), b"text", "sha256"))
    assert not key.verify(b"text", b"")
    assert not key.verify(b"text", bytes(32))


@pytest.mark.parametrize("odd", ["x", SECRET[:-1], SECRET + "0", SECRET.upper(), "g" * 64])
def test_an_odd_secret_works_but_can_be_reported(odd):
    assert secret.load_secret(odd).sign(b"text")
    assert secret.read(odd.encode()).odd
    assert not secret.read(SECRET.encode()).odd


@pytest.mark.parametrize(
    ("text", "phrase"),
    [
        ("", "empty"),
        (" \n", "empty"),
        ("é" * 64, "ASCII"),
        ("a\nb", "ASCII"),
        ("a\0b", "ASCII"),
        (pem(P256_KEY).decode(), "PEM"),
        ("x" * 20000, "more than"),
    ],
)
def test_what_is_no_secret_is_reported(text, phrase):
    assert phrase in refusal(secret.load_secret, text)


def longest(text):
    """The number in "has more than 9 bytes"."""
    return int(re.search("more than ([0-9]+)", text)[1])


def test_a_secret_may_be_as_long_as_its_refusal_says():
    most = int(
        re.search("more than ([0-9]+) characters", refusal(secret.load_secret, "x" * 20000))[1]
    )
    assert secret.load_secret("x" * most).sign(b"text")
    assert "more than" in refusal(secret.load_secret, "x" * (most + 1))


def test_a_pem_may_be_as_long_as_its_refusal_says():
    key = pem(P256_KEY)
    most = longest(refusal(ecdsa.load_private, b" " * 20000))
    assert ecdsa.load_private(key.ljust(most)).fingerprint == ecdsa.load_private(key).fingerprint
    assert "more than" in refusal(ecdsa.load_private, key.ljust(most + 1))


def test_a_pem_on_one_line_is_written_as_openssl_writes_it():
    for key in (pem(P256_KEY), spki(P256_KEY)):
        _, written = key_block(key.replace(b"\n", b""))
        assert written == key


@pytest.mark.parametrize(
    ("curve", "kind"), [("P-256", P256_KEY.curve), ("secp256k1", K1_KEY.curve)]
)
def test_the_first_and_the_last_number_of_a_curve_can_be_drawn(curve, kind):
    for drawn, scalar in ((0, 1), (kind.group_order - 2, kind.group_order - 1)):
        made = ecdsa.generate(drawn.to_bytes, curve)
        key = serialization.load_pem_private_key(made, None)
        assert key.private_numbers().private_value == scalar
    assert ecdsa.load_private(ecdsa.generate(bytes, None)).curve == "P-256"
    assert "'P-1' is no curve" in refusal(partial(ecdsa.generate, bytes), "P-1")


def test_a_generated_secret_has_the_form_of_the_consoles():
    made = secret.generate(secrets.token_bytes, None)
    assert secret.recognises(made)
    assert not secret.read(made).odd


def test_a_stored_key_that_is_published_is_doubted_and_still_signs(monkeypatch):
    assert ecdsa.doubt(pem(P256_KEY)) is None
    fingerprint = ecdsa.load_private(pem(P256_KEY)).fingerprint
    monkeypatch.setitem(ecdsa._PUBLISHED, fingerprint, "a key of a test")
    doubt = ecdsa.doubt(pem(P256_KEY))
    assert doubt is not None
    assert "anybody can sign" in doubt.text
    assert not doubt.certain
    assert "anybody can sign" in ecdsa.read(pem(P256_KEY)).odd
    assert "anybody can sign" in ecdsa.read_verifier(spki(P256_KEY))[1]


READERS = [ecdsa.read, ecdsa.read_verifier, secret.read, secret.read_verifier]


@pytest.mark.parametrize("read", READERS, ids=range(4))
def test_another_thing_is_named_whatever_it_is_given_for(read):
    assert "this is a JSON web key" in refusal(read, b'{"kty": "EC", "crv": "P-256"}')


def test_a_text_in_another_encoding_is_no_binary_data():
    assert likeness(b"caf\xe9\tau lait") is None
    assert likeness(b"caf\xe9\x08au lait").name == "binary data"


def test_the_registry_opens_what_was_sealed():
    def opened(name):
        return FORMATS.named(name).keys.signer

    assert opened("v1")(pem(P256_KEY)).fingerprint
    assert opened("v2")(SECRET.encode() + b"\n").fingerprint
    assert "public" in refusal(opened("v1"), spki(P256_KEY))
    assert "ASCII" in refusal(opened("v2"), b"\xff" * 64)
    assert "'v3' is no format; there are v1 and v2" in refusal(opened, "v3")


def test_nothing_shows_key_material():
    for key in (ecdsa.load_private(pem(P256_KEY)), ecdsa.load_public(pem(K1_KEY))):
        assert repr(key) == f"<{type(key).__name__} {key.curve} {key.fingerprint}>"
    assert SECRET not in repr(secret.load_secret(SECRET))


def oddness(content):
    return FORMATS.of_key(content).keys.read_verifier(content)[1]


def test_published_keys_are_known():
    for vector in VECTORS:
        if vector["name"].startswith("published"):
            assert "anybody" in oddness(vector["public_key_pem"].encode())
    published = next(v["secret_key"] for v in VECTORS if v["format"] == "v2")
    assert "anybody" in oddness(published.encode())
    demo = "5bd2850f" + "0" * 50 + "b93b5e"
    assert "README" in oddness(demo.encode())


def test_other_keys_are_not_warned_of():
    for text in (SECRET, "5bd2850fb93b5e", "5bd2850f" + "0" * 56, "0" * 58 + "b93b5e"):
        assert "anybody" not in oddness(text.encode())
    assert oddness(pem(P256_KEY)) == ""


def test_a_dsa_key_is_refused():
    key = dsa.generate_private_key(1024)
    assert refusal(ecdsa.load_private, pem(key))
