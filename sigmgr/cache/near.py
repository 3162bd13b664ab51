"""The near cache: ready answers in this process, good only while we hear of every change.

Rules:
1. ``get`` is a dict lookup and two comparisons; it awaits nothing.
2. An event makes older answers of its holder vanish, and leaves a floor: a slow reader that
   read the old sig before the event cannot put it back after it. Floors are bounded; they
   outlive any read by far, not for ever.
3. Where events were lost (``resync``) everything goes, and nothing is kept for ``settle``
   seconds, until the reads that began before are over.
4. While the channel is down, what is here is good for ``blind`` seconds more and nothing is
   added. Until the channel was up once, nothing is kept at all.
5. Nothing is answered past the second that :meth:`trust` names: without a look into SQL a
   revocation may be unknown here.

What this does not do: know Redis, or read a clock.
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
    """Values per holder. Fulfils ``ports.EventListener``; ``channel`` is told by ``ShardChannels``.

    ``max_entries`` 0 keeps nothing.
    """

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
        # The seconds from which nothing here may be served, for the channel's sake and for
        # SQL's, and the earlier of the two.
        self._channel_until = _NOT_YET
        self._sql_until = _FOR_EVER
        self._trusted_until = _NOT_YET
        # While settling: when it ends, _NOT_YET until a get has brought the time.
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
        """Keep a value unless a newer one is here or was heard of."""
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
        """Drop what is older than these events."""
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
        """Drop everything: lost events are rare, and no shard is worth an index here."""
        self._entries.clear()
        self._settling = True
        self._settled_at = _NOT_YET
        self._use_channel_until(_NOT_YET)

    def revoked(self, revocation: Revocation) -> None:
        """Drop what it killed, and let nothing of it come back."""
        if revocation.wide:
            self.resync(0)
        else:
            self.receive(0, [revocation.event(revocation.until)])

    def trust(self, until: int) -> None:
        """SQL was seen: what is here is good until that second, for all that it could say."""
        self._sql_until = until
        self._trusted_until = min(self._channel_until, until)

    def channel(self, up: bool, now: int) -> None:
        """The shard channels went up (all they missed is repaired or told) or down."""
        self._up = up
        if not up:
            self._use_channel_until(min(self._channel_until, now + self._blind))
        elif not self._settling:
            self._use_channel_until(_FOR_EVER)

    def _use_channel_until(self, second: int) -> None:
        self._channel_until = second
        self._trusted_until = min(second, self._sql_until)

    def _look_up(self, now: int) -> None:
        """The slow side of ``get``: see whether settling is over."""
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
        # Anew at the end: who is heard of last is forgotten last.
        floors[holder] = max(floor, floors.pop(holder, 0))
        if len(floors) > self._max_floors:
            floors.popitem(last=False)
