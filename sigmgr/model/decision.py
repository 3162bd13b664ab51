"""Decisions: chains of small named checks that answer (verdict, reason, sentence).

The first check with an answer decides. The request chain decides for a holder whose sig is asked
for, the tick chain for a holder that is due. Both are pure: keys, policy, record and ``now`` come
in, a :class:`Decision` goes out. Its reason is also that of the record and of its event; its
sentence is for people.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import NamedTuple

from sigmgr.model import timing
from sigmgr.model.policy import Policy
from sigmgr.model.reference import APART
from sigmgr.model.revocation import WIDE_MARGIN
from sigmgr.model.sig import KeyRef, KeyState, Reason, Record


class Verdict(StrEnum):
    """KEEP the sig, REISSUE it, let the holder REST (dormant), or WAIT (after a revocation)."""

    KEEP = "keep"
    REISSUE = "reissue"
    REST = "rest"
    WAIT = "wait"


class Decision(NamedTuple):
    verdict: Verdict
    reason: Reason | None
    sentence: str


class Input(NamedTuple):
    """The input of a check. ``key`` is the app's active key, ``key_state`` the state of the key
    that signed the current sig (None: unknown), ``privileges`` those asked for a room (0: none)."""

    record: Record
    now: int
    policy: Policy
    key: KeyRef | None
    key_state: KeyState | None
    privileges: int = 0


def state_of(state: KeyState | None) -> KeyState:
    """An unknown key counts as revoked: its sig cannot be derived again."""
    return KeyState.REVOKED if state is None else state


Check = Callable[[Input], Decision | None]

#: States of keys whose sigs must be replaced.
DEAD_KEYS = (KeyState.TAINTED, KeyState.REVOKED)


# One object each: a tick decides a thousand times in a row. The numbers are those of the record.
_WAITS = Decision(Verdict.WAIT, Reason.REVOKED, "revoked a moment ago; the next sig waits")
_REVOKED = Decision(Verdict.REISSUE, Reason.REVOKED, "the last sig was revoked")
_RESTS = Decision(Verdict.REST, Reason.REVOKED, "revoked; issued anew when asked for")
_MISSING = Decision(Verdict.REISSUE, Reason.MISSING, "no sig was ever issued")
_EXPIRED = Decision(Verdict.REISSUE, Reason.EXPIRED, "it has expired")
_DEAD_KEY = Decision(Verdict.REISSUE, Reason.KEY_TAINTED, "its key is tainted, revoked or gone")
_OTHER = Decision(Verdict.REISSUE, Reason.POLICY_CHANGED, "other privileges are asked for")
_EMERGENCY = Decision(Verdict.REISSUE, Reason.EMERGENCY, "little of its life is left")
_PAST = Decision(Verdict.REISSUE, Reason.NEARING_EXPIRY, "its renewal time has passed")
_IDLE = Decision(Verdict.REST, None, "its user was not seen for long")
_GOOD = Decision(Verdict.KEEP, None, "the sig is good")


def in_revoke_pause(i: Input) -> Decision | None:
    """Bounded by how far a revocation of all users can reach ahead of this process's clock: what a
    clock far in the future has written keeps nobody waiting."""
    pause, revoked_at = i.policy.revoke_pause, i.record.revoked_at
    wait = revoked_at + pause - i.now
    pauses = 0 < revoked_at >= i.record.issued_at and 0 < wait <= WIDE_MARGIN + APART + pause
    return _WAITS if pauses else None


def pause_left(policy: Policy, record: Record, now: int) -> int:
    """Seconds until a revoked holder may get its next sig; 1 at the least."""
    return max(1, record.revoked_at + policy.revoke_pause - now)


def is_revoked(i: Input) -> Decision | None:
    revoked_at = i.record.revoked_at
    return _REVOKED if revoked_at and i.record.issued_at <= revoked_at else None


def rests_after_revoke(i: Input) -> Decision | None:
    return None if is_revoked(i) is None else _RESTS


def is_missing(i: Input) -> Decision | None:
    return _MISSING if i.record.issued_at == 0 else None


def has_expired(i: Input) -> Decision | None:
    return _EXPIRED if i.now >= i.record.expires_at else None


def has_dead_key(i: Input) -> Decision | None:
    """Where no key signs, a tainted key's sigs are still served, since the cloud accepts them. The
    cloud accepts no sig of a revoked key."""
    if i.key_state in DEAD_KEYS and (i.key is not None or i.key_state is KeyState.REVOKED):
        return _DEAD_KEY
    return None


def has_other_privileges(i: Input) -> Decision | None:
    return _OTHER if i.privileges and i.privileges != i.record.privileges else None


def is_emergency(i: Input) -> Decision | None:
    record = i.record
    urgent = timing.in_emergency(i.policy.durations(record.ttl), record.expires_at, i.now)
    return _EMERGENCY if urgent else None


def is_past_renew_at(i: Input) -> Decision | None:
    return _PAST if i.now >= i.record.renew_at else None


def is_idle(i: Input) -> Decision | None:
    r = i.record
    return _IDLE if timing.is_idle(i.policy.durations(r.ttl), r.kind, r.seen_at, i.now) else None


def is_urgent(record: Record, policy: Policy, now: int) -> bool:
    """The emergency lane (rule 6): a sig that is not revoked and has expired or soon will. Depends
    on these facts only, not on other reasons for the next sig."""
    if record.issued_at <= record.revoked_at:
        return False
    return timing.in_emergency(policy.durations(record.ttl), record.expires_at, now)


REQUEST_CHAIN: tuple[Check, ...] = (
    in_revoke_pause,
    is_missing,
    is_revoked,
    has_expired,
    has_dead_key,
    has_other_privileges,
    is_emergency,
    is_past_renew_at,
)

TICK_CHAIN: tuple[Check, ...] = (
    rests_after_revoke,
    is_idle,
    has_expired,
    is_emergency,
    has_dead_key,
    is_past_renew_at,
)


def decide(chain: Sequence[Check], given: Input) -> Decision:
    """The answer of the first check that has one, else KEEP."""
    for check in chain:
        decision = check(given)
        if decision is not None:
            return decision
    return _GOOD


def may_replace(record: Record, replaces: int | None) -> bool:
    """False where the sig that the caller wants to replace is already replaced (rule 7)."""
    return replaces is None or record.issued_at == replaces
