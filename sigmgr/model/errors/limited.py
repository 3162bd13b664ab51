"""The caller has reached a limit; later there is room again."""

from __future__ import annotations

from sigmgr.model.errors.base import SigmgrError


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
