"""Verifies a sig: every check in a fixed order, with one reason for each.

The order, first failure wins:
1. structure: too-long, then the damage of a text that cannot be read (quoted ... no-sig),
   not-base64, not-zlib, too-large, not-json, missing-field, bad-field;
2. wrong-format: none of the keys is of the sig's format;
3. wrong-app, wrong-user, then userbuf-missing or userbuf-unexpected, each if asked for;
4. bad-signature: the signature is none at all - not 32 bytes for v2, not DER for v1;
5. wrong-key: it is one, but none of the keys made it over this text, because a field was changed or
   the key is foreign;
6. issued-in-future: by more than a day. By less it is valid and reported: clocks differ, and the
   cloud accepts it (format notes, section 1.4), but such a sig outlives a revocation of today;
7. expired, last, so that only a sig that was once valid is called that. ``now >= expires_at`` is
   expired; the cloud accepts one second more (format notes, section 1.4).

What this module does not do: look at revocations (facts of the store, not of the sig) or at the
expiry inside a userbuf (the room's concern; sigs made here have the same one).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from sigmgr.model.errors import BadSig, SigReason
from sigmgr.model.shown import shown
from sigmgr.model.usersig.decoded import Decoded
from sigmgr.model.usersig.formats import FORMATS, SigFormat, VerifyingKey, decode

#: The most seconds by which a sig may be issued ahead of now.
MAX_AHEAD: Final = 86400


def verify(
    text: str,
    keys: Sequence[VerifyingKey],
    *,
    now: int,
    userid: str | None = None,
    sdkappid: int | None = None,
    userbuf: bool | None = None,
) -> Decoded:
    """The fields of a valid sig. Raises :class:`BadSig` with the reason otherwise.

    ``keys`` are ordered oldest to newest and tried newest first; those of other formats are
    skipped. ``userid`` and ``sdkappid`` are compared where given. ``userbuf``: True, it must be
    there; False, it must not; None, either.

    The sig is valid while ``now < expires_at``. Callers report :func:`issued_in_future`, too.
    """
    sig = decode(text)
    form = FORMATS.named(sig.format)
    fitting = [key for key in reversed(keys) if key.format == sig.format]
    if not fitting:
        sentence = f"the sig is {sig.format}, no key is"
        raise BadSig(SigReason.WRONG_FORMAT, sentence, f"Verify it with {form.hints.wanted}.")
    _check_claims(sig, userid, sdkappid, userbuf)
    _check_signature(sig, form, fitting)
    _check_times(sig, now)
    return sig


def issued_in_future(issued_at: int, now: int) -> int:
    """Seconds by which a sig is issued ahead of now; 0 where it is not."""
    return max(0, issued_at - now)


def _check_signature(sig: Decoded, form: SigFormat, fitting: Sequence[VerifyingKey]) -> None:
    if not form.keys.is_signature(sig.signature):
        raise BadSig(SigReason.BAD_SIGNATURE, "the signature inside the sig is damaged")
    if not any(key.verify(sig.signed_text, sig.signature) for key in fitting):
        raise BadSig(
            SigReason.WRONG_KEY,
            "the sig was made with another key, or changed since it was made",
            f"Compare the key with the one that the console shows for app {sig.sdkappid}; after"
            " a key change, verify with the older key too.",
        )


def _check_times(sig: Decoded, now: int) -> None:
    ahead = issued_in_future(sig.issued_at, now)
    if ahead > MAX_AHEAD:
        raise BadSig(
            SigReason.ISSUED_IN_FUTURE,
            f"the sig is issued at {sig.issued_at}, {ahead} s after now",
            "Compare the clock of whoever made it with the true time, and have it made anew.",
        )
    if now >= sig.expires_at:
        late = now - sig.expires_at
        when = f"{late} s before now" if late else "which is now"
        raise BadSig(SigReason.EXPIRED, f"the sig expired at {sig.expires_at}, {when}")


def _check_claims(
    sig: Decoded, userid: str | None, sdkappid: int | None, userbuf: bool | None
) -> None:
    if sdkappid is not None and sdkappid != sig.sdkappid:
        raise BadSig(
            SigReason.WRONG_APP,
            f"the sig is for app {sig.sdkappid}, not {sdkappid}",
            f"Use it with app {sig.sdkappid}, or get one for app {sdkappid}.",
        )
    if userid is not None and userid != sig.userid:
        raise BadSig(
            SigReason.WRONG_USER,
            f"the sig is for user {shown(sig.userid)}, not {shown(userid)}",
            "Use each sig with the user it was issued for; ids differ by case and blanks too.",
        )
    if userbuf is True and sig.userbuf is None:
        raise BadSig(
            SigReason.USERBUF_MISSING,
            "the sig is bound to no room: it has no userbuf",
            "To enter a room give a privateMapKey; this is a UserSig.",
        )
    if userbuf is False and sig.userbuf is not None:
        raise BadSig(
            SigReason.USERBUF_UNEXPECTED,
            "the sig carries a userbuf, as room sigs do",
            "To sign in give a UserSig; this is a privateMapKey.",
        )
