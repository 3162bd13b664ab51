"""What it means that a client says which sig it holds.

A client names the second of its sig: in an ack, in ``Last-Event-ID``, in ``If-None-Match``.
Mostly it is a second of the holder's record. Where it is not, the client may be wrong; or the
record is, for a database that was restored from a backup, or a failover that lost writes,
forgets sigs that clients hold. Which of the two is told by what can be proved:

1. The current sig and those that ``past`` remembers are known.
2. A ticket is signed here with the second of its sig. Who claims the second of its own ticket
   has proof, whatever the record says.
3. Newer than the record and not in the future: the record was restored. The holder needs a
   newer sig, or the client would take no more of them. Without proof that is believed once
   a minute, so that nobody makes sigs by claiming.
4. In the future: no clock that signed was so far ahead. Never issued.
5. Between two known seconds: the second followed the first, so nothing was issued between
   them. Except before a sig that was forced, as it is after a restore: there nobody knows.
6. Older than all that is remembered, or than a revocation: nobody knows, and nothing hangs on it.

What this module does not do: read rows, or act.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Final

from sigmgr.model.reference import APART
from sigmgr.model.sig import Past, Reason, Record

#: A forced sig answers all claims of its time; who claims a later one so soon makes it up.
BELIEVED_EVERY: Final = 60


class Claim(StrEnum):
    """KNOWN: remembered. OLD: may be, and nothing hangs on it. RESTORED: the record is older
    than it was. NEVER: no such sig was ever issued."""

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
    """What the claim to hold the sig of second ``claim`` means. ``past``: the record's earlier
    sigs, in any order; ``ticket_issued_at``: of the opened ticket that came with the claim."""
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
