"""What clients confirm: that they hold the sig of a given second.

Renewed is not delivered: a sig counts as delivered when its client says so. Acks come in
bursts (a wave of renewals), so they are gathered for a moment and written in one
transaction; each caller is answered after its own is durable.

Rules:
1. A batch waits for no row that others hold; the acks of such a row go with a later batch.
2. An ack that is not durable within the limit is refused with 503; its client sends it again.
   It may yet become durable: an ack twice is no more than one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial
from typing import NamedTuple

from sigmgr.flow.commit import Telling, append, once_more
from sigmgr.flow.gather import Gather, answered
from sigmgr.flow.limits import Lane, Limits, pauses
from sigmgr.flow.relay import Teller
from sigmgr.model import errors
from sigmgr.model.event import Event, EventType
from sigmgr.model.holder import Holder
from sigmgr.model.sig import Record
from sigmgr.ports import Announcement, Store
from sigmgr.telemetry import ACKS


class Ack(NamedTuple):
    """A client of ``user``, by a ticket of that second, holds the sig of ``issued_at``."""

    user: Holder
    ticket_issued_at: int
    issued_at: int


class Acks:
    """Takes acks. ``gather_for``: seconds that the first of a burst waits for others."""

    def __init__(self, *, store: Store, teller: Teller, limits: Limits, gather_for: float) -> None:
        self._store = store
        self._teller = teller
        self._limits = limits
        self._lane = Lane("acks", most=2)
        self._gather: Gather[Ack, bool] = Gather(
            self._durable, size=1000, at_once=2, gather_for=gather_for
        )

    async def take(self, ack: Ack, now: int) -> None:
        """Returns when the ack is durable; one for an older sig than was confirmed already
        changes nothing. Raises TicketRevoked, HolderUnknown, BadRequest for a sig that was
        never issued, and StoreUnavailable."""
        for pause in pauses(self._limits.valid):
            if await answered(self._gather.ask(ack, now)):
                return
            await asyncio.sleep(pause)
        raise errors.StoreUnavailable("another transaction holds this user's row", retry_after=1)

    async def _durable(self, acks: Sequence[Ack], now: int) -> list[bool | errors.SigmgrError]:
        return await self._lane.within(
            self._limits.valid, once_more(partial(self._written, acks, now))
        )

    async def _written(self, acks: Sequence[Ack], now: int) -> list[bool | errors.SigmgrError]:
        """True for each that is durable, False for one whose row others hold."""
        users = list(dict.fromkeys(ack.user for ack in acks))
        async with self._store.transaction() as tx:
            rows = await tx.try_lock(users, make=False)
            records = {r.holder: r for r in rows if r is not None}
            refused = [_refusal(ack, records.get(ack.user)) for ack in acks]
            changes = _changes(acks, refused, records, now)
            tell = Telling()
            if changes:
                await tx.save(changes)
                delivered = [Announcement(_delivered(row, now), None) for row, _ in changes]
                tell = await append(tx, delivered)
        self._teller.soon(tell, now)
        ACKS.labels("new").inc(len(changes))
        unseen = [user for user in users if user not in records]
        held = {r.holder for r in await self._store.find(unseen) if r} if unseen else set()
        return [
            False if ack.user in held else True if error is None else error
            for ack, error in zip(acks, refused, strict=True)
        ]


def _changes(
    acks: Sequence[Ack],
    refused: Sequence[errors.SigmgrError | None],
    records: Mapping[Holder, Record],
    now: int,
) -> list[tuple[Record, int]]:
    """The rows with the newest ack of each, where that is news."""
    newest: dict[Holder, int] = {}
    for ack, error in zip(acks, refused, strict=True):
        if error is None:
            newest[ack.user] = max(ack.issued_at, newest.get(ack.user, 0))
    return [
        (records[user]._replace(acked=issued_at, acked_at=now), records[user].issued_at)
        for user, issued_at in newest.items()
        if records[user].acked < issued_at
    ]


def _refusal(ack: Ack, record: Record | None) -> errors.SigmgrError | None:
    if record is None:
        return errors.HolderUnknown()
    if record.revoked_at and ack.ticket_issued_at <= record.revoked_at:
        return errors.TicketRevoked()
    if ack.issued_at > record.issued_at:
        return errors.BadRequest(f"no sig was issued at {ack.issued_at}")
    return None


def _delivered(record: Record, now: int) -> Event:
    return Event(
        EventType.DELIVERED.value,
        record.holder,
        record.acked,
        record.expires_at,
        record.reason,
        now,
    )
