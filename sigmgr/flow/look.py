"""The look: each second, one short read tells this process what must not wait.

That is: what was revoked since, whether a key changed its state, and the database's clock.
With it a process is at most a second or so behind SQL in what it must not serve; without it,
it knows how far behind it is, and says so.

A revocation may become visible later than its own second says: its transaction may have
taken up to ``REVOKE_LIMIT`` (``revoke`` makes sure), and the database's clock may step by the
tolerance at a fail-over. So each look asks for what is new since ``LOOK_BACK`` seconds before
the last one.

What this module does not do: schedule itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from sigmgr.flow.revocations import Revocations
from sigmgr.health import Health
from sigmgr.model import errors
from sigmgr.ports import LookResult, Looks, Signer
from sigmgr.telemetry import get_logger

log = get_logger("sigmgr.look")

#: Seconds by the database's clock from the write of a revocation to its commit.
REVOKE_LIMIT: Final = 10
#: More than that and the clock's tolerance of 5 s.
LOOK_BACK: Final = REVOKE_LIMIT + 10
#: Rows of a page while all are loaded.
PAGE: Final = 5000
#: The part of a process that this is, for ``Health``.
PART: Final = "revocations"


class Look:
    """``answered`` is told the database's second in the moment it comes, and how long that
    took; ``tokens`` when the look began and whether any API token changed since the one
    before; ``learned`` the second once more when all is learned; ``keys_changed`` is called when
    the state of any key has changed and the new states are loaded."""

    def __init__(
        self,
        *,
        looks: Looks,
        revocations: Revocations,
        signer: Signer,
        monotonic: Callable[[], float],
        answered: Callable[[float, float], None] = lambda second, took: None,
        tokens: Callable[[float, bool], None] = lambda began, changed: None,
        learned: Sequence[Callable[[float], None]] = (),
        keys_changed: Sequence[Callable[[], None]] = (),
        health: Health | None = None,
    ) -> None:
        self._looks = looks
        self._revocations = revocations
        self._signer = signer
        self._monotonic = monotonic
        self._answered = answered
        self._notify_tokens = tokens
        self._learned = learned
        self._keys_changed = keys_changed
        self._health = health
        self._keys: int | None = None
        self._tokens: int | None = None
        self._since: int | None = None

    async def load(self, now: int) -> int:
        """Learn all that matters now; answers how many. Raises StoreUnavailable."""
        # The first look comes before the pages: what is written meanwhile is read on.
        started = self._monotonic()
        look = await self._ask(2**62)
        count, after = 0, None
        while page := await self._looks.revocations(after, PAGE, now):
            self._revocations.learn(page)
            count, after = count + len(page), page[-1]
        self._keys, self._since = look.keys, int(look.second) - LOOK_BACK
        self._see_tokens(look.tokens, started)
        self._revocations.looked(started)
        self._notify_learned(look.second)
        log.info("revocations that still matter were loaded", action="loaded", count=count)
        return count

    async def once(self, now: int) -> None:
        """One look. Raises StoreUnavailable, and says how long this process may go on."""
        try:
            await self._look(now)
        except errors.UnavailableError:
            self._report()
            raise
        self._report()

    async def _look(self, now: int) -> None:
        if self._since is None:
            await self.load(now)
            return
        started = self._monotonic()
        look = await self._ask(self._since)
        self._revocations.learn(look.revocations)
        if look.keys != self._keys:
            await self._load_keys(look.keys)
        self._see_tokens(look.tokens, started)
        self._since = int(look.second) - LOOK_BACK
        self._revocations.looked(started)
        self._revocations.forget(now)
        self._notify_learned(look.second)

    async def _ask(self, since: int) -> LookResult:
        began = self._monotonic()
        look = await self._looks.look(since)
        self._answered(look.second, self._monotonic() - began)
        return look

    async def _load_keys(self, mark: int) -> None:
        """A taint counts from here on. One key that does not open is no news and stops none."""
        try:
            await self._signer.refresh()
        except errors.SetupError as error:
            log.warning("a key does not open", action="keys-not-loaded", code=error.code)
        self._keys = mark
        for changed in self._keys_changed:
            changed()

    def _see_tokens(self, mark: int, began: float) -> None:
        changed, self._tokens = mark != self._tokens, mark
        self._notify_tokens(began, changed)

    def _notify_learned(self, second: float) -> None:
        for listener in self._learned:
            listener(second)

    def _report(self) -> None:
        """For /readyz: the age of what is known, and what is served meanwhile."""
        if self._health is None:
            return
        age, grace = self._revocations.age, self._revocations.grace
        if age <= min(5.0, grace):
            self._health.report(PART)
        elif age <= grace:
            self._health.report(
                PART,
                "degraded: SQL was not seen for a while; cached sigs are served until"
                f" revocation.grace ({grace:g} s) has passed",
            )
        else:
            self._health.report(
                PART,
                f"failed: SQL was not seen for more than revocation.grace ({grace:g} s); what a"
                " lost revocation could concern is not served",
            )
