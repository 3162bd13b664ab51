"""Keys of both formats, parsed once and kept loaded.

What this module does: PEM or secret text in, an object out that signs or verifies bytes.
Parsing a PEM costs as much as a signature, so callers keep these objects.
What it does not do: find the key in what was pasted (``pem``, ``pasted``), make keys (that
needs chance), store or seal them, know apps or states.

Rules:
1. v1 is ECDSA with SHA-256 on P-256 or secp256k1; signatures are DER and deterministic
   (RFC 6979), so the same facts give the same sig in every process.
2. v2 is HMAC-SHA256 with the *text* of the console's secret: its 64 characters, not the 32
   bytes that they spell (format notes, section 2).
3. What cannot be used is refused with :class:`errors.BadKey` and a sentence that says what
   it is. Neither errors nor ``repr`` show key material.
4. A fingerprint is the first 16 hex digits of a SHA-256: over the SubjectPublicKeyInfo DER
   for v1, over the secret for v2.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from typing import Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hmac import HMAC
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from sigmgr.model.errors import BadKey
from sigmgr.model.pem import MAX_KEY_BYTES, WANTED, key_block
from sigmgr.model.shown import shown
from sigmgr.model.sig import Format

_CURVES = {"secp256r1": "P-256", "secp256k1": "secp256k1"}
_CONSOLE_KEY = re.compile(r"[0-9a-f]{64}\Z")
_ECDSA_SIGN = ec.ECDSA(hashes.SHA256(), deterministic_signing=True)
_ECDSA_VERIFY = ec.ECDSA(hashes.SHA256())

#: Key pairs and secrets that anybody can read in public sources (format notes, section 7.1).
_PUBLISHED = {
    "0332fe7b3a2ca229": "the demo key pair in the READMEs of the official v1 libraries",
    "0dfcc184dce282c9": "the test key pair of the official Go library",
    "038aadeaad9f3951": "a test key pair of the official C++ library",
    "675738502fa82cec": "a test key pair of the official C++, Node and PHP libraries",
    "6557030e9c6a2d93": "a test key pair of the official C++ library",
    "b6df748c75ce7ab2": "a test key pair of the official Node and PHP libraries",
    "69e8d3c538c4f5de": "a test key pair of the official Go library",
    "8e7511e2421b8ff4": "the secret of published test vectors",
}
#: The demo secret of every official v2 README; only its ends and its length are on record.
_DEMO_SECRET_ENDS = ("5bd2850f", "b93b5e")
_DEMO_SECRET_NAME = "the demo secret in the READMEs of the official v2 libraries"  # noqa: S105


class EcdsaVerifier:
    """The public half of a v1 key."""

    __slots__ = ("_key", "curve", "fingerprint", "public_pem")

    format: Final = Format.V1

    def __init__(self, key: ec.EllipticCurvePublicKey) -> None:
        self._key = key
        self.curve = _curve_name(key.curve)
        spki = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        self.fingerprint = _fingerprint(spki)
        self.public_pem = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    def verify(self, text: bytes, signature: bytes) -> bool:
        """Whether this key made that DER signature over the text."""
        try:
            self._key.verify(signature, text, _ECDSA_VERIFY)
        except InvalidSignature:
            return False
        return True

    def __repr__(self) -> str:
        return f"<EcdsaVerifier {self.curve} {self.fingerprint}>"


class EcdsaSigner:
    """A v1 key pair."""

    __slots__ = ("_key", "curve", "fingerprint", "public_pem", "verifier")

    format: Final = Format.V1

    def __init__(self, key: ec.EllipticCurvePrivateKey) -> None:
        self._key = key
        self.verifier = EcdsaVerifier(key.public_key())
        self.curve = self.verifier.curve
        self.fingerprint = self.verifier.fingerprint
        self.public_pem = self.verifier.public_pem

    def sign(self, text: bytes) -> bytes:
        """The DER signature; the same for the same text."""
        return self._key.sign(text, _ECDSA_SIGN)

    def verify(self, text: bytes, signature: bytes) -> bool:
        return self.verifier.verify(text, signature)

    def pkcs8(self) -> bytes:
        """The private key itself, as PEM: for sealing, and for nothing else."""
        return self._key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    def __repr__(self) -> str:
        return f"<EcdsaSigner {self.curve} {self.fingerprint}>"


class HmacKey:
    """A v2 secret, which signs and verifies. ``curve`` is empty; there is no public half.

    ``looks_like_console_key`` is False for a secret that works but is not 64 lower-case
    hex digits, as the console shows them: most likely something was pasted wrong.
    """

    __slots__ = ("_keyed", "fingerprint", "is_demo_secret", "looks_like_console_key")

    format: Final = Format.V2
    curve: Final = ""

    def __init__(self, secret: str) -> None:
        raw = secret.encode("ascii")
        self._keyed = HMAC(raw, hashes.SHA256())
        self.fingerprint = _fingerprint(raw)
        self.looks_like_console_key = _CONSOLE_KEY.match(secret) is not None
        head, tail = _DEMO_SECRET_ENDS
        self.is_demo_secret = (
            self.looks_like_console_key and secret.startswith(head) and secret.endswith(tail)
        )

    def sign(self, text: bytes) -> bytes:
        """The 32 bytes of the MAC."""
        # Copying the keyed state costs half of what the standard library's copy costs.
        mac = self._keyed.copy()
        mac.update(text)
        return mac.finalize()

    def verify(self, text: bytes, signature: bytes) -> bool:
        """Whether this key made that MAC over the text; takes the same time either way."""
        return hmac.compare_digest(self.sign(text), signature)

    def __repr__(self) -> str:
        return f"<HmacKey {self.fingerprint}>"


SigningKey = EcdsaSigner | HmacKey
VerifyingKey = EcdsaSigner | EcdsaVerifier | HmacKey


def load_private(pem: bytes) -> EcdsaSigner:
    """A v1 key pair from SEC1 or PKCS#8 PEM. Raises :class:`BadKey`."""
    label, block = key_block(pem)
    if label.endswith("PUBLIC KEY"):
        raise BadKey("the PEM holds a public key; signing needs the private key")
    try:
        key = load_pem_private_key(block, password=None)
    except UnsupportedAlgorithm:
        raise BadKey(f"the PEM holds a key of an unsupported kind or curve; {WANTED}") from None
    except (TypeError, ValueError):
        raise BadKey("the private key in the PEM is damaged or cut off") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise BadKey(f"the PEM holds {_kind_of(key)}; {WANTED}")
    return EcdsaSigner(key)


