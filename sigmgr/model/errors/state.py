"""The state does not allow it: not found, gone, in conflict, a limit, or a pause."""

from __future__ import annotations

from sigmgr.model.cursor import Cursor
from sigmgr.model.errors.base import SigmgrError


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


class FeedOff(NotFoundError):
    """The app has no feed."""

    code = "feed-off"
    advice = "Switch it on with 'sigmgr app set SDKAPPID --feed on'."


class GoneError(SigmgrError):
    """This place in the events is gone."""

    code = "gone"
    advice = "Read the current state of all users, and begin at the cursor that is named."

    def __init__(self, *, begin: Cursor) -> None:
        """``begin``: a cursor from which everything that is kept can be read."""
        self.begin = begin
        super().__init__()


class CursorExpired(GoneError):
    """The events after this cursor were removed; they are kept for 7 days."""

    code = "cursor-expired"


class CursorUnknown(GoneError):
    """This cursor is not of the app's present feed."""

    code = "cursor-unknown"
    advice = (
        "The feed was switched on anew, or the database was restored. Read the current state of"
        " all users, and begin at the cursor that is named."
    )


class ConflictError(SigmgrError):
    """The state does not allow this."""

    code = "conflict"
    advice = "Read the current state and decide again."


class AlreadyReplaced(ConflictError):
    """The sig that was to be replaced is already replaced."""

    code = "already-replaced"
    advice = "GET the current sig; somebody has renewed it before you."


class NeverIssued(ConflictError):
    """No sig of that second was ever issued to this user."""

    code = "never-issued"
    advice = (
        "Ack the issued_at of a sig that sigmgr sent to this user. To open the stream, leave"
        " Last-Event-ID out: the full state comes at once."
    )


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
    advice = (
        "Keys go prepared, active, old. Each of these can be tainted ('sigmgr key taint'), and only"
        " a tainted one revoked. See 'sigmgr key list SDKAPPID'."
    )


class MaxHolders(ConflictError):
    """The app has as many holders as its policy allows."""

    code = "max-holders"
    advice = "Raise max_holders with 'sigmgr app set', or look who makes so many users."


class MaxRooms(ConflictError):
    """The user has as many live room keys as the app's policy allows."""

    code = "max-rooms"
    advice = "Ask for keys of rooms that the user enters; see Retry-After and max_rooms."


class LimitedError(SigmgrError):
    """Too much was asked for at once."""

    code = "limited"
    advice = "Ask again after the seconds in Retry-After."


class TooManyStreams(LimitedError):
    """The user has as many streams and polls open as one may; the oldest goes."""

    code = "too-many-streams"
    advice = "Hold one stream for each device, and close it before the next is opened."


class TooManyWrong(LimitedError):
    """Too many wrong tokens or tickets came from this address."""

    code = "too-many-wrong"
    advice = "Correct the token or ticket and stop repeating it; right ones are still taken."


class TooManyNewHolders(LimitedError):
    """The app gets new holders faster than its policy allows."""

    code = "too-many-new-holders"
    advice = "Ask for users who sign in, a few at a time; holders that exist are not limited."


class RevokePause(SigmgrError):
    """The user's sigs were revoked a moment ago; the next one must carry a later second."""

    code = "revoke-pause"
    advice = "Ask again after the seconds in Retry-After."
