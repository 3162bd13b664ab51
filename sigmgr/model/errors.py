"""Every error that sigmgr tells anybody about, in one tree.

SigmgrError                     code, text, advice, retryable
├── InputError                  the caller's input is wrong; repeating it will not help
│   ├── BadSdkAppId, BadUserId, BadRoom, BadPrivileges, BadTtl, BadTime, BadBatch,
│   │   BadRequest, BadReason
│   ├── BadKey                  a PEM or secret that cannot sign or verify
│   └── BadSig                  carries a ``SigReason``: why a sig is not valid
├── DeniedError                 who asks may not
│   ├── TokenMissing, TokenUnknown, RoleDenied, AppDenied
│   └── TicketInvalid, TicketExpired, TicketRevoked
├── NotFoundError
│   ├── AppUnknown, HolderUnknown, KeyUnknown, TokenNotFound, RouteUnknown
├── ConflictError
│   ├── AlreadyReplaced, AppExists, KeyExists, KeyStateConflict
├── RevokePause                 a user was just revoked; wait ``retry_after`` seconds
├── UnavailableError            a part is missing now; retry later
│   ├── NoSigningKey, KeyChanged, SigningFailed, AskedTooOften,
│   │   StoreUnavailable, CacheUnavailable, Stopping
└── SetupError                  the operator must act before sigmgr can run
    ├── BadSettings, WrongMasterKey, NotMigrated, AddressInUse, MasterKeyMissing

``code`` is stable and part of the contract; the class docstring is the default text;
``advice`` says what to do next. Texts never contain a sig, key, token or ticket.
"""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar


class SigmgrError(Exception):
    """Something went wrong."""

    code: ClassVar[str] = "internal"
    advice: ClassVar[str] = "Look into the log for the same time."
    retryable: ClassVar[bool] = False

    def __init__(self, text: str = "", *, retry_after: int | None = None) -> None:
        self.text = text or (type(self).__doc__ or "").strip()
        self.retry_after = retry_after
        super().__init__(self.text)


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
    advice = "Give whole seconds from 10 to 315360000 (ten years)."


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


class SigReason(StrEnum):
    """Why a sig is not valid; stable words, in the order in which they are found."""

    TOO_LONG = "too-long"
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
    EXPIRED = "expired"


class BadSig(InputError):
    """The sig is not valid."""

    code = "bad-sig"
    advice = "Take the sig exactly as it was issued; the reason says what does not fit."

    def __init__(self, reason: SigReason, text: str = "") -> None:
        self.reason = reason
        super().__init__(text or f"the sig is not valid: {reason.value}")


class DeniedError(SigmgrError):
    """Not allowed."""

    code = "denied"
    advice = "Use a token whose role and app fit the request."


class TokenMissing(DeniedError):
    """The request has no bearer token."""

    code = "token-missing"
    advice = "Send 'Authorization: Bearer <token>'; make one with 'sigmgr token create'."


class TokenUnknown(DeniedError):
    """The token is not known or was revoked."""

    code = "token-unknown"
    advice = "Make a new one with 'sigmgr token create'."


class RoleDenied(DeniedError):
    """The token's role does not reach this route."""

    code = "role-denied"
    advice = "Use a token of the role that the route names."


class AppDenied(DeniedError):
    """The token is bound to another app."""

    code = "app-denied"
    advice = "Use a token for this app, or one that is not bound to an app."


class TicketInvalid(DeniedError):
    """The ticket is not one of this service."""

    code = "ticket-invalid"
    advice = "Ask the app's backend for the current sig; its answer carries a fresh ticket."


class TicketExpired(DeniedError):
    """The ticket has expired."""

    code = "ticket-expired"
    advice = "Ask the app's backend for the current sig; its answer carries a fresh ticket."


class TicketRevoked(DeniedError):
    """The user's sigs were revoked after the ticket was made."""

    code = "ticket-revoked"
    advice = "Ask the app's backend for the current sig; its answer carries a fresh ticket."


class NotFoundError(SigmgrError):
    """Not found."""

    code = "not-found"
    advice = "Check the name."


