"""A privateMapKey for one user and room: the current one where it fits, else a new one.

The user's own row is locked with the room's, so that no revocation comes in between.

What this module does not do: renew room keys (``renew`` does, while a stream is open).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from sigmgr.flow.derive import Derive
from sigmgr.flow.newcomers import Newcomers
from sigmgr.flow.reissuer import Choice, OnFailure, Reissue, Reissuer
from sigmgr.model import decision, errors
from sigmgr.model.app import App
from sigmgr.model.decision import Decision, Input, Verdict
from sigmgr.model.holder import Holder, Kind, Room
from sigmgr.model.policy import Policy, check_ttl
from sigmgr.model.sig import Current, Reason, Record, awake
from sigmgr.ports import Registry, Transaction


class _Asked(NamedTuple):
    """``ttl`` 0: the policy's."""

    app: App
    holder: Holder
    privileges: int
    ttl: int
    now: int


@dataclass(eq=False, repr=False)
class RoomKeys:
    registry: Registry
    derive: Derive
    reissuer: Reissuer
    newcomers: Newcomers

    async def current(
        self, sdkappid: int, userid: str, room: Room, *, privileges: int, ttl: int | None, now: int
    ) -> Current:
        """The current key where it fits, else the next one. ``ttl`` None: the policy's. Raises
        BadTtl, RevokePause, AskedTooOften, MaxRooms, and for a new user or room MaxHolders and
        TooManyNewHolders."""
        if ttl is not None:
            check_ttl(ttl)
        holder = Holder(sdkappid, userid, Kind.ROOM.value, room.scope)
        app = await self.registry.app(sdkappid)
        asked = _Asked(app, holder, privileges, ttl or 0, now)
        batch = await self.reissuer.reissue(partial(self._fitting, asked), now, OnFailure.RAISE)
        return await self.derive.only(batch, now)

    async def _fitting(self, asked: _Asked, tx: Transaction, _: Sequence[Record]) -> Choice:
        app, holder, privileges, ttl, now = asked
        owner, record = await tx.lock([holder.user, holder])
        self.newcomers.admit(app, tx.made, now)
        record = record._replace(revoked_at=max(record.revoked_at, owner.revoked_at))
        [given] = await self.derive.inputs(app, [record], now, privileges)
        verdict = _verdict(given, ttl)
        if verdict.verdict is Verdict.KEEP:
            asleep = record.due_at is None
            moved = [(awake(record, now), record.issued_at)] if asleep else []
            return Choice(keep=[record], moved=moved)
        if not record.alive(now):
            await _refuse_too_many(tx, app.policy, owner, now)
        reason = verdict.reason or Reason.CLIENT_REQUESTED
        reissue = Reissue(record, reason, app.policy, ttl=ttl, privileges=privileges, seen=True)
        return Choice(reissues=[reissue])


async def _refuse_too_many(tx: Transaction, policy: Policy, owner: Record, now: int) -> None:
    """Raises MaxRooms where the user has as many live room keys as the policy allows. The user's
    row is locked, so the count is exact."""
    if not policy.max_rooms:
        return
    rooms, first_ends = await tx.live_rooms(owner, now)
    if rooms >= policy.max_rooms:
        raise errors.MaxRooms(
            f"{rooms} room keys of this user are live", retry_after=first_ends - now
        )


def _verdict(given: Input, ttl: int) -> Decision:
    """Keep the room key or make the next one. Raises RevokePause and AskedTooOften."""
    record, now = given.record, given.now
    verdict = decision.decide(decision.REQUEST_CHAIN, given)
    if verdict.verdict is Verdict.WAIT:
        raise errors.RevokePause(retry_after=decision.pause_left(given.policy, record, now))
    # A key that already lives longer cannot be shortened (rule 3).
    if verdict.verdict is Verdict.KEEP and ttl > record.ttl:
        verdict = Decision(Verdict.REISSUE, Reason.POLICY_CHANGED, "a longer life")
    if verdict.verdict is Verdict.REISSUE and record.issued_at > now and record.alive(now):
        # Two callers that want different privileges would push issued_at into the future.
        raise errors.AskedTooOften(retry_after=1)
    return verdict
