"""From the store to the client's hands: what a stream is told, and the client's acks.

Renewed is not delivered: a sig counts as delivered when the client says that it holds it.
Acks come in bursts (a wave of renewals), so they are gathered for a moment and written in
one transaction; each caller is answered after its own is durable.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

from sigmgr.flow.commit import Telling, append, once_more
from sigmgr.flow.derive import Derive, key_of
from sigmgr.flow.issue import Issue
from sigmgr.flow.relay import Teller
from sigmgr.flow.revocations import Revocations
from sigmgr.model import errors
from sigmgr.model.event import Event, EventType
from sigmgr.model.holder import Holder, Kind
from sigmgr.model.sig import Current, Record
from sigmgr.ports import Announcement, Cache, Store
from sigmgr.telemetry import ACKS, get_logger

log = get_logger("sigmgr.deliver")


class _Ack(NamedTuple):
    user: Holder
    ticket_issued_at: int
    issued_at: int
    done: asyncio.Future[None]


class Deliver:
    """Fulfils ``ports.States`` for gateways, and takes acks.

    ``gather_for``: seconds an ack may wait for others before it is written.
    """

    def __init__(
        self,
        *,
        issue: Issue,
        derive: Derive,
        revocations: Revocations,
        store: Store,
        cache: Cache,
        teller: Teller,
        gather_for: float = 0.02,
    ) -> None:
        self._issue = issue
        self._derive = derive
        self._revocations = revocations
        self._store = store
        self._cache = cache
        self._teller = teller
        self._gather_for = gather_for
        self._acks: list[_Ack] = []
        self._writer: asyncio.Task[None] | None = None

    # -- what a stream is told -------------------------------------------------------------

    async def opened(
        self, user: Holder, ticket_issued_at: int, now: int, *, rooms: bool = True
    ) -> list[Current]:
        """The user's sig first, then every live room sig. See ``ports.States``."""
        # First of all: the ticket of a user whose rows were deleted must not make one.
        self._refuse_revoked(user, ticket_issued_at)
        try:
            records = await self._store.of_user(user.sdkappid, user.userid)
        except errors.StoreUnavailable:
            # Known meanwhile, perhaps.
            self._refuse_revoked(user, ticket_issued_at)
            return await self._from_cache(user, now)
        revoked_at = max((record.revoked_at for record in records), default=0)
        if revoked_at and ticket_issued_at <= revoked_at:
            raise errors.TicketRevoked
        wanted = [user]
        if rooms:
            wanted += [r.holder for r in records if r.kind == Kind.ROOM.value and r.alive(now)]
        answers = await self._issue.fresh(wanted, now)
        # A revocation may have come in between; its ticket must not get the sig after it.
        [again] = await self._store.find([user])
        if again is not None and again.revoked_at and ticket_issued_at <= again.revoked_at:
            raise errors.TicketRevoked
        await self.seen([user], now)
        self._refuse_revoked(user, ticket_issued_at)
        if isinstance(answers[0], errors.SigmgrError):
            raise answers[0]
        return [
            answer
            for answer in answers
            if isinstance(answer, Current) and not self._revocations.killed(answer)
        ]

    def _refuse_revoked(self, user: Holder, ticket_issued_at: int) -> None:
        """Raises TicketRevoked for what this process knows, whatever the rows said."""
        if ticket_issued_at <= self._revocations.until(user.sdkappid, user.userid):
            raise errors.TicketRevoked

    async def _from_cache(self, user: Holder, now: int) -> list[Current]:
        """The database is away: a valid cached sig is better than a closed door."""
        [hit] = await self._cache.get([user])
        if hit is None or not await self._derive.valid(hit, now):
            raise errors.StoreUnavailable
        return [hit]

    async def latest(self, holders: Sequence[Holder], now: int) -> list[Current | None]:
        """The newest sig of each; a cached one is believed until its renewal time."""
        try:
            hits = list(await self._cache.get(holders))
        except errors.CacheUnavailable:
            hits = [None] * len(holders)
        sound = await self._derive.sound_keys(hits)
        # A sig of a sound key is the newest before its renewal time, for all that is known here.
        doubtful = [
            i
            for i, hit in enumerate(hits)
            if hit is None
            or now >= hit.renew_at
            or key_of(hit) not in sound
            or not self._revocations.serves(hit, now)
        ]
        if not doubtful:
            return hits
        try:
            records = await self._store.find([holders[i] for i in doubtful])
        except errors.StoreUnavailable:
            return [
                hit if hit is not None and await self._derive.valid(hit, now) else None
                for hit in hits
            ]
        alive = [r for r in records if r is not None and r.alive(now)]
        found = {current.holder: current for current in await self._derive.found(alive, now)}
        living = {record.holder: record.issued_at for record in alive}
        for i in doubtful:
            hit = hits[i]
            same = hit is not None and living.get(hit.holder) == hit.issued_at
            hits[i] = found.get(holders[i]) or (hit if same else None)
        return [None if hit is None or self._revocations.killed(hit) else hit for hit in hits]

    async def seen(self, users: Sequence[Holder], now: int) -> None:
        """These users have a stream open now."""
        try:
            await self._store.mark([(user, now) for user in users])
        except errors.StoreUnavailable:
            log.info("sightings were not written", action="seen-skipped", count=len(users))

    # -- what a client confirms ------------------------------------------------------------

    async def ack(self, user: Holder, ticket_issued_at: int, issued_at: int, now: int) -> None:
        """The client holds the sig of ``issued_at``. Returns when that is durable.

        An ack for an older sig than one already confirmed changes nothing. Raises
        TicketRevoked, HolderUnknown, or BadRequest for a sig that was never issued.
        """
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._acks.append(_Ack(user, ticket_issued_at, issued_at, done))
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._write_acks(now))
        await done

    async def _write_acks(self, now: int) -> None:
        if self._gather_for:
            await asyncio.sleep(self._gather_for)
        while self._acks:
            batch, self._acks = self._acks[:1000], self._acks[1000:]
            try:
                await once_more(partial(self._write_batch, batch, now))
            except errors.SigmgrError as error:
                _settle(batch, error)
            except BaseException:
                _settle([*batch, *self._acks], errors.Stopping())
                self._acks = []
                raise

    async def _write_batch(self, batch: Sequence[_Ack], now: int) -> None:
        users = list(dict.fromkeys(ack.user for ack in batch))
        known = [r.holder for r in await self._store.find(users) if r is not None]
        records: dict[Holder, Record] = {}
        async with self._store.transaction() as tx:
            if known:
                records = dict(zip(known, await tx.lock(known), strict=True))
            newest: dict[Holder, int] = {}
            for ack in batch:
                if _refusal(ack, records.get(ack.user)) is None:
                    newest[ack.user] = max(ack.issued_at, newest.get(ack.user, 0))
            changes = [
                (record._replace(acked=newest[holder], acked_at=now), record.issued_at)
                for holder, record in records.items()
                if record.acked < newest.get(holder, 0)
            ]
            tell = Telling()
            if changes:
                await tx.save(changes)
                delivered = [Announcement(_delivered(row, now), None) for row, _ in changes]
                tell = await append(tx, delivered)
        self._teller.soon(tell, now)
        ACKS.labels("new").inc(len(changes))
        for ack in batch:
            _answer(ack, records.get(ack.user))


def _answer(ack: _Ack, record: Record | None) -> None:
    """Wake the caller, who may have gone meanwhile."""
    error = _refusal(ack, record)
    if ack.done.done():
        return
    if error is None:
        ack.done.set_result(None)
    else:
        ack.done.set_exception(error)


def _refusal(ack: _Ack, record: Record | None) -> errors.SigmgrError | None:
    if record is None:
        return errors.HolderUnknown()
    if record.revoked_at and ack.ticket_issued_at <= record.revoked_at:
        return errors.TicketRevoked()
    if ack.issued_at > record.issued_at:
        return errors.BadRequest(f"no sig was issued at {ack.issued_at}")
    return None


def _settle(batch: Sequence[_Ack], error: errors.SigmgrError) -> None:
    for ack in batch:
        if not ack.done.done():
            ack.done.set_exception(error)


def _delivered(record: Record, now: int) -> Event:
    return Event(
        EventType.DELIVERED.value,
        record.holder,
        record.acked,
        record.expires_at,
        record.reason,
        now,
    )
