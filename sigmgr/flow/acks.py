"""Acks: clients confirm that they hold the sig of a given second.

A sig counts as delivered when its client acks it. Acks come in bursts (a wave of renewals), so they
are gathered for a moment and written in one transaction; each caller is answered when its own is
durable.

Rules:
1. A batch does not wait for locked rows; the acks of such a row go into a later batch.
2. What a client claims is judged by its row (``model/held``). For a sig that the database has lost
   nothing is written; its holder gets a newer one (``restored``).
3. An ack that is not durable within the limit is refused with 503; the client sends it again. It
   may still become durable, since a second ack changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from sigmgr.flow.commit import Committed, append, once_more
from sigmgr.flow.gather import Gather
from sigmgr.flow.limits import Lane, Wait, WaitLimits
from sigmgr.flow.relay import Publisher
from sigmgr.flow.restored import Restored, meaning
from sigmgr.model import errors
from sigmgr.model.event import Event, EventType
from sigmgr.model.held import Claim
from sigmgr.model.holder import Holder
from sigmgr.model.sig import Record
from sigmgr.ports import Ack, Announcement, Store
from sigmgr.telemetry import ACKS

_Meant = Claim | errors.SigmgrError
#: Claims that confirm the sig.
_CONFIRMS = (Claim.KNOWN, Claim.OLD)


@dataclass(eq=False, repr=False)
class Acks:
    """Takes acks. ``gather_for``: seconds that the first of a burst waits for others."""

    store: Store
    publisher: Publisher
    restored: Restored
    limits: WaitLimits
    gather_for: float

    def __post_init__(self) -> None:
        self._lane = Lane("acks", most=3)
        self._gather: Gather[Ack, Claim | None] = Gather(
            self._durable, size=1000, at_once=3, gather_for=self.gather_for
        )

    async def take(self, ack: Ack, now: int) -> None:
        """Returns when the ack is durable. One for an older sig than the confirmed one changes
        nothing; one for a lost sig leads to a newer sig. Raises TicketRevoked, HolderUnknown,
        NeverIssued, StoreUnavailable, and the errors of making that newer sig."""
        wait = Wait(self.limits.answer)
        while True:
            claim = await wait.answered(self._gather.ask(ack, now), _late)
            if claim is Claim.RESTORED:
                await self.restored.newer_than(ack.user, ack.issued_at, now)
            if claim is not None:
                return
            if not await wait.pauses():
                raise errors.StoreUnavailable(
                    "another transaction holds this user's row", retry_after=1
                )

    async def _durable(self, acks: Sequence[Ack], now: int) -> list[_Meant | None]:
        return await self._lane.within(
            self.limits.valid, once_more(partial(self._written, acks, now))
        )

    async def _written(self, acks: Sequence[Ack], now: int) -> list[_Meant | None]:
        """The meaning of each, durable where needed; None for one whose row is locked elsewhere."""
        try:
            done = await self._confirmed(acks, now)
        except errors.ConnectionLost:
            raise
        except errors.StoreUnavailable:
            # Some rows are locked; :meth:`_judged` finds out which.
            done = []
        if len(done) == len(acks):
            return [Claim.KNOWN] * len(acks)
        meant: dict[Ack, _Meant | None] = dict.fromkeys(done, Claim.KNOWN)
        rest = [ack for ack in acks if ack not in meant]
        meant |= zip(rest, await self._judged(rest, now), strict=True)
        return [meant[ack] for ack in acks]

    async def _confirmed(self, acks: Sequence[Ack], now: int) -> list[Ack]:
        """Write the ordinary ones: the first acks of current sigs."""
        first = {ack.user: ack for ack in reversed(acks)}
        async with self.store.transaction() as tx:
            done = await tx.confirm(list(first.values()), now)
            events = [Announcement(_delivered(*one, now), None) for one in done]
            committed = await append(tx, events) if events else Committed()
        self.publisher.soon(committed, now)
        ACKS.labels("new").inc(len(done))
        return [first[one.user] for one in done]

    async def _judged(self, acks: Sequence[Ack], now: int) -> list[_Meant | None]:
        users = list(dict.fromkeys(ack.user for ack in acks))
        async with self.store.transaction() as tx:
            rows = await tx.try_lock(users, make=False)
            records = {r.holder: r for r in rows if r is not None}
            meant = [_meant(ack, records.get(ack.user), now) for ack in acks]
            changes = _changes(acks, meant, records, now)
            committed = Committed()
            if changes:
                await tx.save(changes)
                events = [
                    _delivered(row.holder, row.acked, row.expires_at, row.reason, now)
                    for row, _ in changes
                ]
                committed = await append(tx, [Announcement(event, None) for event in events])
        self.publisher.soon(committed, now)
        ACKS.labels("new").inc(len(changes))
        unseen = [user for user in users if user not in records]
        held = {r.holder for r in await self.store.find(unseen) if r} if unseen else set()
        return [None if ack.user in held else one for ack, one in zip(acks, meant, strict=True)]


def _late() -> errors.StoreUnavailable:
    return errors.StoreUnavailable("the database did not answer in time", retry_after=1)


def _changes(
    acks: Sequence[Ack],
    meant: Sequence[_Meant],
    records: Mapping[Holder, Record],
    now: int,
) -> list[tuple[Record, int]]:
    """The rows with the newest ack of each, where it is newer than the row's."""
    newest: dict[Holder, int] = {}
    for ack, one in zip(acks, meant, strict=True):
        if one in _CONFIRMS:
            newest[ack.user] = max(ack.issued_at, newest.get(ack.user, 0))
    return [
        (records[user]._replace(acked=issued_at, acked_at=now), records[user].issued_at)
        for user, issued_at in newest.items()
        if records[user].acked < issued_at
    ]


def _meant(ack: Ack, record: Record | None, now: int) -> _Meant:
    if record is None:
        return errors.HolderUnknown()
    if record.revoked_at and ack.ticket_issued_at <= record.revoked_at:
        return errors.TicketRevoked()
    try:
        return meaning(record, ack.issued_at, ack.ticket_issued_at, now)
    except errors.NeverIssued as error:
        return error


def _delivered(user: Holder, issued_at: int, expires_at: int, reason: str, now: int) -> Event:
    return Event(EventType.DELIVERED.value, user, issued_at, expires_at, reason, now)
