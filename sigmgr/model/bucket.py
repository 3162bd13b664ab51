"""Token buckets, one for each key.

Rules:
1. Pure: the caller passes the time, in seconds of any clock.
2. Callers may come a little out of order. A time up to ``LATE`` seconds before the last one counts
   as the last one; otherwise those seconds would refill the bucket twice. A time further back means
   that the clock was set, and counts from there.
3. Memory is bounded. With more than ``keys`` keys the least recently used one is forgotten, and its
   bucket is full again.
"""

from __future__ import annotations

from collections.abc import Hashable

#: Seconds by which concurrent requests may differ in their reading of a clock.
LATE = 60.0


class Buckets:
    """``burst``: what a full bucket holds; ``rate``: what is added in a second."""

    def __init__(self, *, burst: float, rate: float, keys: int = 10_000) -> None:
        self.burst = burst
        self.rate = rate
        self._most = keys
        self._levels: dict[Hashable, tuple[float, float]] = {}

    def __len__(self) -> int:
        return len(self._levels)

    def level(self, key: Hashable, now: float) -> float:
        known = self._levels.get(key)
        if known is None:
            return self.burst
        left, at = known
        return min(self.burst, left + max(0.0, now - at) * self.rate)

    def take(self, key: Hashable, now: float, most: int = 1) -> int:
        """Take up to ``most``; answers how many were taken."""
        level = self.level(key, now)
        taken = min(most, int(level))
        # Inserted anew at the end: the first key is the least recently used one.
        _, last = self._levels.pop(key, (level, now))
        self._levels[key] = (level - taken, now if last > now + LATE else max(last, now))
        if len(self._levels) > self._most:
            del self._levels[next(iter(self._levels))]
        return taken

    def wait(self, key: Hashable, now: float) -> float:
        return max(0.0, 1.0 - self.level(key, now)) / self.rate
