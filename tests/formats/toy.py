"""A third sig format, made of nothing that Tencent's two are made of.

A sig is ``toy.`` + base64url of JSON + ``.`` + hex of keyed BLAKE2b over that JSON. A key is
``toy-key-`` + 64 hex digits. All that sigmgr needs to know of it is in this file.
"""

from __future__ import annotations

import hmac
import json
import re
from base64 import b64decode, b64encode, urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b

from sigmgr.model.errors import BadKey, BadSig, SigReason
from sigmgr.model.sig import Format
from sigmgr.model.usersig import FORMATS
from sigmgr.model.usersig.claims import Claims
from sigmgr.model.usersig.decoded import Decoded
from sigmgr.model.usersig.formats import Doubt, Draw, Hints, Pasted, SigningKey, fingerprint

NAME = Format("toy")
_SIG = re.compile(r"toy\.([\w-]+=*)\.([0-9a-f]{64})")


class ToyKey:
    format = NAME
    curve = ""
    public_pem = b""
    cost = 20

    def __init__(self, material: bytes) -> None:
        self.fingerprint = fingerprint(material)
        self._secret = bytes.fromhex(material.removeprefix(b"toy-key-").decode())

    def sign(self, text: bytes) -> bytes:
        return blake2b(text, key=self._secret, digest_size=32).digest()

    def verify(self, text: bytes, signature: bytes) -> bool:
        return hmac.compare_digest(self.sign(text), signature)


class ToyKeys:
    def recognises(self, content: bytes) -> bool:
        return content.strip().startswith(b"toy-key-")

    def read(self, content: bytes) -> Pasted:
        material = content.strip()
        odd = "the key is all zeros" if material.endswith(b"0" * 64) else ""
        return Pasted(NAME, material, self.signer(material), odd)

    def read_verifier(self, content: bytes) -> tuple[ToyKey, str]:
        found = self.read(content)
        return self.signer(found.material), found.odd

    def signer(self, material: bytes) -> ToyKey:
        if not re.fullmatch(rb"toy-key-[0-9a-f]{64}", material):
            raise BadKey("this is no toy key")
        return ToyKey(material)

    def doubt(self, material: bytes) -> Doubt | None:
        odd = self.read(material).odd
        return Doubt(odd, certain=False) if odd else None

    def generate(self, draw: Draw, _curve: str | None) -> bytes:
        return b"toy-key-" + draw(32).hex().encode()

    def is_signature(self, signature: bytes) -> bool:
        return len(signature) == 32


def read(text: str) -> Decoded | None:
    if not text.startswith("toy."):
        return None
    found = _SIG.fullmatch(text.strip())
    if found is None:
        raise BadSig(SigReason.CUT_OFF, "the toy sig is damaged", "Copy it whole.")
    signed = urlsafe_b64decode(found[1])
    answer = json.loads(signed)
    room = answer.get("room")
    return Decoded(
        format=NAME,
        userid=answer["user"],
        sdkappid=answer["app"],
        issued_at=answer["from"],
        ttl=answer["for"],
        userbuf=None if room is None else b64decode(room),
        userbuf_base64=room,
        signed_text=signed,
        signature=bytes.fromhex(found[2]),
    )


class Toy:
    name = NAME
    code = 3
    algorithm = "BLAKE2b"
    curves = ()
    hints = Hints("toy key", "toy key", "the toy key", "Next: play with {private}.", "Play on.")
    reader = staticmethod(read)
    keys = ToyKeys()

    def write(self, answer: Claims, key: SigningKey) -> str:
        members = {
            "user": answer.userid.decode(),
            "app": answer.sdkappid,
            "from": answer.issued_at,
            "for": answer.ttl,
        }
        if answer.userbuf is not None:
            members["room"] = answer.userbuf.decode()
        signed = json.dumps(members).encode()
        return f"toy.{urlsafe_b64encode(signed).decode()}.{key.sign(signed).hex()}"

    def holds(self, text: str, answer: Claims, key: SigningKey) -> bool:
        return text == self.write(answer, key)


@contextmanager
def registered() -> Iterator[None]:
    FORMATS.register(Toy())
    try:
        yield
    finally:
        FORMATS.unregister(NAME)


def master_key() -> str:
    return b64encode(bytes(range(32))).decode()
