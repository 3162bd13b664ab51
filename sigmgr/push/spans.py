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


class SpansBook:
    """Called with sdkappid and lifetime. An app that was removed under its open streams has
    the default policy."""

    def __init__(self, policy_of: Callable[[int], Policy]) -> None:
        self._policy_of = policy_of
        self._known: dict[tuple[int, int], Spans] = {}

    def __call__(self, sdkappid: int, ttl: int) -> Spans:
        known = self._known.get((sdkappid, ttl))
        return self._look_up(sdkappid, ttl) if known is None else known

    def turn(self) -> None:
        """Ask for every policy anew."""
        self._known.clear()

    def _look_up(self, sdkappid: int, ttl: int) -> Spans:
        try:
            policy = self._policy_of(sdkappid)
        except errors.SigmgrError:
            policy = _DEFAULTS
        if len(self._known) >= _KEPT:
            self._known.clear()
        spans = self._known[sdkappid, ttl] = policy.spans(ttl)
        return spans
