"""The events at a reader's cursor no longer exist."""

from __future__ import annotations

from sigmgr.model.cursor import Cursor
from sigmgr.model.errors.base import SigmgrError


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
