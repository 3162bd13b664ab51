"""What the usersig tests share: keys made here, vectors, and sigs as others lay them out.

The wrapping and the signed texts are written anew from the format notes, so that a mistake in
the package is not repeated here.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import zlib
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import strategies as st

from sigmgr.model.holder import Holder, Room
from sigmgr.model.sig import SigFacts
from sigmgr.model.ttl import MAX_TTL, MIN_TTL
from sigmgr.model.usersig import ecdsa, secret

APP = 1400000000
NOW = 1700000000
LIFE = 7776000
USERBUF = "AAAFYWxpY2VTck4AAAAnEGXKmAAAAAD/AAAAAA=="
SECRET = "0123456789abcdef" * 4

P256_KEY = ec.generate_private_key(ec.SECP256R1())
K1_KEY = ec.generate_private_key(ec.SECP256K1())


def pem(key: Any) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


P256 = ecdsa.load_private(pem(P256_KEY))
K1 = ecdsa.load_private(pem(K1_KEY))
HMAC = secret.load_secret(SECRET)
ALL_KEYS = {"P-256": P256, "secp256k1": K1, "hmac": HMAC}

ALICE = Holder(APP, "alice")
IN_ROOM = Holder(APP, "alice", "room", "id:10000")
V1 = SigFacts(ALICE, "v1", 1, NOW, LIFE)
V2 = SigFacts(ALICE, "v2", 2, NOW, LIFE)
V1_ROOM = SigFacts(IN_ROOM, "v1", 1, NOW, LIFE, 255)
V2_ROOM = SigFacts(IN_ROOM, "v2", 2, NOW, LIFE, 255)

VECTORS = json.loads((Path(__file__).parents[1] / "data" / "usersig.json").read_text())

ROOM_NAME_ALPHABET = (
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789 !#$%&()+-:;<=.>?@[]^_{}|~,"
)
userids = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1, max_size=32)
sdkappids = st.integers(1, 2**32 - 1)
rooms = st.one_of(
    st.integers(1, 4294967294).map(lambda number: Room(id=number)),
    st.text(ROOM_NAME_ALPHABET, min_size=1, max_size=64).map(lambda text: Room(name=text)),
)
times = st.tuples(st.integers(1, 2**31), st.integers(MIN_TTL, MAX_TTL))


@st.composite
def facts(draw: st.DrawFn, fmt: str) -> SigFacts:
    """Any facts that sigmgr may sign."""
    room = draw(st.one_of(st.none(), rooms))
    kind = draw(st.sampled_from(["user", "admin"])) if room is None else "room"
    holder = Holder(draw(sdkappids), draw(userids), kind, room.scope if room else "")
    issued_at, ttl = draw(times)
    privileges = draw(st.integers(1, 255)) if room else 0
    return SigFacts(holder, fmt, 1, issued_at, ttl, privileges)


def wrap(document: bytes, level: int = 6) -> str:
    return wrap_stream(zlib.compress(document, level))


def wrap_stream(stream: bytes) -> str:
    text = base64.b64encode(stream).decode()
    return text.replace("+", "*").replace("/", "-").replace("=", "_")


def unwrap(sig: str) -> bytes:
    text = sig.replace("*", "+").replace("-", "/").replace("_", "=")
    return zlib.decompress(base64.b64decode(text))


def lines(*pairs: tuple[str, object]) -> bytes:
    return "".join(f"TLS.{name}:{value}\n" for name, value in pairs).encode()


def v1_members(key: ec.EllipticCurvePrivateKey = P256_KEY, **changes: Any) -> dict[str, Any]:
    """The members of a v1 sig, signed. A change to None leaves that member out."""
    values: dict[str, Any] = {
        "appid_at_3rd": "0",
        "account_type": "0",
        "identifier": "alice",
        "sdk_appid": str(APP),
        "time": str(NOW),
        "expire_after": str(LIFE),
        "userbuf": None,
    }
    values |= changes
    present = {name: value for name, value in values.items() if value is not None}
    signature = key.sign(lines(*present.items()), ec.ECDSA(hashes.SHA256()))
    members = {f"TLS.{name}": value for name, value in present.items()}
    return members | {"TLS.sig": base64.b64encode(signature).decode()}


def v2_members(secret: str = SECRET, **changes: Any) -> dict[str, Any]:
    """The members of a v2 sig, signed. A change to None leaves that member out."""
    values: dict[str, Any] = {
        "identifier": "alice",
        "sdkappid": APP,
        "time": NOW,
        "expire": LIFE,
        "userbuf": None,
    }
    values |= changes
    present = {name: value for name, value in values.items() if value is not None}
    mac = hmac.digest(secret.encode(), lines(*present.items()), hashlib.sha256)
    members = {f"TLS.{name}": value for name, value in present.items()}
    return {"TLS.ver": "2.0"} | members | {"TLS.sig": base64.b64encode(mac).decode()}


def dump(members: dict[str, Any], level: int = 6, **style: Any) -> str:
    return wrap(json.dumps(members, **style).encode(), level)


def reorder(members: dict[str, Any], order: str) -> dict[str, Any]:
    """The members named in ``order`` (as far as present), without any others."""
    names = [f"TLS.{name}" for name in order.split()]
    assert set(members) <= set(names)
    return {name: members[name] for name in names if name in members}
