"""A part is missing now; retry later."""

from __future__ import annotations

from typing import Any

from sigmgr.model.errors.base import SigmgrError


class UnavailableError(SigmgrError):
    """A part that is needed is not available now."""

    code = "unavailable"
    advice = "Try again in a moment; see /readyz and 'sigmgr doctor' for the cause."


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


class ClockApart(UnavailableError):
    """This machine's clock and the database's disagree; only sigs near expiry are signed."""

    code = "clock-apart"
    advice = (
        "Synchronise the clocks (NTP); /readyz and 'sigmgr doctor' say which one differs. It"
        " goes on by itself when they agree."
    )


class StoreUnavailable(UnavailableError):
    """The database does not answer."""

    code = "store-unavailable"

    def __init__(self, text: str = "", *, where: str = "", remedy: str = "", **more: Any) -> None:
        """``where`` and ``remedy`` are for operators, never for HTTP."""
        self.where, self.remedy = where, remedy
        super().__init__(text, **more)

    def __str__(self) -> str:
        return f"{self.text} ({self.where})" if self.where else self.text


class ConnectionLost(StoreUnavailable):
    """The connection to the database was lost; nothing was committed."""


class CommitUnknown(StoreUnavailable):
    """The connection to the database was lost in the commit, which may have been done."""


class PoolFull(StoreUnavailable):
    """All connections of this process to the database are in use."""

    code = "store-busy"
    advice = (
        "Try again in a moment. Where it happens often: start more processes, or raise"
        " database.pool_size (and max_connections of PostgreSQL)."
    )


class StoreRefuses(StoreUnavailable):
    """The database answers but does not write."""

    code = "store-refuses-writes"
    advice = (
        "Nothing new can be issued until it writes again; 'sigmgr doctor' says why, and what to do."
    )

    def __init__(self, why: str = "refuses writes") -> None:
        #: ``read-only``, ``full`` or ``refuses writes (CODE)``.
        self.why = why
        super().__init__(f"the database {'' if why.startswith('refuses') else 'is '}{why}")


class CacheUnavailable(UnavailableError):
    """Redis does not answer."""

    code = "cache-unavailable"


class Stopping(UnavailableError):
    """This process is shutting down."""

    code = "stopping"
    advice = "Send the request again; another process will take it."
