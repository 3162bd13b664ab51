"""Lookups: what the gateway asks :class:`sigmgr.ports.States`, in batches.

:class:`Wanted` holds what waits to be asked; :class:`Lookups` asks and returns the answers.

Rules:
1. A wave of events becomes a few large lookups, never one for each stream.
2. Who is near expiry is asked for first, whatever waits (rule 6 of the design).
3. One holder that cannot be looked up, say of an app that was removed, does not hold up the
   others of its batch: such a batch is halved until the bad one is alone.
4. Nothing is retried here. A look that finds no answer is reported, and its streams ask again;
   it is never taken for the answer that there is no sig. A late renewal or a mark that fails is
   logged, and comes again by itself.
5. A lookup that hangs is given up after ``timeout`` seconds.

What this module does not do: know of streams, write to clients.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import islice
from typing import NamedTuple, TypeVar

from sigmgr.model import errors
from sigmgr.model.delivery import Ask, MarkSeen, Renew
from sigmgr.model.holder import Holder
from sigmgr.model.sig import Current
from sigmgr.ports import States
from sigmgr.push.logs import log, log_unexpected

#: Renewals asked for at a time by users whose own renewal has not come.
RENEWALS = 16

T = TypeVar("T")


class Wanted:
    """Questions that wait, each once. An event for each kind is set when there are any: ``looked``,
    ``renewed``, ``marked``."""

    def __init__(self, batch: int) -> None:
        self.looked, self.renewed, self.marked = (asyncio.Event() for _ in range(3))
        self._batch = batch
        self._urgent: dict[Holder, None] = {}
        self._looks: dict[Holder, None] = {}
        self._renewals: dict[Holder, int] = {}
        self._seen: dict[Holder, None] = {}

    def __bool__(self) -> bool:
        return bool(self._urgent or self._looks or self._renewals or self._seen)

    def add(self, question: Ask | Renew | MarkSeen) -> None:
        match question:
            case Ask(holder, urgent):
                if urgent:
                    self._looks.pop(holder, None)
                    self._urgent[holder] = None
                elif holder not in self._urgent:
                    self._looks[holder] = None
                self.looked.set()
            case Renew(user, issued_at):
                self._renewals[user] = issued_at
                self.renewed.set()
            case MarkSeen(user):
                self._seen[user] = None
                self.marked.set()

    def looks(self) -> list[Holder]:
        """A batch of holders to look up, urgent ones first."""
        found = list(_taken(self._urgent, self._batch))
        return found + list(_taken(self._looks, self._batch - len(found)))

    def renewals(self) -> dict[Holder, int]:
        """A few users to have renewed, and the issued_at that they hold."""
        return _taken(self._renewals, RENEWALS)

    def seen(self) -> list[Holder]:
        return list(_taken(self._seen, self._batch))


def _taken(queue: dict[Holder, T], most: int) -> dict[Holder, T]:
    taken = dict(islice(queue.items(), most))
    for holder in taken:
        del queue[holder]
    return taken


class Answers(NamedTuple):
    """``found``: for each holder its newest sig, or None where there is none; ``failed``: whom
    the lookup did not reach; ``revoked``: users whose ticket is from before a revocation."""

    found: Sequence[tuple[Holder, Current | None]] = ()
    failed: Sequence[Holder] = ()
    revoked: Sequence[Holder] = ()


class Lookups:
    """``timeout``: seconds for each question."""

    def __init__(self, states: States, timeout: float) -> None:
        self._states = states
        self._timeout = timeout

    async def latest(self, batch: Sequence[Holder], now: int) -> Answers:
        """The newest sig of each. Does not raise for what fails."""
        try:
            async with asyncio.timeout(self._timeout):
                currents = await self._states.latest(batch, now)
        except (errors.UnavailableError, TimeoutError) as error:
            log.warning("lookup failed", action="lookup", error=type(error).__name__)
            return Answers(failed=batch)
        except Exception as error:  # noqa: BLE001 - one bad holder must not stop the rest
            if len(batch) == 1:
                log_unexpected("lookup", error, "a holder cannot be looked up")
                return Answers(failed=batch)
            middle = len(batch) // 2
            one, other = [await self.latest(half, now) for half in (batch[:middle], batch[middle:])]
            return Answers([*one.found, *other.found], [*one.failed, *other.failed])
        pairs = list(zip(batch, currents, strict=True))
        found = [(one, got) for one, got in pairs if not isinstance(got, errors.SigmgrError)]
        failed = {one: got for one, got in pairs if isinstance(got, errors.SigmgrError)}
        if failed:
            names = sorted({type(got).__name__ for got in failed.values()})
            log.warning("lookup failed", action="lookup", error=" ".join(names), count=len(failed))
        return Answers(found, list(failed))

    async def renewed(self, user: Holder, issued_at: int, now: int) -> Answers:
        """The user's state after a renewal, as if its stream had just opened."""
        try:
            async with asyncio.timeout(self._timeout):
                currents = await self._states.opened(user, issued_at, now)
        except errors.TicketRevoked:
            return Answers(revoked=[user])
        except (errors.SigmgrError, TimeoutError) as error:
            log.warning("late renewal failed", action="late-renewal", error=type(error).__name__)
        except Exception as error:  # noqa: BLE001 - one user must not stop the rest
            log_unexpected("late-renewal", error, "a late renewal failed")
        else:
            return Answers([(current.holder, current) for current in currents])
        return Answers()

    async def mark_seen(self, users: Sequence[Holder], now: int) -> None:
        try:
            async with asyncio.timeout(self._timeout):
                await self._states.mark_seen(users, now)
        except (errors.SigmgrError, TimeoutError) as error:
            log.warning(
                "marking users as seen failed", action="mark-seen", error=type(error).__name__
            )
        except Exception as error:  # noqa: BLE001 - the next one comes by itself
            log_unexpected("mark-seen", error, "users could not be marked as seen")
