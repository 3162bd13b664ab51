"""New keys sign, and are what they were asked to be."""

from __future__ import annotations

import re

import pytest

from sigmgr.keys.generate import generate, public_pem
from sigmgr.model import errors, keys
from sigmgr.model.sig import Format


@pytest.mark.parametrize("curve", ["P-256", "secp256k1"])
def test_a_v1_key_is_pkcs8_on_its_curve(curve):
    material = generate(Format.V1, curve)
    assert material.startswith(b"-----BEGIN PRIVATE KEY-----\n")
    signer = keys.from_material("v1", material)
    assert signer.curve == curve
    assert keys.load_public(public_pem(material)).fingerprint == signer.fingerprint


def test_a_v2_key_is_what_the_console_would_show():
    material = generate("v2")
    assert re.fullmatch(rb"[0-9a-f]{64}", material)
    assert keys.from_material("v2", material).looks_like_console_key


@pytest.mark.parametrize("format_", list(Format))
def test_no_two_keys_are_the_same(format_):
    assert len({generate(format_) for _ in range(20)}) == 20


@pytest.mark.parametrize(("format_", "curve"), [("v3", "P-256"), ("v1", "P-384"), ("v1", "")])
def test_what_is_not_known_is_refused(format_, curve):
    with pytest.raises(errors.BadKey):
        generate(format_, curve)


@pytest.mark.parametrize("material", [b"", b"a" * 64, b"-----BEGIN PRIVATE KEY-----\n"])
def test_no_public_half_of_what_is_no_private_key(material):
    with pytest.raises(errors.BadKey):
        public_pem(material)
