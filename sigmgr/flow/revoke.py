"""Ending all sigs of a user at once: rows, cache, tickets and streams.

The next sig carries a second that is later than the revocation by the policy's pause, since
the cloud compares whole seconds. This does not yet tell the cloud itself: its REST call
that invalidates a login belongs to the app's backend.
"""

from __future__ import annotations

from sigmgr.flow.commit import append
from sigmgr.flow.relay import Teller
from sigmgr.model.event import Event, EventType
from sigmgr.model.holder import Holder
from sigmgr.model.sig import Reason, Record
from sigmgr.ports import Announcement, Registry, Store


class Revoke:
    """Revokes users."""

    def __init__(self, *, registry: Registry, store: Store, teller: Teller) -> None:
        self._registry = registry
        self._store = store
        self._teller = teller

    async def user(self, sdkappid: int, userid: str, now: int) -> int:
        """End every sig of the user; answers the second up to which sigs are dead.

        Works for a user that never had a sig too: a ticket or sig made by a slower process
        in this second is dead as well.
        """
        await self._registry.app(sdkappid)
        wanted = {Holder(sdkappid, userid)}
        revoked_at = 0
        while wanted:
            known = {record.holder for record in await self._store.of_user(sdkappid, userid)}
            revoked_at = max(revoked_at, await self._end(wanted | known, now))
            # A room key that was made after we looked and before we held the user's row; one
            # made later waits for the pause.
            wanted = {
                record.holder
                for record in await self._store.of_user(sdkappid, userid)
                if record.revoked_at < revoked_at and record.issued_at <= revoked_at
            }
        return revoked_at

    async def _end(self, holders: set[Holder], now: int) -> int:
        """One transaction, one call for all locks: everybody locks in the same order."""
        async with self._store.transaction() as tx:
            records = await tx.lock(sorted(holders))
            revoked_at = max(now, *(record.issued_at for record in records))
            changes = [
                (record._replace(revoked_at=revoked_at, due_at=None), record.issued_at)
                for record in records
            ]
            await tx.save(changes)
            tell = await append(tx, [_announcement(record, now) for record, _ in changes])
        await self._teller.at_once(tell, now)
        return revoked_at


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
