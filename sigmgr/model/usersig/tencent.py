"""Tencent's two formats: v1 (ECDSA) and v2 (HMAC).

They share container and reader: only the members tell a v1 sig from a v2 sig. The format of a key
follows from its form, a PEM or a secret; any other text is taken for a v2 secret.
"""

from __future__ import annotations

from sigmgr.model.errors import InputError
from sigmgr.model.usersig import v1, v2
from sigmgr.model.usersig.claims import Claims
from sigmgr.model.usersig.container import pack, unpack
from sigmgr.model.usersig.diagnosis import read_or_explain
from sigmgr.model.usersig.formats import Hints, KeyKind, Reader, SigningKey


class V1:
    name = v1.NAME
    code = 1
    algorithm = "ECDSA"
    curves: tuple[str, ...] = ("P-256", "secp256k1")
    hints = Hints(
        "PEM",
        "private PEM",
        "the app's PEM",
        "Next: give {public} to the Tencent console as the application's public key, keep"
        " {private} secret, and add it with: sigmgr key add SDKAPPID --file {private}",
        "Next: give this public key to the Tencent console as the application's.",
    )
    reader: Reader = staticmethod(read_or_explain)

    @property
    def keys(self) -> KeyKind:
        from sigmgr.model.usersig import ecdsa  # noqa: PLC0415 - formats are light

        return ecdsa

    def write(self, claims: Claims, key: SigningKey) -> str:
        return pack(v1.document(claims, key.sign))

    def holds(self, _text: str, _claims: Claims, _key: SigningKey) -> bool:
        """Always False: signing again costs as much as verifying, and would repeat a wrong
        signature."""
        return False


class V2:
    name = v2.NAME
    code = 2
    algorithm = "HMAC-SHA256"
    curves: tuple[str, ...] = ()
    hints = Hints(
        "secret",
        "secret",
        "the secret of the app",
        "Next: keep {private} secret. The cloud knows only the v2 key that its console shows;"
        " use this one for tests, or wherever you can set the key of the verifying side too.",
        "Tencent's cloud does not know a v2 secret that was made here and will refuse its sigs."
        " For the real cloud take the secret that its console shows: sigmgr key add {sdkappid}"
        " --file SECRETFILE --activate",
    )
    reader: Reader = staticmethod(read_or_explain)

    @property
    def keys(self) -> KeyKind:
        from sigmgr.model.usersig import secret  # noqa: PLC0415 - formats are light

        return secret

    def write(self, claims: Claims, key: SigningKey) -> str:
        return pack(v2.document(claims, key.sign))

    def holds(self, text: str, claims: Claims, key: SigningKey) -> bool:
        """Whether the sig unpacks to exactly this document."""
        try:
            return unpack(text) == v2.document(claims, key.sign)
        except InputError:
            return False
