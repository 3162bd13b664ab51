"""The rules of time for one sig. All pure; ``now`` and drawn numbers are arguments.

The rules (numbers of DESIGN section 4):
- (4) ``issued_at < renew_at < warn_after < expires_at``; ``renew_at`` is drawn once and stored.
- (2) the next ``issued_at`` is later than the last one, whatever the clock does.
- (3) a renewal never shortens: the new expiry is later than the old one.
- (5) a sig with less than ``min_remaining`` left is served only where no better can be made.
- (10) backoff grows, is capped, jittered and stored; it never outlasts the emergency.
- (12) a rung of the warnings ladder fires once per crossing, however late the look.
- After a mass event the first generation is drawn over 22 to 89 % of life, once; otherwise its
  spike would return in every generation.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from sigmgr.model import errors
from sigmgr.model.holder import MAX_UINT32
from sigmgr.model.policy import Durations, Policy


class Times(NamedTuple):
    """The four times of a sig, whole Unix seconds, strictly rising."""

    issued_at: int
    renew_at: int
    warn_after: int
    expires_at: int


def plan(
    policy: Policy, issued_at: int, ttl: int, draw: float, *, first_generation: bool = False
) -> Times:
    """The times of a sig issued now. ``draw``: in [0, 1), drawn once; ``first_generation`` spreads
    the first renewal after an import or a campaign. Raises :class:`errors.BadTime` where the expiry
    does not fit into 32 bits."""
    expires_at = issued_at + ttl
    if issued_at <= 0 or expires_at > MAX_UINT32:
        raise errors.BadTime(f"a sig issued at {issued_at} for {ttl} s does not fit into 32 bits")
    lo, hi = (
        (policy.first_from, policy.first_to)
        if first_generation
        else (policy.renew_from, policy.renew_to)
    )
    renew_at = issued_at + int(ttl * (lo + (hi - lo) * draw))
    renew_at = min(max(renew_at, issued_at + 1), expires_at - 2)
    warn_after = min(renew_at + policy.durations(ttl).warn_lag, expires_at - 1)
    return Times(issued_at, renew_at, warn_after, expires_at)


def next_issued_at(now: int, last: int) -> int:
    """The ``issued_at`` of a sig that replaces one of ``last``: later than both."""
    return max(now, last + 1)


def same_second(now: int, last: int) -> bool:
    """Whether a reissue gets the last result: it comes in the same second, or by a slower clock."""
    return now <= last


def in_emergency(durations: Durations, expires_at: int, now: int) -> bool:
    """Less than the emergency share of life is left (rule 6)."""
    return expires_at - now < durations.emergency


def may_serve(durations: Durations, expires_at: int, now: int) -> bool:
    """Enough is left to serve the sig without looking for a better one (rule 5)."""
    return expires_at - now >= durations.min_remaining


def is_idle(durations: Durations, kind: str, seen_at: int, now: int) -> bool:
    """The holder was not seen for so long that it is not renewed. A room holder needs an open
    stream, now or a moment ago."""
    if kind == "room":
        return now - seen_at > durations.presence
    return durations.idle_after > 0 and now - seen_at > durations.idle_after


def backoff(durations: Durations, failures: int, draw: float) -> int:
    """Seconds to wait after the ``failures``-th failure in a row (1 is the first): by the table,
    then doubling, capped, and spread by +/-50 % with ``draw`` in [0, 1)."""
    table = durations.backoff
    if failures <= len(table):
        step = table[max(failures, 1) - 1]
    else:
        step = table[-1] * 2 ** min(failures - len(table), 20)
    return max(1, int(min(step, durations.backoff_cap) * (0.5 + draw)))


def retry_at(durations: Durations, expires_at: int, failures: int, draw: float, now: int) -> int:
    """When to try again after a failure: before the emergency, at its start at the latest; within
    it, at least twenty times in the time left."""
    wait = backoff(durations, failures, draw)
    left = expires_at - now
    if left <= 0:
        return now + wait
    if left < durations.emergency:
        return now + max(1, min(wait, left // 20))
    return now + max(1, min(wait, left - durations.emergency + 1))


def rungs_crossed(ladder: Sequence[int], expires_at: int, now: int) -> int:
    """How many rungs of the ladder are crossed, with expiry as the last one."""
    left = expires_at - now
    return sum(left <= rung for rung in ladder) + (left <= 0)
