"""The keys of v1: a :class:`KeyKind`. PEM in, an object out that signs or verifies bytes.

Parsing a PEM costs as much as a signature, so callers keep these objects.

Rules:
1. v1 is ECDSA with SHA-256 on P-256 or secp256k1; signatures are DER and deterministic (RFC 6979),
   so the same facts give the same sig in every process.
2. An unusable key is refused with :class:`BadKey` and a sentence that names what it is. Neither
   errors nor ``repr`` show key material.
3. A fingerprint is over the SubjectPublicKeyInfo DER.
4. What is sealed is PKCS#8 PEM, whatever form the key was pasted in.

What this module does not do: find the key in a pasted text (``pem``), store or seal it, know apps
or states.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from sigmgr.model.errors import BadKey
from sigmgr.model.shown import shown
from sigmgr.model.usersig import v1
from sigmgr.model.usersig.formats import Doubt, Draw, Pasted, fingerprint
from sigmgr.model.usersig.likeness import published, refuse_likeness
from sigmgr.model.usersig.pem import WANTED, key_block

_CURVES: Final = {"P-256": ec.SECP256R1(), "secp256k1": ec.SECP256K1()}
_NAMES: Final = {kind.name: name for name, kind in _CURVES.items()}
#: Microseconds to make and check a sig.
_COSTS: Final = {"P-256": 160, "secp256k1": 820}
_ECDSA_SIGN = ec.ECDSA(hashes.SHA256(), deterministic_signing=True)
_ECDSA_VERIFY = ec.ECDSA(hashes.SHA256())
#: 64 bits more than an order has, so that the remainder is even (FIPS 186-5, A.2.1).
_DRAWN_BYTES: Final = 40

#: Key pairs that anybody can read in public sources (format notes, section 7.1).
_PUBLISHED = {
    "0332fe7b3a2ca229": "the demo key pair in the READMEs of the official v1 libraries",
    "0dfcc184dce282c9": "the test key pair of the official Go library",
    "038aadeaad9f3951": "a test key pair of the official C++ library",
    "675738502fa82cec": "a test key pair of the official C++, Node and PHP libraries",
    "6557030e9c6a2d93": "a test key pair of the official C++ library",
    "b6df748c75ce7ab2": "a test key pair of the official Node and PHP libraries",
    "69e8d3c538c4f5de": "a test key pair of the official Go library",
}


class EcdsaVerifier:
    __slots__ = ("_key", "curve", "fingerprint", "public_pem")

    format = v1.NAME

    def __init__(self, key: ec.EllipticCurvePublicKey) -> None:
        self._key = key
        self.curve = _curve_name(key.curve)
        spki = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        self.fingerprint = fingerprint(spki)
        self.public_pem = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    def verify(self, text: bytes, signature: bytes) -> bool:
        try:
            self._key.verify(signature, text, _ECDSA_VERIFY)
        except InvalidSignature:
            return False
        return True

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.curve} {self.fingerprint}>"


class EcdsaSigner(EcdsaVerifier):
    __slots__ = ("_private", "cost")

    def __init__(self, key: ec.EllipticCurvePrivateKey) -> None:
        super().__init__(key.public_key())
        self._private = key
        self.cost = _COSTS[self.curve]

    def sign(self, text: bytes) -> bytes:
        """The DER signature; the same for the same text."""
        return self._private.sign(text, _ECDSA_SIGN)

    def pkcs8(self) -> bytes:
        """The private key as PEM, to be sealed and nothing else."""
        return self._private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def load_private(pem: bytes) -> EcdsaSigner:
    """A v1 key pair from SEC1 or PKCS#8 PEM. Raises :class:`BadKey`."""
    label, block = key_block(pem)
    if label.endswith("PUBLIC KEY"):
        raise BadKey("the PEM holds a public key; signing needs the private key")
    key = _loaded(partial(load_pem_private_key, password=None), block, "private")
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise BadKey(f"the PEM holds {_kind_of(key)}; {WANTED}")
    return EcdsaSigner(key)


def load_public(pem: bytes) -> EcdsaVerifier:
    """A v1 public key from SPKI PEM, or the public half of a private one. Raises BadKey."""
    label, block = key_block(pem)
    if label.endswith("PRIVATE KEY"):
        block = load_private(pem).public_pem
    key = _loaded(load_pem_public_key, block, "public")
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise BadKey(f"the PEM holds {_kind_of(key)}; {WANTED}")
    return EcdsaVerifier(key)


def _loaded(load: Callable[[bytes], Any], block: bytes, half: str) -> Any:
    try:
        return load(block)
    except UnsupportedAlgorithm:
        raise BadKey(f"the PEM holds a key of an unsupported kind or curve; {WANTED}") from None
    except (TypeError, ValueError):
        raise BadKey(f"the {half} key in the PEM is damaged or cut off") from None


def recognises(content: bytes) -> bool:
    """Whether it is a PEM of any kind; ``read`` reports what is wrong with it."""
    return b"-----BEGIN" in content


def read(content: bytes) -> Pasted:
    """A private key from a PEM, normalised. Raises BadKey."""
    refuse_likeness(content)
    key = load_private(content)
    return Pasted(v1.NAME, key.pkcs8(), key, _oddness(key))


def read_verifier(content: bytes) -> tuple[EcdsaVerifier, str]:
    """A key from a PEM, public or private. Raises BadKey."""
    refuse_likeness(content)
    key = load_public(content)
    return key, _oddness(key)


def signer(material: bytes) -> EcdsaSigner:
    return load_private(material)


def doubt(material: bytes) -> Doubt | None:
    odd = _oddness(load_private(material))
    return Doubt(odd, certain=False) if odd else None


def generate(draw: Draw, curve: str | None) -> bytes:
    kind = _CURVES.get("P-256" if curve is None else curve)
    if kind is None:
        known = " and ".join(_CURVES)
        raise BadKey(f"{shown(curve or '')} is no curve for v1; there are {known}")
    scalar = 1 + int.from_bytes(draw(_DRAWN_BYTES)) % (kind.group_order - 1)
    return EcdsaSigner(ec.derive_private_key(scalar, kind)).pkcs8()


def is_signature(signature: bytes) -> bool:
    """Whether it is the DER of two numbers."""
    try:
        decode_dss_signature(signature)
    except ValueError:
        return False
    return True


def _oddness(key: EcdsaVerifier) -> str:
    name = _PUBLISHED.get(key.fingerprint)
    return published(name) if name else ""


def _kind_of(key: object) -> str:
    name = type(key).__name__.removesuffix("PrivateKey").removesuffix("PublicKey")
    return f"a key of kind {name}"


def _curve_name(curve: ec.EllipticCurve) -> str:
    name = _NAMES.get(curve.name)
    if name is None:
        raise BadKey(f"the key is on the curve {curve.name}; {WANTED}")
    return name
