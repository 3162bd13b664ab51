"""New keys sign, and are what they were asked to be."""

from __future__ import annotations

import re

import pytest

from sigmgr.keys.keychain import generate
from sigmgr.model import errors
from sigmgr.model.usersig import FORMATS, ecdsa, secret


@pytest.mark.parametrize("curve", ["P-256", "secp256k1"])
def test_a_v1_key_is_pkcs8_on_its_curve(curve):
    material = generate("v1", curve)
    assert material.startswith(b"-----BEGIN PRIVATE KEY-----\n")
    signer = FORMATS.named("v1").keys.signer(material)
    assert signer.curve == curve
    assert ecdsa.load_public(signer.public_pem).fingerprint == signer.fingerprint


def test_a_v2_key_is_what_the_console_would_show():
    material = generate("v2")
    assert re.fullmatch(rb"[0-9a-f]{64}", material)
    assert secret.read(material).odd == ""


@pytest.mark.parametrize("format_", ["v1", "v2"])
def test_no_two_keys_are_the_same(format_):
    assert len({generate(format_) for _ in range(20)}) == 20


@pytest.mark.parametrize(("format_", "curve"), [("v3", "P-256"), ("v1", "P-384"), ("v1", "")])
def test_what_is_not_known_is_refused(format_, curve):
    with pytest.raises(errors.BadKey):
        generate(format_, curve)


#: The orders of the two curves, from SEC 2.
ORDERS = {
    "P-256": 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551,
    "secp256k1": 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141,
}


@pytest.mark.parametrize("drawn", [0, -2, -1, None])
@pytest.mark.parametrize("curve", ["P-256", "secp256k1"])
def test_a_key_is_good_whatever_is_drawn(curve, drawn):
    number = 2**320 - 1 if drawn is None else drawn % ORDERS[curve]
    made = ecdsa.signer(ecdsa.generate(number.to_bytes, curve))
    assert made.verify(b"text", made.sign(b"text"))
