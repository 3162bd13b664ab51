"""Format v2, HMAC-SHA256: its JSON members and the signed text, from values and back.

Facts (format notes, sections 2 and 7.4):
1. ``TLS.ver`` is "2.0"; user id, userbuf and sig are strings, the rest are numbers.
2. Some names differ a little from v1: ``TLS.sdkappid``, ``TLS.expire``.
3. A userbuf adds one last line, with the same base64 text as in the JSON.
4. Go leaves a zero out of the JSON but not out of the signed text, so a missing ``TLS.expire`` is
   0.

What this module does not do: check what it writes (``claims`` does), or judge what it reads
(``verifying`` does).
"""

from __future__ import annotations

from typing import Final

from sigmgr.model.sig import Format
from sigmgr.model.usersig import members as read
from sigmgr.model.usersig.claims import Layout
from sigmgr.model.usersig.decoded import Decoded

NAME: Final = Format("v2")
VERSION = "2.0"

_TEXT = b"TLS.identifier:%b\nTLS.sdkappid:%d\nTLS.time:%d\nTLS.expire:%d\n"
_JSON = b'{"TLS.ver":"2.0","TLS.identifier":"%b","TLS.sdkappid":%d,"TLS.expire":%d,"TLS.time":%d'
document: Final = Layout(_TEXT, _JSON).document


def decode(members: read.Members) -> Decoded:
    """The fields of a v2 document. Raises :class:`BadSig`."""
    userid = read.userid(members)
    sdkappid = read.number(members, "TLS.sdkappid", least=1)
    issued_at = read.number(members, "TLS.time")
    ttl = read.number(members, "TLS.expire") if "TLS.expire" in members else 0
    userbuf_base64, userbuf = read.userbuf(members)
    tail = "" if userbuf_base64 is None else f"TLS.userbuf:{userbuf_base64}\n"
    lines = (
        f"TLS.identifier:{userid}\nTLS.sdkappid:{sdkappid}\n"
        f"TLS.time:{issued_at}\nTLS.expire:{ttl}\n{tail}"
    )
    return Decoded(
        format=NAME,
        userid=userid,
        sdkappid=sdkappid,
        issued_at=issued_at,
        ttl=ttl,
        userbuf=userbuf,
        userbuf_base64=userbuf_base64,
        version=VERSION,
        signed_text=lines.encode("utf-8"),
        signature=read.signature(members),
    )
