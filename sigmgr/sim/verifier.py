"""An independent verifier of v1 and v2 sigs and privateMapKeys.

So that no error of the signer stays hidden, it is written from the format notes, has its own
alphabet, decompression, signed text and userbuf layout, and shares no code with ``sigmgr.model``.
It answers with the codes of Tencent's cloud.

Rules:
1. Reading is tolerant: any member order, any whitespace, any zlib level, a missing
   ``TLS.appid_at_3rd``, a missing ``TLS.version``, line breaks inside ``TLS.sig``.
2. Order of the checks, as in the reference verifiers. v1: signature, user, app, expiry. v2: user,
   app, expiry, MAC.
3. Expired means time + expire < now: a sig is valid through the second of its expiry. A time in the
   future is accepted.
4. A plain check takes no sig with a userbuf, and the other way round.
5. Any one of an app's keys of the sig's format is enough.

What this module does not do: sign, know revocations (the cloud does), read a clock.
"""

from __future__ import annotations

import base64
import hmac
import json
import struct
import zlib
from collections.abc import Iterable, Mapping, Sequence
from enum import IntEnum
from typing import Any, NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_public_key

_MAX_TEXT = 64 * 1024
_OUTER_TO_STANDARD = str.maketrans({"*": "+", "-": "/", "_": "="})
_OUTER_CHARS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789*-_")
_V1_CURVES = (ec.SECP256R1, ec.SECP256K1)


class Code(IntEnum):
    """Answers of the account service."""

    EXPIRED = 70001
    EMPTY = 70002
    CHECK_FAILED = 70003
    WRONG_KEY = 70009
    WRONG_USER = 70013
    WRONG_APP = 70014
    NO_KEY = 70016
    NO_APP = 70020
    INVALIDATED = 70052


class Rejected(Exception):
    """A sig is refused; ``code`` is the cloud's, the text contains no part of the sig."""

    def __init__(self, code: Code, text: str) -> None:
        self.code = code
        self.text = text
        super().__init__(f"{int(code)}: {text}")


class Opened(NamedTuple):
    """The fields of a sig, unverified. ``signed`` is the text under its signature."""

    format: str
    userid: str
    sdkappid: int
    issued_at: int
    ttl: int
    userbuf: bytes | None
    signed: bytes
    proof: bytes

    @property
    def expires_at(self) -> int:
        return self.issued_at + self.ttl


class Grant(NamedTuple):
    """The userbuf of a privateMapKey. A named room has ``room_id`` 0."""

    userid: str
    sdkappid: int
    room_id: int
    room_name: str
    expires_at: int
    privileges: int
    account_type: int


class AppKeys(NamedTuple):
    """The cloud's keys of an app: public keys for v1, secrets for v2."""

    public: tuple[ec.EllipticCurvePublicKey, ...] = ()
    secrets: tuple[bytes, ...] = ()

    @classmethod
    def load(cls, public_pems: Sequence[str] = (), secrets: Sequence[str] = ()) -> AppKeys:
        """Raises ValueError for a PEM that is no public key on a known curve."""
        return cls(
            tuple(_public_key(pem) for pem in public_pems),
            tuple(secret.encode() for secret in secrets),
        )


def _public_key(pem: str) -> ec.EllipticCurvePublicKey:
    key = load_pem_public_key(pem.encode())
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, _V1_CURVES):
        return key
    raise ValueError("a v1 public key is on P-256 or secp256k1")


# -- reading -----------------------------------------------------------------------------


def open_sig(sig: str) -> Opened:
    """Read a sig without any key. Raises :class:`Rejected` 70002 or 70003."""
    if not sig:
        raise Rejected(Code.EMPTY, "the sig has length 0")
    members = _members(_inflate(_outer_base64(sig)))
    try:
        return _open_v2(members) if members.get("TLS.ver") == "2.0" else _open_v1(members)
    except (KeyError, TypeError, ValueError):
        raise Rejected(Code.CHECK_FAILED, "a member is missing or malformed") from None


def _outer_base64(sig: str) -> bytes:
    if not _OUTER_CHARS.issuperset(sig):
        raise Rejected(Code.CHECK_FAILED, "a character is outside the alphabet")
    try:
        return base64.b64decode(sig.translate(_OUTER_TO_STANDARD), validate=True)
    except ValueError:
        raise Rejected(Code.CHECK_FAILED, "the base64 is broken or truncated") from None


def _inflate(packed: bytes) -> bytes:
    unpacker = zlib.decompressobj()
    try:
        text = unpacker.decompress(packed, _MAX_TEXT)
    except zlib.error:
        raise Rejected(Code.CHECK_FAILED, "the zlib stream is broken") from None
    if not unpacker.eof:
        raise Rejected(Code.CHECK_FAILED, "the zlib stream is truncated or far too long")
    return text


def _members(text: bytes) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        raise Rejected(Code.CHECK_FAILED, "the content is no JSON") from None
    if not isinstance(value, dict):
        raise Rejected(Code.CHECK_FAILED, "the content is no JSON object")
    return value


def _open_v1(members: Mapping[str, Any]) -> Opened:
    order = ["TLS.account_type", "TLS.identifier", "TLS.sdk_appid", "TLS.time", "TLS.expire_after"]
    if "TLS.appid_at_3rd" in members:
        order.insert(0, "TLS.appid_at_3rd")
    if "TLS.userbuf" in members:
        order.append("TLS.userbuf")
    return Opened(
        "v1",
        _text(members["TLS.identifier"]),
        int(_text(members["TLS.sdk_appid"])),
        int(_text(members["TLS.time"])),
        int(_text(members["TLS.expire_after"])),
        _userbuf(members),
        _lines((name, _text(members[name])) for name in order),
        _inner_base64(members["TLS.sig"]),
    )


