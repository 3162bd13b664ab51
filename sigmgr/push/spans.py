"""The policy's durations for what a stream holds, kept at hand.

Hashing a policy of twenty fields for each stream was a tenth of a wave's time, so the
answer is kept per app and lifetime, for as long as the app's policy is the same object.
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
        self._known: dict[tuple[int, int], tuple[Policy, Spans]] = {}

    def __call__(self, sdkappid: int, ttl: int) -> Spans:
        try:
            policy = self._policy_of(sdkappid)
        except errors.SigmgrError:
            policy = _DEFAULTS
        known = self._known.get((sdkappid, ttl))
        if known is None or known[0] is not policy:
            if len(self._known) >= _KEPT:
                self._known.clear()
            known = self._known[sdkappid, ttl] = (policy, policy.spans(ttl))
        return known[1]
