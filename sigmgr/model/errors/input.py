"""The caller's input is wrong; repeating it will not help."""

from __future__ import annotations

from enum import StrEnum

from sigmgr.model.errors.base import SigmgrError
from sigmgr.model.ttl import MAX_TTL, MIN_TTL


class InputError(SigmgrError):
    """The input is not valid."""

    code = "bad-request"
    advice = "Correct the input and send it again."


class BadRequest(InputError):
    """The request cannot be understood."""


class BadSdkAppId(InputError):
    """The sdkappid is not valid."""

    code = "bad-sdkappid"
    advice = "Use the number that the Tencent console shows for the application."


class BadUserId(InputError):
    """The user id is not valid."""

    code = "bad-userid"
    advice = "Use 1 to 32 bytes of printable ASCII; letters, digits, _ and - are safest."


class BadRoom(InputError):
    """The room is not valid."""

    code = "bad-room"
    advice = "Give room_id (1 to 4294967294) or room_name (1 to 64 bytes), not both."


class BadPrivileges(InputError):
    """The privileges are not valid."""

    code = "bad-privileges"
    advice = (
        "Give a mask of 1 to 255 or a list of: create, enter, send_audio, receive_audio,"
        " send_video, receive_video, send_screen, receive_screen."
    )


class BadTtl(InputError):
    """The lifetime is not valid."""

    code = "bad-ttl"
    advice = f"Give whole seconds from {MIN_TTL} to {MAX_TTL} (ten years)."


class BadTime(InputError):
    """The time is not valid."""

    code = "bad-time"
    advice = "Give whole Unix seconds, UTC, so that the expiry is before 2106-02-07."


class BadBatch(InputError):
    """The batch is not valid."""

    code = "bad-batch"
    advice = "Send 1 to 1000 user ids in one batch."


class BadReason(InputError):
    """The reason is not in the closed list."""

    code = "bad-reason"
    advice = "Use one of ClientRequested, Forced, KeyRotated, KeyTainted, PolicyChanged."


class BadKey(InputError):
    """The key is not usable."""

    code = "bad-key"
    advice = (
        "For v1 give a PEM with a P-256 or secp256k1 key; for v2 the secret string from the"
        " console, as it is shown there."
    )


class OddKey(BadKey):
    """The key works, but probably is not the one that was meant."""

    code = "odd-key"
    advice = "Compare it with what the Tencent console shows, and say so where it is right."


class SigReason(StrEnum):
    """Why a sig is not valid; stable words, in the order of the checks.

    Those from ``quoted`` to ``no-sig`` name the damage of a text that cannot be read. Such a sig is
    not valid, even where the damage could be undone.
    """

    TOO_LONG = "too-long"
    #: Quotes, brackets or commas surround it.
    QUOTED = "quoted"
    #: Line ends or blanks are in it.
    WRAPPED = "wrapped"
    URL_ENCODED = "url-encoded"
    #: It is base64, but in the standard alphabet or in the URL-safe one.
    OTHER_ALPHABET = "other-alphabet"
    #: It is the base64 of a sig.
    ENCODED_TWICE = "encoded-twice"
    #: Characters follow that do not belong to it.
    HAS_TAIL = "has-tail"
    #: A sig is in the text, after something else.
    INSIDE_TEXT = "inside-text"
    #: It is the beginning of a sig.
    CUT_OFF = "cut-off"
    #: It looks like a token, a ticket, a key or something else.
    NO_SIG = "no-sig"
    #: None of these, and no base64, or no stream of zlib in it.
    NOT_BASE64 = "not-base64"
    NOT_ZLIB = "not-zlib"
    TOO_LARGE = "too-large"
    NOT_JSON = "not-json"
    MISSING_FIELD = "missing-field"
    BAD_FIELD = "bad-field"
    WRONG_FORMAT = "wrong-format"
    WRONG_APP = "wrong-app"
    WRONG_USER = "wrong-user"
    USERBUF_MISSING = "userbuf-missing"
    USERBUF_UNEXPECTED = "userbuf-unexpected"
    BAD_SIGNATURE = "bad-signature"
    WRONG_KEY = "wrong-key"
    #: By more than a day; by less it is valid.
    ISSUED_IN_FUTURE = "issued-in-future"
    EXPIRED = "expired"
    REVOKED = "revoked"


_TAKE_CURRENT = "Ask sigmgr for the user's current sig, and use that one."
_AS_IT_WAS = (
    "Take the sig exactly as it was issued: one line, from its first e to its last character."
)
_MAKE_IT_ANEW = "Whoever made the sig must make it as the format wants it; this one stays unusable."
_COMPARE = "Compare what is asked for with what the sig says: sigmgr sig decode shows it."
#: The default advice.
_ADVICE = {
    SigReason.TOO_LONG: "Give one sig alone, no file and no list of them: no sig is so long.",
    SigReason.TOO_LARGE: _MAKE_IT_ANEW,
    SigReason.NOT_JSON: _MAKE_IT_ANEW,
    SigReason.MISSING_FIELD: _MAKE_IT_ANEW,
    SigReason.BAD_FIELD: _MAKE_IT_ANEW,
    SigReason.WRONG_FORMAT: _COMPARE,
    SigReason.WRONG_APP: _COMPARE,
    SigReason.WRONG_USER: _COMPARE,
    SigReason.USERBUF_MISSING: _COMPARE,
    SigReason.USERBUF_UNEXPECTED: _COMPARE,
    SigReason.BAD_SIGNATURE: _TAKE_CURRENT,
    SigReason.WRONG_KEY: "Compare the key with the one that the console shows for the app.",
    SigReason.ISSUED_IN_FUTURE: "Compare the clock of whoever made it with the true time.",
    SigReason.EXPIRED: _TAKE_CURRENT,
    SigReason.REVOKED: f"Nothing makes this one valid again. {_TAKE_CURRENT}",
}


class BadSig(InputError):
    """The sig is not valid."""

    code = "bad-sig"
    advice = "Take the sig exactly as it was issued; the reason says what does not fit."

    def __init__(self, reason: SigReason, text: str = "", advice: str = "") -> None:
        self.reason = reason
        advice = advice or _ADVICE.get(reason, _AS_IT_WAS)
        super().__init__(text or f"the sig is not valid: {reason.value}", advice=advice)
