"""Clients that hold newer sigs than the database knows of: it was restored from a backup, or a
failover lost its last writes.

Their sigs are valid at the cloud until they expire, but such a client takes no sig of ours that is
not newer than its own. So its holder gets one at once, of a later second than the claimed one
(``model/held`` judges claims). After a restore thousands of clients claim that at once; their
holders are gathered into batches.

What this module does not do: find out what else was lost, such as revocations and keys.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from sigmgr.flow.derive import Derive
from sigmgr.flow.gather import Gather, answered
from sigmgr.flow.limits import Lane, WaitLimits
from sigmgr.flow.reissuer import Choice, Reissue, Reissuer
from sigmgr.model import decision, errors
from sigmgr.model.held import Claim, judge
from sigmgr.model.holder import Holder
from sigmgr.model.sig import Current, Reason, Record, past_of
from sigmgr.ports import Answer, Registry, Transaction
from sigmgr.telemetry import RESTORED, get_logger

log = get_logger("sigmgr.restored")

#: Seconds between two log lines: after a restore every connected client has such a claim.
_LOG_EVERY = 60


def meaning(record: Record, issued_at: int, ticket_issued_at: int, now: int) -> Claim:
    """Judge a client's claim of the sig of ``issued_at``. Raises NeverIssued."""
    if issued_at == record.issued_at:
        return Claim.KNOWN
    past = past_of(record)
    claim = judge(record, past, issued_at, ticket_issued_at=ticket_issued_at, now=now)
    if claim is Claim.NEVER:
        raise errors.NeverIssued(f"no sig was ever issued to this user at {issued_at}")
    return claim


def lost_second(
    records: Sequence[Record], user: Holder, held: int, ticket_issued_at: int, now: int
) -> int:
    """The second of the newest sig that the client proves or claims to hold and that the user's row
    has lost; 0 where there is none. ``held`` 0: no claim, but a ticket later than the row is a
    proof. Raises NeverIssued."""
    row = next((record for record in records if record.holder == user), None)
    if row is None:
        return 0
    claims = [second for second in (held, ticket_issued_at) if second]
    meanings = {second: meaning(row, second, ticket_issued_at, now) for second in claims}
    return max((at for at, claim in meanings.items() if claim is Claim.RESTORED), default=0)


class _Lost(NamedTuple):
    """A client of ``user`` holds a sig of ``issued_at``, which the row has lost."""

    user: Holder
    issued_at: int


@dataclass(eq=False, repr=False)
class Restored:
    registry: Registry
    derive: Derive
    reissuer: Reissuer
    limits: WaitLimits

    def __post_init__(self) -> None:
        self._lane = Lane("restored", most=2)
        self._gather: Gather[_Lost, Current] = Gather(self._superseded)
        self._unlogged = 0
        self._log_at = 0

    async def newer_than(self, user: Holder, issued_at: int, now: int) -> Current:
        """A sig of a later second than the lost one. Raises the errors of making it."""
        return await answered(self._gather.ask(_Lost(user, issued_at), now))

    async def _superseded(
        self, lost: Sequence[_Lost], now: int
    ) -> list[Current | errors.SigmgrError]:
        self._count(len(lost), now)
        claims: dict[Holder, int] = {}
        for user, issued_at in lost:
            claims[user] = max(issued_at, claims.get(user, 0))
        made = await self._lane.within(self.limits.answer, self._made(claims, now))
        return [self.derive.unless_revoked(made[user], now) for user, _ in lost]

    async def _made(self, claims: Mapping[Holder, int], now: int) -> dict[Holder, Answer]:
        batch = await self.reissuer.reissue(partial(self._older, claims, now), now)
        return batch.answers() | await self.derive.derive_and_cache(batch.choice.keep, now)

    async def _older(
        self, claims: Mapping[Holder, int], now: int, tx: Transaction, _: Sequence[Record]
    ) -> Choice:
        """Those whose rows are free and not newer than the claim."""
        choice, users = Choice(), sorted(claims)
        for user, record in zip(users, await tx.try_lock(users), strict=True):
            if record is None:
                held = "another transaction holds this user's row"
                choice.refused[user] = errors.StoreUnavailable(held, retry_after=1)
            elif record.issued_at > claims[user]:
                # Another device of the user has caused it already.
                choice.keep.append(record)
            else:
                try:
                    choice.reissues.append(await self._newer(record, claims[user], now))
                except errors.SigmgrError as error:
                    choice.refused[user] = error
        return choice

    async def _newer(self, record: Record, claim: int, now: int) -> Reissue:
        app = await self.registry.app(record.sdkappid)
        [given] = await self.derive.inputs(app, [record], now)
        if decision.in_revoke_pause(given) is not None:
            raise errors.RevokePause(retry_after=decision.pause_left(app.policy, record, now))
        return Reissue(record, Reason.FORCED, app.policy, seen=True, newer_than=claim)

    def _count(self, claims: int, now: int) -> None:
        RESTORED.inc(claims)
        self._unlogged += claims
        if now < self._log_at:
            return
        log.warning(
            "clients hold sigs that the database does not know: it was restored from a backup,"
            " or a failover lost writes; they get newer sigs, but look what else is missing",
            action="restored",
            clients=self._unlogged,
        )
        self._unlogged, self._log_at = 0, now + _LOG_EVERY
