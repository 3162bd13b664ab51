"""The revocations that this process knows, and how long it may rely on them.

What is promised, and why it holds, is in ``docs/revocation.md``.

Rules:
1. Nothing cached is served before all living revocations are loaded, once.
2. A new revocation, from a look or from an own commit, reaches the listeners in the same step of
   the loop: they close streams and drop answers before anything else runs.
3. Without a look for longer than ``grace`` no cached sig is served, except one issued less than
   ``grace`` ago, whose issuer saw SQL then.

What this module does not do: look (``look``), revoke (``revoke``), read a wall clock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

from sigmgr.model.holder import Holder
from sigmgr.model.revocation import Judgement, Known, Revocation
from sigmgr.model.sig import Current
from sigmgr.telemetry import get_logger

log = get_logger("sigmgr.revocations")

_NEVER = float("-inf")


class RevocationListener(Protocol):
    """Gets each new revocation before anything else runs. Must not block or wait."""

    def revoked(self, revocation: Revocation) -> None: ...


class Revocations:
    """``monotonic`` counts seconds; ``grace`` in seconds, see rule 3."""

    def __init__(self, monotonic: Callable[[], float], *, grace: float) -> None:
        self._monotonic = monotonic
        self._known = Known()
        #: The second up to which sigs of an app's user are known to be revoked; 0: none.
        self.until = self._known.until
        self._listeners: list[RevocationListener] = []
        self._looked_at = _NEVER
        self.grace = grace

    def add(self, listener: RevocationListener) -> None:
        self._listeners.append(listener)

    def learn(self, revocations: Iterable[Revocation]) -> None:
        """Add these, and pass new ones to the listeners."""
        news = [one for one in revocations if self._known.learn(one)]
        for revocation in news:
            for listener in self._listeners:
                try:
                    listener.revoked(revocation)
                except Exception:
                    log.exception("a listener failed", action="listener-failed")

    def looked(self, started: float) -> None:
        """A look that began then, by the monotonic clock, has read all that was committed."""
        self._looked_at = max(self._looked_at, started)

    @property
    def age(self) -> float:
        """Seconds since the last look; infinite before the first."""
        return self._monotonic() - self._looked_at

    @property
    def fresh(self) -> bool:
        """Cached answers may be served."""
        return self.age <= self.grace

    def judge(self, holder: Holder, issued_at: int) -> Judgement:
        return self._known.judge(holder.sdkappid, holder.userid, issued_at)

    def serves(self, current: Current, now: int) -> bool:
        """A cached sig may be served without a look into SQL."""
        if self._looked_at == _NEVER or not self.stands(current.holder, current.issued_at):
            return False
        return self.fresh or 0 <= now - current.issued_at < self.grace

    def stands(self, holder: Holder, issued_at: int) -> bool:
        """A sig that came with an event may be pushed without a lookup."""
        return self.judge(holder, issued_at) is Judgement.FREE

    def killed(self, current: Current) -> bool:
        """It was revoked while it was on its way here."""
        return self.judge(current.holder, current.issued_at) is Judgement.DEAD

    def forget(self, now: int) -> None:
        """Forget what concerns no living sig, a few at a time."""
        self._known.forget(now)
