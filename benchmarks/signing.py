"""Making a sig, against the cryptography and compression that no sig can do without.

Measured: ``usersig.sign``, from facts to string, checks of every fact included. Bare: sign,
deflate and base64 over bytes that lie ready, by the standard library's (v1: cryptography's)
shortest calls. Both count CPU time of one thread, so that a busy machine changes nothing. That
both do the same work is checked: both strings unpack to the same document, and for v1 the
signatures are equal. sigmgr compresses with zlib-ng at its quickest level, so the row of v2 says
how much longer that makes a sig.
"""

from __future__ import annotations

import base64
import hmac
import time
import zlib
from collections.abc import Callable, Sequence

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from benchmarks.rows import Options, Row, alternate
from sigmgr.model import usersig
from sigmgr.model.holder import Holder
from sigmgr.model.sig import SigFacts
from sigmgr.model.usersig import SigningKey, ecdsa
from sigmgr.model.usersig.container import unpack
from sigmgr.model.usersig.secret import load_secret

COUNT = 2000
ROUNDS = 15
LEVEL = 6
SECRET = "0123456789abcdef" * 4
_TO_WIRE = bytes.maketrans(b"+/=", b"*-_")


def sign_v2(_: Options) -> Row:
    """v2: HMAC-SHA256, zlib, base64."""
    key, secret = load_secret(SECRET), SECRET.encode()

    def bare(text: bytes, document: bytes) -> str:
        hmac.digest(secret, text, "sha256")
        packed = base64.b64encode(zlib.compress(document, LEVEL))
        return packed.translate(_TO_WIRE).decode("ascii")

    facts, documents = _facts("v2", key)
    pairs = [
        (usersig.sign(one, key), bare(*b)) for one, b in zip(facts[:200], documents, strict=False)
    ]
    assert all(unpack(ours) == unpack(theirs) for ours, theirs in pairs)
    longer = sum(len(ours) for ours, _ in pairs) / sum(len(theirs) for _, theirs in pairs)
    found = alternate(ROUNDS, _signing(facts, key), _all(documents, bare))
    return Row(
        "sign-v2",
        1 / found.ratio,
        f"{_rate(found.ours)} sigs/s, bare {_rate(found.bare)}; {longer - 1:.0%} longer",
    )


def sign_v1(_: Options) -> Row:
    """v1: deterministic ECDSA on P-256 with SHA-256, zlib, base64."""
    private = ec.generate_private_key(ec.SECP256R1())
    key = ecdsa.load_private(
        private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    algorithm = ec.ECDSA(hashes.SHA256(), deterministic_signing=True)

    def bare(text: bytes, document: bytes) -> str:
        private.sign(text, algorithm)
        packed = base64.b64encode(zlib.compress(document, LEVEL))
        return packed.translate(_TO_WIRE).decode("ascii")

    facts, documents = _facts("v1", key)
    for one, (text, _document) in zip(facts[:50], documents, strict=False):
        decoded = usersig.decode(usersig.sign(one, key))
        assert decoded.signature == private.sign(text, algorithm)
    found = alternate(ROUNDS, _signing(facts[:500], key), _all(documents[:500], bare))
    return Row(
        "sign-v1",
        1 / found.ratio,
        f"{_rate(found.ours)} sigs/s, bare {_rate(found.bare)}; P-256",
    )


def _facts(format_: str, key: SigningKey) -> tuple[list[SigFacts], list[tuple[bytes, bytes]]]:
    """Facts, and of each the signed text and the document that its sig packs."""
    facts = [
        SigFacts(Holder(1400000001, f"user{i:07}"), format_, 1, 1_900_000_000 + i, 7_776_000)
        for i in range(COUNT)
    ]
    sigs = [usersig.sign(one, key) for one in facts]
    return facts, [(usersig.decode(sig).signed_text, unpack(sig)) for sig in sigs]


def _signing(facts: Sequence[SigFacts], key: SigningKey) -> Callable[[], float]:
    def run() -> float:
        sign = usersig.sign
        started = time.thread_time()
        for one in facts:
            sign(one, key)
        return (time.thread_time() - started) / len(facts)

    return run


def _all(
    documents: Sequence[tuple[bytes, bytes]], bare: Callable[[bytes, bytes], object]
) -> Callable[[], float]:
    def run() -> float:
        started = time.thread_time()
        for text, document in documents:
            bare(text, document)
        return (time.thread_time() - started) / len(documents)

    return run


def _rate(seconds: float) -> str:
    return f"{1 / seconds:,.0f}"
