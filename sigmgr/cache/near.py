"""The near cache: answers kept in this process, valid only while it receives every change.

Rules:
1. ``get`` is a dict lookup and two comparisons; it awaits nothing.
2. An event removes older answers of its holder, and leaves a floor, so that a slow reader cannot
   put back what it read before the event. The number of floors is limited; each outlives any read.
3. Where events were lost (``resync``) everything is removed, and nothing is kept for ``settle``
   seconds, until the reads that began before are over.
4. While the channel is down, entries are valid for ``blind`` more seconds and none is added. Before
   the channel is up for the first time nothing is kept.
5. Nothing is served after the second of :meth:`trust`: without a look into SQL a revocation may be
   unknown here.

What this module does not do: know Redis, or read a clock.
"""

from __future__ import annotations

import sys
from collections import OrderedDict
from collections.abc import Sequence
from typing import Final, Generic, TypeVar

from sigmgr.model.event import Event, EventType
from sigmgr.model.holder import Holder
from sigmgr.model.revocation import Revocation

V = TypeVar("V")

_FOR_EVER: Final = sys.maxsize
_NOT_YET: Final = 0
_CHANGES: Final = frozenset({EventType.ISSUED.value, EventType.RENEWED.value})


class NearCache(Generic[V]):
    """Values per holder; ``max_entries`` 0 keeps nothing. Fulfils ``ports.EventListener``;
    ``ShardChannels`` calls ``channel``."""

    def __init__(
        self, *, max_entries: int = 100_000, floors: int = 65_536, settle: int = 2, blind: int = 5
    ) -> None:
        self._max_entries = max_entries
        self._max_floors = floors
        self._settle = settle
        self._blind = blind
        self._entries: OrderedDict[Holder, tuple[int, int, V]] = OrderedDict()
        self._floors: OrderedDict[Holder, int] = OrderedDict()
        self._up = False
        # The seconds from which nothing may be served, because of the channel and because of SQL,
        # and the earlier of the two.
        self._channel_until = _NOT_YET
        self._sql_until = _FOR_EVER
        self._trusted_until = _NOT_YET
        # When settling ends; _NOT_YET until a get has brought the time.
        self._settling = False
        self._settled_at = _NOT_YET

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, holder: Holder, now: int) -> V | None:
        if now >= self._trusted_until:
            self._look_up(now)
            return None
        entry = self._entries.get(holder)
        if entry is None or now >= entry[0]:
            return None
        return entry[2]

    def put(self, holder: Holder, value: V, issued_at: int, fresh_until: int) -> None:
        """Keep a value unless a newer one is kept or known."""
        if not self._up or self._settling or issued_at < self._floors.get(holder, 0):
            return
        entries = self._entries
        known = entries.pop(holder, None)
        if known is not None and known[1] > issued_at:
            entries[holder] = known
            return
        entries[holder] = (fresh_until, issued_at, value)
        if len(entries) > self._max_entries:
            entries.popitem(last=False)

    def receive(self, shard: int, events: Sequence[Event], sigs: Sequence[bytes] = ()) -> None:
        entries = self._entries
        for event in events:
            if event.type in _CHANGES:
                floor = event.issued_at
            elif event.type == EventType.REVOKED.value:
                floor = event.issued_at + 1
            else:
                continue
            holder = event.holder
            self._raise_floor(holder, floor)
            entry = entries.get(holder)
            if entry is not None and entry[1] < floor:
                del entries[holder]

    def resync(self, shard: int) -> None:
        """Drop everything: lost events are rare, so there is no index by shard."""
        self._entries.clear()
        self._settling = True
        self._settled_at = _NOT_YET
        self._use_channel_until(_NOT_YET)

    def revoked(self, revocation: Revocation) -> None:
        """Drop what it revokes, and keep it from coming back."""
        if revocation.wide:
            self.resync(0)
        else:
            self.receive(0, [revocation.event(revocation.until)])

    def trust(self, until: int) -> None:
        """SQL was read: the entries are valid until that second as far as SQL is concerned."""
        self._sql_until = until
        self._trusted_until = min(self._channel_until, until)

    def channel(self, up: bool, now: int) -> None:
        """The shard channels went up (all that was missed is repaired or resynced) or down."""
        self._up = up
        if not up:
            self._use_channel_until(min(self._channel_until, now + self._blind))
        elif not self._settling:
            self._use_channel_until(_FOR_EVER)

    def _use_channel_until(self, second: int) -> None:
        self._channel_until = second
        self._trusted_until = min(second, self._sql_until)

    def _look_up(self, now: int) -> None:
        """The slow path of ``get``: see whether settling is over."""
        if not self._settling:
            return
        if self._settled_at == _NOT_YET:
            self._settled_at = now + self._settle
        elif now >= self._settled_at:
            self._settling = False
            if self._up:
                self._use_channel_until(_FOR_EVER)

    def _raise_floor(self, holder: Holder, floor: int) -> None:
        floors = self._floors
        # Inserted anew at the end: the oldest floor is dropped first.
        floors[holder] = max(floor, floors.pop(holder, 0))
        if len(floors) > self._max_floors:
            floors.popitem(last=False)
