"""What gateways ask the flows for, and the acks of clients.

What this module does not do: open streams (``openings``) and write acks (``acks``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sigmgr.flow.acks import Acks
from sigmgr.flow.derive import Derive, key_of
from sigmgr.flow.limits import Lane, WaitLimits
from sigmgr.flow.openings import Openings
from sigmgr.flow.revocations import Revocations
from sigmgr.model import errors
from sigmgr.model.holder import Holder
from sigmgr.model.sig import Current
from sigmgr.ports import Ack, Answer, Store
from sigmgr.telemetry import get_logger

log = get_logger("sigmgr.deliver")


@dataclass(eq=False, repr=False)
class Deliver:
    """Fulfils ``ports.States`` for gateways, and takes acks."""

    openings: Openings
    acks: Acks
    derive: Derive
    revocations: Revocations
    store: Store
    limits: WaitLimits

    def __post_init__(self) -> None:
        self._lane = Lane("lookups", most=2)

    async def opened(
        self, user: Holder, ticket_issued_at: int, now: int, *, rooms: bool = True, held: int = 0
    ) -> list[Current]:
        return await self.openings.opened(user, ticket_issued_at, now, rooms=rooms, held=held)

    async def latest(self, holders: Sequence[Holder], now: int) -> list[Answer | None]:
        hits = await self.derive.cached(holders)
        sound = await self.derive.sound_keys(hits)
        # Before its renewal time a sig of a sound key is the newest that this process can know of.
        doubtful = {
            holder: hit
            for holder, hit in zip(holders, hits, strict=True)
            if hit is None
            or now >= hit.renew_at
            or key_of(hit) not in sound
            or not self.revocations.serves(hit, now)
        }
        answers = await self._from_store(doubtful, now) if doubtful else {}
        found = [answers.get(holder, hit) for holder, hit in zip(holders, hits, strict=True)]
        return [
            None if isinstance(one, Current) and self.revocations.killed(one) else one
            for one in found
        ]

    async def _from_store(
        self, doubtful: Mapping[Holder, Current | None], now: int
    ) -> dict[Holder, Answer | None]:
        """Where the store is away, or a string fails: the cached sig if it is as good."""
        answers: dict[Holder, Answer | None] = dict.fromkeys(doubtful)
        try:
            records = await self._lane.within(self.limits.valid, self.store.find([*doubtful]))
        except errors.StoreUnavailable as error:
            for holder, hit in doubtful.items():
                valid = hit is not None and await self.derive.valid(hit, now)
                answers[holder] = hit if valid else error
            return answers
        alive = [r for r in records if r is not None and r.alive(now)]
        answers |= await self.derive.derive_and_cache(alive, now)
        failed = [r for r in alive if isinstance(answers[r.holder], errors.SigmgrError)]
        good = await self.derive.still_valid(failed, now)
        for record in failed:
            hit = doubtful[record.holder]
            if record not in good:
                answers[record.holder] = None
            elif hit is not None and hit.issued_at == record.issued_at:
                answers[record.holder] = hit
        return answers

    async def mark_seen(self, users: Sequence[Holder], now: int) -> None:
        try:
            await self.store.mark_seen([(user, now) for user in users])
        except errors.StoreUnavailable:
            log.info("sightings were not written", action="seen-skipped", count=len(users))

    async def ack(self, user: Holder, ticket_issued_at: int, issued_at: int, now: int) -> None:
        """The client holds the sig of ``issued_at``. Returns when that is durable; see ``acks``."""
        await self.acks.take(Ack(user, ticket_issued_at, issued_at), now)
