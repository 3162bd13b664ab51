"""The policy's durations for what a stream holds, kept at hand.

A wave asks three times for each stream, and hashing a policy of twenty fields each time was
a tenth of its cost. So the answer is kept per app and lifetime until :meth:`SpansBook.turn`,
which the gateway's clock calls: a changed policy counts from the next second on.
What this module does not do: know the rules; they are in :mod:`sigmgr.model.policy`.
"""

from __future__ import annotations

from collections.abc import Callable

from sigmgr.model import errors
from sigmgr.model.policy import Policy, Spans

_DEFAULTS = Policy()
_KEPT = 1000


class SpansBook(dict[tuple[int, int], Spans]):
    """By sdkappid and lifetime. An app that was removed under its open streams has the default
    policy."""

    def __init__(self, policy_of: Callable[[int], Policy]) -> None:
        super().__init__()
        self._policy_of = policy_of

    def turn(self) -> None:
        """Ask for every policy anew."""
        self.clear()

    def __missing__(self, wanted: tuple[int, int]) -> Spans:
        sdkappid, ttl = wanted
        try:
            policy = self._policy_of(sdkappid)
        except errors.SigmgrError:
            policy = _DEFAULTS
        if len(self) >= _KEPT:
            self.clear()
        spans = self[wanted] = policy.spans(ttl)
        return spans
