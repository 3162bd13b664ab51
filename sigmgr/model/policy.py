"""One app's policy: how long sigs live and when things happen to them.

Durations are whole seconds for a life of ninety days. For a shorter life they scale by fraction
(:meth:`Policy.durations`), so a sig of thirty seconds goes through the same stages.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from sigmgr.model import errors
from sigmgr.model.shown import shown
from sigmgr.model.ttl import MAX_TTL, MIN_TTL

HOUR = 3600
DAY = 86400

#: The life that the durations of a policy are written for.
FULL_LIFE = 90 * DAY


class Durations(NamedTuple):
    """A policy's durations, scaled to one lifetime; whole seconds, at least 1 unless noted.

    ``idle_after`` 0 means never dormant. ``ladder`` holds the remaining times at which a warning is
    due, longest first; rungs that scale below one second are left out. ``presence`` is how long a
    room holder counts as online after its stream was last seen; ``mark_seen_every`` is how often a
    gateway marks the user of an open stream as seen.
    """

    warn_lag: int
    min_remaining: int
    emergency: int
    idle_after: int
    presence: int
    mark_seen_every: int
    backoff: tuple[int, ...]
    backoff_cap: int
    resend: tuple[int, ...]
    ladder: tuple[int, ...]
    splay: int


#: The upper bound of all counts.
_MOST = 10**12
#: Fields of a policy that are counts and not seconds.
COUNTS = frozenset({"max_rooms", "max_holders"})

#: The emergency is the policy's share of a life, but at least so many seconds, which saving a short
#: life takes, and at most this part of it: a quarter.
EMERGENCY_LEAST = 3
EMERGENCY_MOST = 4

#: Lifetimes whose durations a policy remembers. An app has a few; requests for others are bounded.
_KNOWN = 1000


@dataclass(frozen=True, kw_only=True)
class Policy:
    """One app's policy; the defaults are DESIGN section 5.

    ``max_rooms``: live room keys of one user; ``max_holders`` and ``new_holders_per_second`` limit
    the rows of the app and the rate of new ones; 0 is no limit.

    It has no slots, so that it can keep its durations: a cache keyed by the policy would hash all
    of its fields for each renewal.
    """

    ttl: int = FULL_LIFE
    room_ttl: int = 6 * HOUR
    renew_from: float = 0.60
    renew_to: float = 0.73
    first_from: float = 0.22
    first_to: float = 0.89
    warn_lag: int = 48 * HOUR
    min_remaining: int = 24 * HOUR
    emergency: float = 0.05
    idle_after: int = 30 * DAY
    backoff: tuple[int, ...] = (60, 120, 300, 600, 1200, 3600)
    backoff_cap: int = 6 * HOUR
    resend: tuple[int, ...] = (60, 300, 1800)
    ladder: tuple[int, ...] = (7 * DAY, 3 * DAY, DAY, 6 * HOUR, HOUR)
    splay: int = 300
    revoke_pause: int = 2
    max_rooms: int = 50
    max_holders: int = 0
    new_holders_per_second: float = 0.0

    def __post_init__(self) -> None:
        check_ttl(self.ttl)
        check_ttl(self.room_ttl)
        windows = (self.renew_from, self.renew_to, self.first_from, self.first_to)
        if not all(0.0 < edge < 1.0 for edge in windows):
            raise errors.BadSettings("the edges of a renewal window lie between 0 and 1")
        if self.renew_from >= self.renew_to or self.first_from >= self.first_to:
            raise errors.BadSettings("a renewal window opens before it closes")
        if not 0.0 < self.emergency < 1.0 - self.renew_to:
            raise errors.BadSettings("the emergency lane opens after the renewal window")
        if not self.backoff or not self.resend or min((*self.backoff, *self.resend)) < 1:
            raise errors.BadSettings("backoff and resend have steps of one second or more")
        if list(self.ladder) != sorted(self.ladder, reverse=True):
            raise errors.BadSettings("the ladder goes from the longest rung to the shortest")
        if self.emergency >= 1.0 - self.first_to:
            raise errors.BadSettings("the emergency lane opens after the first renewal window")
        if self.idle_after < 0 or self.revoke_pause < 1 or self.splay < 0:
            raise errors.BadSettings("durations are not negative")
        limits = (self.max_rooms, self.max_holders, self.new_holders_per_second)
        if not all(0 <= limit <= _MOST for limit in limits):  # nan is not within anything
            raise errors.BadSettings("limits are numbers of things, not negative; 0 is none")

    def ttl_of(self, kind: str) -> int:
        return self.room_ttl if kind == "room" else self.ttl

    def durations(self, ttl: int) -> Durations:
        known = self._known.get(ttl)
        if known is None:
            if len(self._known) >= _KNOWN:
                self._known.clear()
            known = self._known[ttl] = _durations(self, ttl)
        return known

    @cached_property
    def _known(self) -> dict[int, Durations]:
        return {}


def check_ttl(ttl: int) -> int:
    """Return it, or raise :class:`errors.BadTtl`."""
    if isinstance(ttl, bool) or not MIN_TTL <= ttl <= MAX_TTL:
        raise errors.BadTtl(f"a lifetime of {shown(ttl)} s is outside {MIN_TTL} to {MAX_TTL} s")
    return ttl


def emergency_of(ttl: int, share: float) -> int:
    """Seconds before expiry at which the emergency of a life of ``ttl`` seconds begins.
    ``store.holders`` has the same formula in SQL."""
    return min(max(EMERGENCY_LEAST, int(ttl * share)), ttl // EMERGENCY_MOST)


def _durations(policy: Policy, ttl: int) -> Durations:
    life = min(ttl, FULL_LIFE)

    def scaled(seconds: int) -> int:
        return max(1, seconds * life // FULL_LIFE)

    idle_after = scaled(policy.idle_after) if policy.idle_after else 0
    presence = max(2, ttl // 12)
    return Durations(
        warn_lag=scaled(policy.warn_lag),
        min_remaining=max(1, min(policy.min_remaining, ttl // 10)),
        emergency=emergency_of(ttl, policy.emergency),
        idle_after=idle_after,
        presence=presence,
        mark_seen_every=max(1, min(presence // 3, (idle_after or FULL_LIFE) // 4, DAY)),
        backoff=tuple(scaled(step) for step in policy.backoff),
        backoff_cap=scaled(policy.backoff_cap),
        resend=tuple(scaled(step) for step in policy.resend),
        ladder=tuple(
            rung * life // FULL_LIFE for rung in policy.ladder if rung * life >= FULL_LIFE
        ),
        splay=policy.splay * life // FULL_LIFE,
    )
