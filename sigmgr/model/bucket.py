"""Token buckets: so much at once, and so much a second after that; one for each key.

Rules:
1. Pure: the caller says what time it is, in seconds of any clock.
2. Callers come a little out of order: who read the clock up to ``LATE`` seconds before the last
   one takes at the last one's time. Otherwise the seconds between them come back twice; an app
   with 200 new holders a second got 300 when batches of several seconds overlapped. A time that
   lies further back is that of a clock that was set, and counts from there.
3. Memory is bounded. Where there are more keys than ``keys``, the one that was asked for the
   longest ago is forgotten, and its bucket is full again.
"""

from __future__ import annotations

from collections.abc import Hashable

#: Seconds between two readings of a clock that requests of one moment may have.
LATE = 60.0


class Buckets:
    """``burst``: what a full bucket holds; ``rate``: what comes back in a second."""

    def __init__(self, *, burst: float, rate: float, keys: int = 10_000) -> None:
        self.burst = burst
        self.rate = rate
        self._most = keys
        self._levels: dict[Hashable, tuple[float, float]] = {}

    def __len__(self) -> int:
        return len(self._levels)

    def level(self, key: Hashable, now: float) -> float:
        """What could be taken now."""
        known = self._levels.get(key)
        if known is None:
            return self.burst
        left, at = known
        return min(self.burst, left + max(0.0, now - at) * self.rate)

    def take(self, key: Hashable, now: float, most: int = 1) -> int:
        """Take up to so many; answers how many there were."""
        level = self.level(key, now)
        taken = min(most, int(level))
        # Anew at the end: the first is the one asked for the longest ago.
        _, last = self._levels.pop(key, (level, now))
        self._levels[key] = (level - taken, now if last > now + LATE else max(last, now))
        if len(self._levels) > self._most:
            del self._levels[next(iter(self._levels))]
        return taken

    def wait(self, key: Hashable, now: float) -> float:
        """Seconds until one can be taken."""
        return max(0.0, 1.0 - self.level(key, now)) / self.rate
