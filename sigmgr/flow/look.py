"""The look: one short read of SQL a second, for what a process must know at once.

It reads new revocations, changes of keys and API tokens, and the database's clock. Without a look a
process knows and reports how far it is behind SQL in what it must not serve.

A revocation may become visible later than its own second: its transaction may take up to
``REVOKE_LIMIT`` (``revoke`` ensures that), and the database's clock may step by the tolerance at a
fail-over. So each look asks for what is new since ``LOOK_BACK`` seconds before the last one.

A look counts when changed keys are loaded, too. What it found of revocations and tokens is known
even where it waits for those keys in vain.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from sigmgr.flow.revocations import Revocations
from sigmgr.health import Health
from sigmgr.model import errors
from sigmgr.ports import LookResult, Looks, Signer
from sigmgr.telemetry import get_logger

log = get_logger("sigmgr.look")

#: Seconds by the database's clock from the write of a revocation to its commit.
REVOKE_LIMIT: Final = 10
#: More than that plus the clock's tolerance of 5 s.
LOOK_BACK: Final = REVOKE_LIMIT + 10
#: Seconds for which a look waits for changed keys.
KEYS_LIMIT: Final = 1.0
#: Rows of a page of the first load.
PAGE: Final = 5000
#: The name of this part for ``Health``.
PART: Final = "revocations"


@dataclass(eq=False, repr=False)
class Look:
    """``answered`` gets the database's second when it arrives, and how long that took; ``tokens``
    when the look began and whether any API token changed since the last one; ``learned`` the second
    again when all is learned; ``keys_changed`` is called when a key has changed its state and the
    new states are loaded."""

    looks: Looks
    revocations: Revocations
    signer: Signer
    monotonic: Callable[[], float]
    answered: Callable[[float, float], None] = lambda second, took: None
    tokens: Callable[[float, bool], None] = lambda began, changed: None
    learned: Callable[[float], None] = lambda second: None
    keys_changed: Callable[[], None] = lambda: None
    health: Health | None = None

    def __post_init__(self) -> None:
        self._keys: str | None = None
        self._loading: tuple[str, asyncio.Task[None]] | None = None
        self._tokens: str | None = None
        self._since: int | None = None

    async def load(self, now: int) -> int:
        """Learn all that matters now; answers how many. Raises StoreUnavailable."""
        # The first look comes before the pages, so that no later revocation is missed.
        started = self.monotonic()
        look = await self._ask(2**62)
        count, after = 0, None
        while page := await self.looks.revocations(after, PAGE, now):
            self.revocations.learn(page)
            count, after = count + len(page), page[-1]
        self._keys, self._since = look.keys, int(look.second) - LOOK_BACK
        self._see_tokens(look.tokens, started)
        self.revocations.looked(started)
        self.learned(look.second)
        log.info("revocations that still matter were loaded", action="loaded", count=count)
        return count

    async def once(self, now: int) -> None:
        """One look. Raises StoreUnavailable, after reporting how long this process may go on."""
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
        started = self.monotonic()
        look = await self._ask(self._since)
        self.revocations.learn(look.revocations)
        self._see_tokens(look.tokens, started)
        while look.keys != self._keys:
            await self._load_keys(look.keys)
        self._since = int(look.second) - LOOK_BACK
        self.revocations.looked(started)
        self.revocations.forget(now)
        self.learned(look.second)

    async def _ask(self, since: int) -> LookResult:
        began = self.monotonic()
        look = await self.looks.look(since)
        self.answered(look.second, self.monotonic() - began)
        return look

    async def _load_keys(self, mark: str) -> None:
        """Load keys and states. A key that does not open does not stop the others; a load that
        takes long goes on beside the next looks. Raises StoreUnavailable."""
        if self._loading is None:
            self._loading = mark, asyncio.create_task(self.signer.refresh(), name="look: keys")
        mark, loading = self._loading
        await asyncio.wait({loading}, timeout=KEYS_LIMIT)
        if not loading.done():
            raise errors.StoreUnavailable("changed keys were not loaded in time")
        self._loading = None
        try:
            loading.result()
        except errors.SetupError as error:
            log.warning("a key does not open", action="keys-not-loaded", code=error.code)
        self._keys = mark
        self.keys_changed()

    def _see_tokens(self, mark: str, began: float) -> None:
        changed, self._tokens = mark != self._tokens, mark
        self.tokens(began, changed)

    def _report(self) -> None:
        """Report the age of the knowledge for /readyz, and what is served meanwhile."""
        if self.health is None:
            return
        age, grace = self.revocations.age, self.revocations.grace
        if age <= min(5.0, grace):
            self.health.report(PART)
        elif age <= grace:
            self.health.report(
                PART,
                "degraded: SQL was not seen for a while; cached sigs are served until"
                f" revocation.grace ({grace:g} s) has passed",
            )
        else:
            self.health.report(
                PART,
                f"failed: SQL was not seen for more than revocation.grace ({grace:g} s); what a"
                " lost revocation could concern is not served",
            )
