"""What this process knows of revocations, and until when it may trust that.

The promise (rule 19 of the design): once a revocation is answered, this process hands out,
derives and pushes nothing that it killed, at once; other processes within five seconds of
their last look into SQL that succeeded, whatever Redis refuses, loses or gets back. The
argument, step by step, is in ``docs/revocation.md``.

Rules:
1. Nothing cached is served before all living revocations were loaded, once.
2. What is learned, by a look, by an own commit, is told to the listeners in the same step of
   the loop: streams are closed and ready answers dropped before anything else runs.
3. Without a look for longer than ``grace`` nothing cached is served, but a sig that was
   issued less than ``grace`` ago: whoever issued it saw SQL then.

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
    """Who must know of a revocation before anything else runs. Must not block or wait."""

    def revoked(self, revocation: Revocation) -> None: ...


class Revocations:
    """``monotonic`` counts seconds; ``grace`` in seconds, see rule 3."""

    def __init__(
        self, monotonic: Callable[[], float], *, grace: float, known: Known | None = None
    ) -> None:
        self._monotonic = monotonic
        self._known = known or Known()
        self._listeners: list[RevocationListener] = []
        self._looked_at = _NEVER
        self.grace = grace

    def add(self, listener: RevocationListener) -> None:
        self._listeners.append(listener)

    def learn(self, revocations: Iterable[Revocation]) -> int:
        """Take these in and tell the listeners what is new; answers how many were."""
        news = [one for one in revocations if self._known.learn(one)]
        for revocation in news:
            for listener in self._listeners:
                try:
                    listener.revoked(revocation)
                except Exception:
                    log.exception("a listener failed", action="listener-failed")
        return len(news)

    def looked(self, started: float) -> None:
        """A look that began then, by the monotonic clock, has told all that was committed."""
        self._looked_at = max(self._looked_at, started)

    @property
    def age(self) -> float:
        """Seconds since the last look; without end before the first."""
        return self._monotonic() - self._looked_at

    @property
    def fresh(self) -> bool:
        """Ready answers may be given again without a thought."""
        return self.age <= self.grace

    def until(self, sdkappid: int, userid: str) -> int:
        """Up to which second this user's sigs are known to be dead."""
        return self._known.until(sdkappid, userid)

    def judge(self, holder: Holder, issued_at: int) -> Judgement:
        """What is known of a sig of this holder."""
        return self._known.judge(holder.sdkappid, holder.userid, issued_at)

    def serves(self, current: Current, now: int) -> bool:
        """A cached sig may be handed out without a look into SQL."""
        if not self.stands(current.holder, current.issued_at):
            return False
        return self.fresh or 0 <= now - current.issued_at < self.grace

    def stands(self, holder: Holder, issued_at: int) -> bool:
        """A sig that was brought along may be pushed without a look of its own."""
        return self.judge(holder, issued_at) is Judgement.FREE

    def killed(self, current: Current) -> bool:
        """It was revoked while it was on its way here."""
        return self.judge(current.holder, current.issued_at) is Judgement.DEAD

    def forget(self, now: int) -> None:
        """Let go of what can concern no living sig; a few at a time."""
        self._known.forget(now)
