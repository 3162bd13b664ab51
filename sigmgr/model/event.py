"""Events: what follows from a commit.

An event carries facts and never a sig. It is written into the outbox in the transaction of its
cause, and reaches the shard streams at least once; readers drop what is not newer by ``issued_at``.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from sigmgr.model.holder import Holder
from sigmgr.model.sig import Reason


class EventType(StrEnum):
    ISSUED = "sig.issued"
    RENEWED = "sig.renewed"
    RENEWAL_FAILED = "sig.renewal_failed"
    WILL_EXPIRE = "sig.will_expire"
    EXPIRED = "sig.expired"
    REVOKED = "sig.revoked"
    DELIVERED = "sig.delivered"


class Event(NamedTuple):
    """One event. ``issued_at`` and ``expires_at`` are those of its sig.

    For ``sig.revoked`` issued_at is the second of the revocation: every sig issued in or before it
    is revoked. ``note`` is a short extra word, such as an error code or the rung of a warning.
    Events are stored and sent as lists of their fields: add fields at the end, with a default.
    """

    type: str
    holder: Holder
    issued_at: int
    expires_at: int
    reason: str
    at: int
    note: str = ""


class Action(StrEnum):
    """What a client should do with the sig in a message, now."""

    KEEP = "keep"
    RELOGIN = "relogin"
    UPDATE_PRIVATE_MAP_KEY = "update_private_map_key"


#: Reasons after which the cloud refuses the old sig, or soon will.
_RELOGIN_REASONS = frozenset({Reason.REVOKED, Reason.KEY_TAINTED, Reason.EXPIRED})


def action_for(kind: str, reason: str) -> Action:
    """A room key is handed to the SDK at once; a user sig is kept for the next login."""
    if kind == "room":
        return Action.UPDATE_PRIVATE_MAP_KEY
    return Action.RELOGIN if reason in _RELOGIN_REASONS else Action.KEEP