class RouteUnknown(NotFoundError):
    """There is no such route."""

    code = "route-unknown"
    advice = "See /docs for the routes of this service."


class AppUnknown(NotFoundError):
    """The app is not known here."""

    code = "app-unknown"
    advice = "Add it with 'sigmgr app add SDKAPPID', or correct the sdkappid."


class HolderUnknown(NotFoundError):
    """No sig was ever issued for this user."""

    code = "holder-unknown"
    advice = "GET the user's sig once; that issues the first one."


class KeyUnknown(NotFoundError):
    """The app has no such key."""

    code = "key-unknown"
    advice = "See 'sigmgr key list SDKAPPID'."


class TokenNotFound(NotFoundError):
    """There is no such token."""

    code = "token-not-found"
    advice = "See 'sigmgr token list'."


class ConflictError(SigmgrError):
    """The state does not allow this."""

    code = "conflict"
    advice = "Read the current state and decide again."


class AlreadyReplaced(ConflictError):
    """The sig that was to be replaced is already replaced."""

    code = "already-replaced"
    advice = "GET the current sig; somebody has renewed it before you."


class AppExists(ConflictError):
    """The app is already known."""

    code = "app-exists"
    advice = "Change it with 'sigmgr app set SDKAPPID'."


class KeyExists(ConflictError):
    """The app already has this key."""

    code = "key-exists"
    advice = "See 'sigmgr key list SDKAPPID'."


class KeyStateConflict(ConflictError):
    """The key's state does not allow this step."""

    code = "key-state"
    advice = "See 'sigmgr key list SDKAPPID' for the states; they go prepared, active, old."


class RevokePause(SigmgrError):
    """The user's sigs were revoked a moment ago; the next one must carry a later second."""

    code = "revoke-pause"
    advice = "Ask again after the seconds in Retry-After."
    retryable = True


class UnavailableError(SigmgrError):
    """A part that is needed is not available now."""

    code = "unavailable"
    advice = "Try again in a moment; see /readyz and 'sigmgr doctor' for the cause."
    retryable = True


class NoSigningKey(UnavailableError):
    """The app has no active key to sign with."""

    code = "no-signing-key"
    advice = "Add one with 'sigmgr key add SDKAPPID --file FILE --activate'."


class KeyChanged(NoSigningKey):
    """The app's active key changed a moment ago; this process has not loaded the new one."""

    code = "key-changed"
    advice = "Try again in a moment."


class SigningFailed(UnavailableError):
    """The signer gave no acceptable result."""

    code = "signing-failed"


class AskedTooOften(UnavailableError):
    """The room key was made twice in this second already."""

    code = "asked-too-often"
    advice = "Ask for one room with one set of privileges; try again in a second."


class StoreUnavailable(UnavailableError):
    """The database does not answer."""

    code = "store-unavailable"


class CacheUnavailable(UnavailableError):
    """Redis does not answer."""

    code = "cache-unavailable"


class Stopping(UnavailableError):
    """This process is shutting down."""

    code = "stopping"
    advice = "Send the request again; another process will take it."


class SetupError(SigmgrError):
    """sigmgr cannot run as it is set up."""

    code = "setup"
    advice = "Run 'sigmgr doctor'."


class BadSettings(SetupError):
    """A setting is not valid."""

    code = "bad-settings"
    advice = "See config/ for examples; environment names are SIGMGR_SECTION__NAME."


class MasterKeyMissing(SetupError):
    """No master key is set."""

    code = "master-key-missing"
    advice = (
        "Set SIGMGR_MASTER_KEY or SIGMGR_MASTER_KEY_FILE to 32 random bytes in base64,"
        " for example from: head -c 32 /dev/urandom | base64"
    )


class WrongMasterKey(SetupError):
    """The master key is not the one that sealed this database's keys."""

    code = "wrong-master-key"
    advice = "Set the master key that was in use when the keys were added."


class NotMigrated(SetupError):
    """The database has not the schema that this version needs."""

    code = "not-migrated"
    advice = "Run 'sigmgr db upgrade'."


class AddressInUse(SetupError):
    """The address is in use by another process."""

    code = "address-in-use"
    advice = "Stop the other process or choose another port with --port."