def _open_v2(members: Mapping[str, Any]) -> Opened:
    # The Go signer omits an expire of 0; its own verifier then reads 0.
    ttl = _number(members.get("TLS.expire", 0))
    sdkappid, issued_at = _number(members["TLS.sdkappid"]), _number(members["TLS.time"])
    userid = _text(members["TLS.identifier"])
    lines = [("TLS.identifier", userid), ("TLS.sdkappid", str(sdkappid))]
    lines += [("TLS.time", str(issued_at)), ("TLS.expire", str(ttl))]
    if "TLS.userbuf" in members:
        lines.append(("TLS.userbuf", _text(members["TLS.userbuf"])))
    return Opened(
        "v2",
        userid,
        sdkappid,
        issued_at,
        ttl,
        _userbuf(members),
        _lines(lines),
        _inner_base64(members["TLS.sig"]),
    )


def _lines(pairs: Iterable[tuple[str, str]]) -> bytes:
    return "".join(f"{name}:{value}\n" for name, value in pairs).encode()


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    raise TypeError("a JSON string is expected")


def _number(value: Any) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise TypeError("a whole JSON number is expected")


def _inner_base64(value: Any) -> bytes:
    """Standard base64; old tools broke it into lines."""
    return base64.b64decode("".join(_text(value).split()), validate=True)


def _userbuf(members: Mapping[str, Any]) -> bytes | None:
    return _inner_base64(members["TLS.userbuf"]) if "TLS.userbuf" in members else None


def open_userbuf(userbuf: bytes) -> Grant:
    """Read the room grant inside a privateMapKey. Raises :class:`Rejected` 70003."""
    try:
        kind, size = struct.unpack_from(">BH", userbuf)
        account = userbuf[3 : 3 + size].decode()
        at = 3 + size
        sdkappid, room_id, expires_at, mask, account_type = struct.unpack_from(
            ">IIIII", userbuf, at
        )
        at += 20
        room_name = ""
        if kind == 1:
            (length,) = struct.unpack_from(">H", userbuf, at)
            room_name = userbuf[at + 2 : at + 2 + length].decode()
            at += 2 + length
    except (struct.error, UnicodeDecodeError):
        raise Rejected(Code.CHECK_FAILED, "the userbuf is broken") from None
    if kind > 1 or at != len(userbuf):
        raise Rejected(Code.CHECK_FAILED, "the userbuf has another layout")
    return Grant(account, sdkappid, room_id, room_name, expires_at, mask, account_type)


# -- checking ----------------------------------------------------------------------------


def check(
    sig: str, *, sdkappid: int, userid: str, keys: AppKeys, now: int, userbuf: bool = False
) -> Opened:
    """The sig, if it is valid for this user of this app at ``now``. Raises :class:`Rejected`.
    ``userbuf``: a sig with a userbuf (a privateMapKey) is expected."""
    opened = open_sig(sig)
    if (opened.userbuf is not None) != userbuf:
        raise Rejected(Code.CHECK_FAILED, "a privateMapKey is no UserSig, nor the reverse")
    if opened.format == "v1":
        _check_proof(opened, keys)
        _check_claims(opened, sdkappid, userid, now)
    else:
        _check_claims(opened, sdkappid, userid, now)
        _check_proof(opened, keys)
    return opened


def _check_claims(opened: Opened, sdkappid: int, userid: str, now: int) -> None:
    if opened.userid != userid:
        raise Rejected(Code.WRONG_USER, "the user differs from the one signed")
    if opened.sdkappid != sdkappid:
        raise Rejected(Code.WRONG_APP, "the sdkappid differs from the one signed")
    if opened.expires_at < now:
        raise Rejected(Code.EXPIRED, f"the sig expired at {opened.expires_at}, it is {now}")


def _check_proof(opened: Opened, keys: AppKeys) -> None:
    known: tuple[Any, ...] = keys.public if opened.format == "v1" else keys.secrets
    if not known:
        raise Rejected(Code.NO_KEY, f"the app has no key for {opened.format}")
    fits = _fits_v1 if opened.format == "v1" else _fits_v2
    if not any(fits(opened, key) for key in known):
        raise Rejected(Code.WRONG_KEY, "no key of the app fits the signature")


def _fits_v1(opened: Opened, key: ec.EllipticCurvePublicKey) -> bool:
    try:
        key.verify(opened.proof, opened.signed, ec.ECDSA(SHA256()))
    except InvalidSignature:
        return False
    return True


def _fits_v2(opened: Opened, secret: bytes) -> bool:
    return hmac.compare_digest(hmac.digest(secret, opened.signed, "sha256"), opened.proof)


def check_room_key(
    sig: str, *, sdkappid: int, userid: str, keys: AppKeys, now: int
) -> tuple[Opened, Grant]:
    """The privateMapKey, if it is valid and its grant names this user and app, too.

    The expiries of sig and grant are both checked. The caller compares room and privileges.
    """
    opened = check(sig, sdkappid=sdkappid, userid=userid, keys=keys, now=now, userbuf=True)
    grant = open_userbuf(opened.userbuf or b"")
    if grant.userid != userid:
        raise Rejected(Code.WRONG_USER, "the grant is another user's")
    if grant.sdkappid != sdkappid:
        raise Rejected(Code.WRONG_APP, "the grant is another app's")
    if grant.expires_at < now:
        raise Rejected(Code.EXPIRED, f"the grant expired at {grant.expires_at}, it is {now}")
    return opened, grant
