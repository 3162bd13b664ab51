"""Judges the claim of a client to hold the sig of a certain second.

A client names the second of its sig in an ack, in ``Last-Event-ID`` or in ``If-None-Match``. If the
holder's record does not know that second, either the client is wrong, or the database was restored
from a backup or lost writes in a failover. The rules:

1. The current sig and those in ``past`` are known.
2. A ticket is signed with the second of its sig. A claim of the second of the client's own ticket
   is proved, whatever the record contains.
3. Newer than the record and not in the future: the record was restored. The holder needs a newer
   sig, since the client accepts only newer ones. Without proof this is accepted once a minute, so
   that claims cannot cause many sigs.
4. In the future: further ahead than any signing clock can be. Never issued.
5. Between two known seconds: nothing was issued there, since each known sig follows directly on the
   one before. Before a forced sig, as after a restore, this is not certain.
6. Older than all that is remembered, or than a revocation: not known, and of no consequence.

What this module does not do: read rows, or act.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Final

from sigmgr.model.reference import APART
from sigmgr.model.sig import Past, Reason, Record

#: A forced sig answers all claims of its time; a later claim within so many seconds is not
#: believed.
BELIEVED_EVERY: Final = 60


class Claim(StrEnum):
    """KNOWN: remembered. OLD: possible, and of no consequence. RESTORED: the record is older than
    it was. NEVER: no such sig was ever issued."""

    KNOWN = "known"
    OLD = "old"
    RESTORED = "restored"
    NEVER = "never"


def judge(
    record: Record,
    past: Sequence[Past],
    claim: int,
    *,
    ticket_issued_at: int,
    now: int,
) -> Claim:
    """Judge the claim to hold the sig of second ``claim``. ``past``: the record's earlier sigs, in
    any order; ``ticket_issued_at``: of the ticket that came with the claim."""
    proven = claim == ticket_issued_at
    known = sorted([(one.issued_at, one.reason) for one in past])
    if record.issued_at:
        known.append((record.issued_at, record.reason))
    if any(claim == at for at, _ in known):
        return Claim.KNOWN
    if not known or claim > known[-1][0]:
        return _newer_than_all(record, claim, now + APART, proven=proven)
    if proven or claim < known[0][0] or claim <= record.revoked_at:
        return Claim.OLD
    follower = next(reason for at, reason in known if at > claim)
    return Claim.OLD if follower == Reason.FORCED else Claim.NEVER


def _newer_than_all(record: Record, claim: int, latest: int, *, proven: bool) -> Claim:
    if claim <= record.revoked_at:
        return Claim.OLD
    if proven:
        return Claim.RESTORED
    just_forced = record.reason == Reason.FORCED and claim < record.issued_at + BELIEVED_EVERY
    return Claim.NEVER if claim > latest or just_forced else Claim.RESTORED
