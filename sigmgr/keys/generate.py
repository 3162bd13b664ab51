"""New signing keys, from the system's random source.

The material is what gets sealed: PKCS#8 PEM for v1, the secret string itself for v2. A v2
key is used as the text that the console shows, 64 hex digits, never as the bytes they
stand for; so a v2 key made here is of use only where both sides accept it (a private
cloud, a test), while the cloud's own v2 keys come from its console.
"""

from __future__ import annotations

import secrets

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from sigmgr.model import errors
from sigmgr.model.shown import shown
from sigmgr.model.sig import Format

DEFAULT_CURVE = "P-256"
CURVES: dict[str, type[ec.EllipticCurve]] = {"P-256": ec.SECP256R1, "secp256k1": ec.SECP256K1}


def generate(format: Format | str, curve: str = DEFAULT_CURVE) -> bytes:  # noqa: A002
    """Material of a new key. ``curve`` is for v1 only. Raises :class:`errors.BadKey`."""
    if format == Format.V2:
        return secrets.token_hex(32).encode("ascii")
    if format != Format.V1:
        raise errors.BadKey(f"{shown(str(format))} is no format; there are v1 and v2")
    if curve not in CURVES:
        raise errors.BadKey(f"{shown(curve)} is no curve for v1; there are {' and '.join(CURVES)}")
    private = ec.generate_private_key(CURVES[curve]())
    return private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def public_pem(material: bytes) -> bytes:
    """The public half of v1 material as PEM: what the console wants."""
    try:
        public = load_pem_private_key(material, password=None).public_key()
    except (ValueError, TypeError):
        raise errors.BadKey("the key is no private key in PEM") from None
    return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
