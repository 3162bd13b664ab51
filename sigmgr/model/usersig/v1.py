"""Format v1, ECDSA: its JSON members and the signed text, from values and back.

Facts (format notes, sections 1.1 to 1.3):
1. All members are strings. The order in the JSON is free; the order of the lines is not.
2. A sig without ``TLS.appid_at_3rd`` is signed without that line; an empty one has its line.
3. A userbuf adds one last line, with the same base64 text as in the JSON.
4. C++ prints an sdkappid of 2**31 or more as a negative number, in the JSON and in the lines.

What this module does not do: check what it writes (``claims`` does), or judge what it reads
(``verifying`` does).
"""

from __future__ import annotations

from typing import Final

from sigmgr.model.holder import MAX_UINT32
from sigmgr.model.sig import Format
from sigmgr.model.usersig import members as read
from sigmgr.model.usersig.claims import Layout
from sigmgr.model.usersig.decoded import Decoded

NAME: Final = Format("v1")
#: Informational and not signed; the official C++ library's last one.
VERSION = "201803230000"

_TEXT = (
    b"TLS.appid_at_3rd:0\nTLS.account_type:0\nTLS.identifier:%b\n"
    b"TLS.sdk_appid:%d\nTLS.time:%d\nTLS.expire_after:%d\n"
)
_JSON = (
    b'{"TLS.account_type":"0","TLS.identifier":"%b","TLS.appid_at_3rd":"0",'
    b'"TLS.sdk_appid":"%d","TLS.expire_after":"%d",'
    b'"TLS.version":"' + VERSION.encode("ascii") + b'","TLS.time":"%d"'
)
document: Final = Layout(_TEXT, _JSON).document


def decode(members: read.Members) -> Decoded:
    """The fields of a v1 document. Raises :class:`BadSig`."""
    appid_at_3rd = read.optional_text(members, "TLS.appid_at_3rd")
    account_type = read.number(members, "TLS.account_type")
    userid = read.userid(members)
    spelled, sdkappid = _sdkappid(members)
    issued_at = read.number(members, "TLS.time")
    ttl = read.number(members, "TLS.expire_after")
    userbuf_base64, userbuf = read.userbuf(members)
    head = "" if appid_at_3rd is None else f"TLS.appid_at_3rd:{appid_at_3rd}\n"
    tail = "" if userbuf_base64 is None else f"TLS.userbuf:{userbuf_base64}\n"
    lines = (
        f"{head}TLS.account_type:{account_type}\nTLS.identifier:{userid}\n"
        f"TLS.sdk_appid:{spelled}\nTLS.time:{issued_at}\nTLS.expire_after:{ttl}\n{tail}"
    )
    return Decoded(
        format=NAME,
        userid=userid,
        sdkappid=sdkappid,
        issued_at=issued_at,
        ttl=ttl,
        account_type=account_type,
        appid_at_3rd=appid_at_3rd,
        userbuf=userbuf,
        userbuf_base64=userbuf_base64,
        version=read.optional_text(members, "TLS.version"),
        signed_text=lines.encode("utf-8"),
        signature=read.signature(members),
    )


def _sdkappid(members: read.Members) -> tuple[str, int]:
    """The text that is signed, and the number that is meant."""
    name = "TLS.sdk_appid"
    spelled = str(members.get(name, ""))
    if not spelled.startswith("-"):
        value = read.number(members, name, least=1)
        return str(value), value
    magnitude = read.number({name: spelled[1:]}, name, least=1)
    if magnitude > 2**31:
        raise read.bad_field(name, f"is no whole number of 1 to {MAX_UINT32}")
    return spelled, 2**32 - magnitude
