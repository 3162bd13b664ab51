"""Ends all sigs of a user at once, rows, cache, tickets and streams; or those of all users.

The next sig is issued later than the revocation by the policy's pause, since the cloud compares
whole seconds. Nothing here calls the cloud: its REST call that invalidates a login belongs to the
app's backend.

Rules:
1. The revocation is a row of its own, written in the transaction that ends the holders' rows. It is
   answered only if that transaction took no longer than the look-back of other processes; otherwise
   it is written again (see ``look``).
2. This process knows it before it is answered, and before it is announced.
3. A revocation of all users changes no holder's row; readers of a row apply it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from sigmgr.flow.commit import append, once_more
from sigmgr.flow.look import REVOKE_LIMIT
from sigmgr.flow.relay import Publisher
from sigmgr.flow.revocations import Revocations
from sigmgr.model import errors
from sigmgr.model.event import Event, EventType
from sigmgr.model.holder import Holder
from sigmgr.model.policy import DAY, FULL_LIFE
from sigmgr.model.revocation import EVERY_APP, EVERY_USER, WIDE_MARGIN, Revocation
from sigmgr.model.sig import Reason, Record
from sigmgr.model.ttl import MAX_TTL
from sigmgr.ports import Announcement, Looks, Registry, Store
from sigmgr.telemetry import get_logger

log = get_logger("sigmgr.revoke")

#: How often a revocation is written whose transaction takes too long.
_TRIES = 5


class Revoked(NamedTuple):
    """``revoked_at``: sigs issued in or before this second are revoked. ``known``: the user has or
    had a sig or room key."""

    revoked_at: int
    known: bool


@dataclass(eq=False, repr=False)
class Revoke:
    registry: Registry
    store: Store
    looks: Looks
    revocations: Revocations
    publisher: Publisher

    async def user(self, sdkappid: int, userid: str, now: int) -> Revoked:
        """End every sig of the user, even if there is none: a ticket or sig that a slower process
        makes in this second is revoked, too."""
        app = await self.registry.app(sdkappid)
        longest = max(app.policy.ttl, app.policy.room_ttl, FULL_LIFE)
        revoked_at = now
        rows = await self.store.of_user(sdkappid, userid)
        ended, left = set[Holder](), {Holder(sdkappid, userid)}
        while left:
            ended |= left | {row.holder for row in rows}
            until = await once_more(partial(self._end, ended, longest, now))
            revoked_at = max(revoked_at, until)
            # A room key may have been made between the read and the lock of the user's row; a later
            # one waits for the pause.
            rows = await self.store.of_user(sdkappid, userid)
            left = {row.holder for row in rows if row.issued_at <= revoked_at} - ended
        return Revoked(revoked_at, any(row.issued_at for row in rows))

    async def everybody(self, sdkappid: int, now: int) -> int:
        """End every sig of an app's users, or of all apps' where ``sdkappid`` is 0. Answers the
        second up to which sigs are revoked."""
        if sdkappid != EVERY_APP:
            await self.registry.app(sdkappid)
        until = now + WIDE_MARGIN
        everybody = Revocation(sdkappid, EVERY_USER, until, until + MAX_TTL)
        await once_more(partial(self._written, everybody))
        return until

    async def _end(self, holders: set[Holder], longest: int, now: int) -> int:
        """One transaction with one call for all locks, so that all lock in the same order."""
        async with self.store.transaction() as tx:
            records = await tx.lock(sorted(holders))
            revoked_at = max(now, *(max(r.issued_at, r.revoked_at) for r in records))
            changes = [
                (record._replace(revoked_at=revoked_at, due_at=None), record.issued_at)
                for record in records
            ]
            last = max(revoked_at + longest, *(record.expires_at for record in records))
            user = records[0].holder.user
            revocation = Revocation(user.sdkappid, user.userid, revoked_at, last + DAY)
            await tx.revoke([revocation])
            await tx.save(changes)
            committed = await append(tx, [_announcement(record, now) for record, _ in changes])
        self.revocations.learn([revocation])
        if await self._late(revocation):
            await self._written(revocation)
        await self.publisher.at_once(committed, now)
        return revoked_at

    async def _written(self, revocation: Revocation) -> None:
        """Write the row alone, in a short enough transaction. Raises StoreUnavailable."""
        for _ in range(_TRIES):
            async with self.store.transaction() as tx:
                await tx.revoke([revocation])
            self.revocations.learn([revocation])
            if not await self._late(revocation):
                return
        raise errors.StoreUnavailable(
            "the revocation was written, but so slowly that other processes may not have seen it"
        )

    async def _late(self, revocation: Revocation) -> bool:
        """Whether a process may have looked past the revocation before it became visible."""
        late = await self.looks.since_written(revocation) > REVOKE_LIMIT
        if late:
            log.warning("a revocation took long and is written again", action="revoke-again")
        return late


def _announcement(record: Record, now: int) -> Announcement:
    event = Event(
        EventType.REVOKED.value,
        record.holder,
        record.revoked_at,
        record.revoked_at,
        Reason.REVOKED.value,
        now,
    )
    return Announcement(event, None)
