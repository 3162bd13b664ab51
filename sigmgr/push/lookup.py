"""What the hub wants to know of :class:`sigmgr.ports.States`, asked in batches.

Rules:
1. A wave of events becomes a few large lookups, never one for each stream. Two are under
   way at a time: the answer of one travels while that of the other is worked on.
2. Who is near expiry is asked for first, whatever waits (rule 6 of the design).
3. One holder that cannot be looked up, say of an app that was removed, must not hold up the
   others of its batch: such a batch is halved until the bad one is alone.
4. Nothing is retried here. What finds no answer is reported, and its streams ask again by
   the wheel.
5. A lookup that hangs is given up after ``timeout`` seconds.

What this module does not do: know of streams, write to clients.
"""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any, Protocol

from sigmgr.model import errors
from sigmgr.model.holder import Holder
from sigmgr.model.sig import Current
from sigmgr.ports import Clock, States
from sigmgr.telemetry import get_logger

log: Any = get_logger("sigmgr.push")

#: Lookups under way at a time.
LANES = 2
#: Renewals asked for at a time by users whose own renewal has not come.
RESCUES = 16


def trouble(action: str, error: BaseException, sentence: str) -> None:
    """Log an unexpected error without the values of locals, which may hold a sig."""
    trace = "".join(traceback.format_tb(error.__traceback__))
    log.error(sentence, action=action, error=type(error).__name__, trace=trace)


class Finder(Protocol):
    """Who hears the answers."""

    def found(
        self, answers: Iterable[tuple[Holder, Current | None]], *, rescued: bool = False
    ) -> None: ...

    def unanswered(self, holder: Holder) -> None: ...

    def denied(self, user: Holder) -> None: ...


class Lookups:
    """Questions that wait, and the work of asking them. ``bell`` rings when there are any."""

    def __init__(
        self, states: States, clock: Clock, finder: Finder, *, batch: int, timeout: float
    ) -> None:
        self.bell = asyncio.Event()
        self._states = states
        self._clock = clock
        self._finder = finder
        self._batch = batch
        self._timeout = timeout
        self._urgent: dict[Holder, None] = {}
        self._wanted: dict[Holder, None] = {}
        self._rescues: dict[Holder, int] = {}
        self._seen: dict[Holder, None] = {}

    def ask(self, holder: Holder, *, urgent: bool = False) -> None:
        """Look for the newest sig of this holder soon."""
        if urgent:
            self._wanted.pop(holder, None)
            self._urgent[holder] = None
        elif holder not in self._urgent:
            self._wanted[holder] = None
        self.bell.set()

    def rescue(self, user: Holder, issued_at: int) -> None:
        """Have the user's sig renewed as if a stream had opened: its own renewal is late."""
        self._rescues[user] = issued_at
        self.bell.set()

    def touch(self, user: Holder) -> None:
        """Say that this user has a stream open."""
        self._seen[user] = None
        self.bell.set()

    async def work(self) -> None:
        """Ask until nothing waits. Lets others run between batches."""
        while self._urgent or self._wanted or self._rescues or self._seen:
            lanes = (self._look_on() for _ in range(LANES))
            await asyncio.gather(*lanes, self._rescue_on(), self._touch_on())

    async def _look_on(self) -> None:
        while batch := self._next_batch():
            await self._look(batch)
            await asyncio.sleep(0)

    def _next_batch(self) -> list[Holder]:
        batch: list[Holder] = []
        for queue in (self._urgent, self._wanted):
            taken = list(islice(queue, self._batch - len(batch)))
            for holder in taken:
                del queue[holder]
            batch += taken
        return batch

    async def _look(self, batch: Sequence[Holder]) -> None:
        try:
            async with asyncio.timeout(self._timeout):
                answers = await self._states.latest(batch, self._clock())
        except (errors.UnavailableError, TimeoutError) as error:
            log.warning("lookup failed", action="lookup", error=type(error).__name__)
            self._give_up(batch)
        except Exception as error:  # noqa: BLE001 - one bad holder must not stop the rest
            if len(batch) == 1:
                trouble("lookup", error, "a holder cannot be looked up")
                self._give_up(batch)
                return
            middle = len(batch) // 2
            await self._look(batch[:middle])
            await self._look(batch[middle:])
        else:
            self._finder.found(zip(batch, answers, strict=True))

    def _give_up(self, batch: Sequence[Holder]) -> None:
        for holder in batch:
            self._finder.unanswered(holder)

    async def _rescue_on(self) -> None:
        while users := list(islice(self._rescues.items(), RESCUES)):
            for user, _ in users:
                del self._rescues[user]
            await asyncio.gather(*(self._rescue_one(user, issued_at) for user, issued_at in users))

    async def _rescue_one(self, user: Holder, issued_at: int) -> None:
        try:
            async with asyncio.timeout(self._timeout):
                currents = await self._states.opened(user, issued_at, self._clock())
        except errors.TicketRevoked:
            self._finder.denied(user)
        except (errors.SigmgrError, TimeoutError) as error:
            log.warning("rescue failed", action="rescue", error=type(error).__name__)
        except Exception as error:  # noqa: BLE001 - one user must not stop the rest
            trouble("rescue", error, "a late renewal failed")
        else:
            self._finder.found(((c.holder, c) for c in currents), rescued=True)

    async def _touch_on(self) -> None:
        while users := list(islice(self._seen, self._batch)):
            for user in users:
                del self._seen[user]
            await self._touch(users)

    async def _touch(self, users: Sequence[Holder]) -> None:
        try:
            async with asyncio.timeout(self._timeout):
                await self._states.seen(users, self._clock())
        except (errors.SigmgrError, TimeoutError) as error:
            log.warning("touch failed", action="touch", error=type(error).__name__)
        except Exception as error:  # noqa: BLE001 - the next touch comes by itself
            trouble("touch", error, "users could not be marked as seen")