def load_public(pem: bytes) -> EcdsaVerifier:
    """A v1 public key from SPKI PEM, or the public half of a private one. Raises BadKey."""
    label, block = key_block(pem)
    if label.endswith("PRIVATE KEY"):
        return load_private(pem).verifier
    try:
        key = load_pem_public_key(block)
    except UnsupportedAlgorithm:
        raise BadKey(f"the PEM holds a key of an unsupported kind or curve; {WANTED}") from None
    except (TypeError, ValueError):
        raise BadKey("the public key in the PEM is damaged or cut off") from None
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise BadKey(f"the PEM holds {_kind_of(key)}; {WANTED}")
    return EcdsaVerifier(key)


def load_secret(text: str) -> HmacKey:
    """A v2 key from the secret as the console shows it. Raises :class:`BadKey`."""
    secret = text.strip()
    if not secret:
        raise BadKey("the secret is empty")
    if len(secret) > MAX_KEY_BYTES:
        raise BadKey(f"the secret has more than {MAX_KEY_BYTES} characters")
    if "-----BEGIN" in secret:
        raise BadKey("the text is a PEM, which belongs to format v1; v2 takes a secret string")
    if not (secret.isascii() and secret.isprintable()):
        raise BadKey("the secret has characters other than printable ASCII")
    return HmacKey(secret)


def from_material(key_format: str, material: bytes) -> SigningKey:
    """A signing key from what the key store unsealed: a PEM or a secret. Raises BadKey."""
    return load_private(material) if _is_v1(key_format) else load_secret(_as_text(material))


def verifier_from_material(key_format: str, material: bytes) -> VerifyingKey:
    """As :func:`from_material`, where a public PEM is enough."""
    return load_public(material) if _is_v1(key_format) else load_secret(_as_text(material))


def demo_key_warning(key: VerifyingKey) -> str | None:
    """A sentence where the key is one that anybody can read on the internet, else None."""
    if isinstance(key, HmacKey) and key.is_demo_secret:
        name: str | None = _DEMO_SECRET_NAME
    else:
        name = _PUBLISHED.get(key.fingerprint)
    if name is None:
        return None
    return f"this key is {name}: anybody can sign with it, so it protects nobody"


def _kind_of(key: object) -> str:
    name = type(key).__name__.removesuffix("PrivateKey").removesuffix("PublicKey")
    return f"a key of kind {name}"


def _curve_name(curve: ec.EllipticCurve) -> str:
    name = _CURVES.get(curve.name)
    if name is None:
        raise BadKey(f"the key is on the curve {curve.name}; {WANTED}")
    return name


def _is_v1(key_format: str) -> bool:
    if key_format not in (Format.V1, Format.V2):
        raise BadKey(f"{shown(key_format)} is no format; there are v1 and v2")
    return key_format == Format.V1


def _as_text(material: bytes) -> str:
    try:
        return material.decode("ascii")
    except UnicodeDecodeError:
        raise BadKey("the secret has characters other than printable ASCII") from None


def _fingerprint(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]
