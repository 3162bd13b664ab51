"""A timer wheel of whole-second slots for everything that streams do by the clock.

Rules:
1. An item lies in one slot at most: that of its earliest deadline. Adding, moving and
   removing cost O(1), whatever the number of streams; a timer of the event loop for each
   would cost a heap of callbacks.
2. Wheel time never goes back and never waits. When the wall clock steps back, the wheel goes on
   from where it was, so a step of minutes stalls no heartbeat; when it leaps ahead, all
   that lies between is due at once.

What this module does not do: read a clock, or call anybody.
"""

from __future__ import annotations

from typing import Generic, Protocol, TypeVar


class Timed(Protocol):
    """What lies in a wheel: it remembers its slot. 0 means it lies in none."""

    due: int


T = TypeVar("T", bound=Timed)


class Wheel(Generic[T]):
    """``now`` is wheel time; deadlines are given in it, as ``wheel.now + seconds``."""

    def __init__(self, now: int) -> None:
        self.now = now
        self._ahead = 0
        self._slots: dict[int, set[T]] = {}

    def put(self, item: T, due: int) -> None:
        """Put the item into the slot of ``due``, out of any other; the next one at the earliest."""
        due = max(due, self.now + 1)
        if item.due == due:
            return
        self.remove(item)
        item.due = due
        slot = self._slots.get(due)
        if slot is None:
            self._slots[due] = {item}
        else:
            slot.add(item)

    def remove(self, item: T) -> None:
        """Take the item out, if it is in."""
        slot = self._slots.get(item.due)
        if slot is not None:
            slot.discard(item)
            if not slot:
                del self._slots[item.due]
        item.due = 0

    def advance(self, now: int) -> list[T]:
        """Move to the wall clock's ``now`` and take out all that is due, earliest first."""
        then = now + self._ahead
        if then < self.now:
            self._ahead += self.now - then
            then = self.now
        if then - self.now <= len(self._slots):
            reached = [second for second in range(self.now + 1, then + 1) if second in self._slots]
        else:
            reached = sorted(second for second in self._slots if second <= then)
        self.now = then
        found: list[T] = []
        for second in reached:
            found.extend(self._slots.pop(second))
        for item in found:
            item.due = 0
        return found
