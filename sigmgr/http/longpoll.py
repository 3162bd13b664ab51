"""Requests that wait for a holder's next sig, woken by what gateways hear.

A :class:`ports.Listener`: ``heard`` wakes who waits for the event's user, ``missed`` wakes
everybody, since nobody knows whom the lost events were about. Waking says only "look
again": the sig itself is always read from cache or store. A waiter also looks by itself
every few seconds, so a lost wake costs a moment and never a sig.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence

from sigmgr.model.event import Event, EventType
from sigmgr.model.holder import Holder
from sigmgr.model.revocation import Revocation

_WAKING = frozenset({EventType.ISSUED.value, EventType.RENEWED.value, EventType.REVOKED.value})


class Waiters:
    """Who waits for whom. ``relook`` is how often a waiter looks unasked, in seconds."""

    def __init__(self, monotonic: Callable[[], float], *, relook: float = 5.0) -> None:
        self._monotonic = monotonic
        self._relook = relook
        self._waiting: dict[Holder, set[asyncio.Future[None]]] = {}
        self._closed = False

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values()))

    def heard(self, shard: int, events: Sequence[Event], sigs: Sequence[bytes] = ()) -> None:
        """Wake who waits for a user that got, or lost, a sig."""
        del shard
        if not self._waiting:
            return
        for event in events:
            if event.type in _WAKING:
                _wake(self._waiting.get(event.holder.user, ()))

    def missed(self, shard: int) -> None:
        """Wake everybody: any of them may have missed its event."""
        del shard
        for waiting in self._waiting.values():
            _wake(waiting)

    def revoked(self, revocation: Revocation) -> None:
        """Wake those whom it concerns; all, where it names no user."""
        if revocation.wide:
            self.missed(0)
        else:
            _wake(self._waiting.get(Holder(revocation.sdkappid, revocation.userid), ()))

    def close(self) -> None:
        """The process is about to stop: every wait ends now, and new ones end at once."""
        self._closed = True
        self.missed(0)

    async def looks(self, user: Holder, wait: float) -> AsyncGenerator[None, None]:
        """Yields at once, and then each time it is worth looking again until ``wait``
        seconds have passed. One is registered before each look, so nothing slips between."""
        until = self._monotonic() + wait
        while True:
            woken = asyncio.get_running_loop().create_future()
            waiting = self._waiting.setdefault(user, set())
            waiting.add(woken)
            try:
                yield
                left = until - self._monotonic()
                if self._closed or left <= 0:
                    return
                await asyncio.wait([woken], timeout=min(left, self._relook))
            finally:
                waiting.discard(woken)
                if not waiting and self._waiting.get(user) is waiting:
                    del self._waiting[user]


def _wake(waiting: set[asyncio.Future[None]] | tuple[()]) -> None:
    for future in waiting:
        if not future.done():
            future.set_result(None)
