"""The decoded fields of a sig, unverified, and their form for people.

What this module does not do: any check; see ``verifying``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from sigmgr.model import userbuf as userbufs
from sigmgr.model.errors import BadSig
from sigmgr.model.holder import privilege_names
from sigmgr.model.sig import Format


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoded:
    """The fields of one sig. ``repr`` omits the signature, so that a log cannot leak a sig.

    ``appid_at_3rd`` is None where the member is absent (and its line not signed).
    ``userbuf_base64`` is the text that was signed; ``userbuf`` its bytes, which need not be a
    privateMapKey's. ``version`` is informational: it is not signed.
    """

    format: Format
    userid: str
    sdkappid: int
    issued_at: int
    ttl: int
    account_type: int = 0
    appid_at_3rd: str | None = None
    userbuf: bytes | None = None
    userbuf_base64: str | None = None
    version: str | None = None
    signed_text: bytes = field(repr=False)
    signature: bytes = field(repr=False)

    @property
    def expires_at(self) -> int:
        return self.issued_at + self.ttl

    def fields(self) -> dict[str, Any]:
        """For people and JSON; never the signature."""
        return {
            "format": self.format,
            "userid": self.userid,
            "sdkappid": self.sdkappid,
            "issued_at": self.issued_at,
            "ttl": self.ttl,
            "expires_at": self.expires_at,
            "account_type": self.account_type,
            "appid_at_3rd": self.appid_at_3rd,
            "version": self.version,
            "userbuf": self._userbuf_fields(),
        }

    def _userbuf_fields(self) -> dict[str, Any] | None:
        if self.userbuf is None:
            return None
        shown: dict[str, Any] = {"base64": self.userbuf_base64}
        try:
            parsed = userbufs.decode(self.userbuf)
        except BadSig:
            # Any bytes can be signed as a userbuf; others are shown as base64.
            return shown
        shown["userid"] = parsed.userid
        shown["sdkappid"] = parsed.sdkappid
        if parsed.room.name:
            shown["room_name"] = parsed.room.name
        else:
            shown["room_id"] = parsed.room.id
        shown["expires_at"] = parsed.expires_at
        shown["privilege_mask"] = parsed.privileges
        shown["privileges"] = privilege_names(parsed.privileges)
        shown["account_type"] = parsed.account_type
        return shown
