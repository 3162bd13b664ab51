"""What gateways ask the flows for, and the acks of clients.

What this module does not do: open streams (``openings``) and write acks (``acks``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sigmgr.flow.acks import Acks
from sigmgr.flow.derive import Derive, key_of
from sigmgr.flow.limits import Lane, WaitLimits
from sigmgr.flow.openings import Openings
from sigmgr.flow.revocations import Revocations
from sigmgr.model import errors
from sigmgr.model.holder import Holder
from sigmgr.model.sig import Current
from sigmgr.ports import Ack, Answer, SigCache, Store
from sigmgr.telemetry import get_logger

log = get_logger("sigmgr.deliver")


class Deliver:
    """Fulfils ``ports.States`` for gateways, and takes acks."""

    def __init__(
        self,
        openings: Openings,
        acks: Acks,
        derive: Derive,
        revocations: Revocations,
        store: Store,
        *,
        cache: SigCache,
        limits: WaitLimits,
    ) -> None:
        self._openings = openings
        self._acks = acks
        self._derive = derive
        self._revocations = revocations
        self._store = store
        self._cache = cache
        self._limits = limits
        self._lane = Lane("lookups", most=2)

    async def opened(
        self, user: Holder, ticket_issued_at: int, now: int, *, rooms: bool = True, held: int = 0
    ) -> list[Current]:
        return await self._openings.opened(user, ticket_issued_at, now, rooms=rooms, held=held)

    async def latest(self, holders: Sequence[Holder], now: int) -> list[Answer | None]:
        """The newest sig of each; a cached one counts as the newest until its renewal time."""
        try:
            hits = await self._cache.get(holders)
        except errors.CacheUnavailable:
            hits = [None] * len(holders)
        sound = await self._derive.sound_keys(hits)
        # Before its renewal time a sig of a sound key is the newest that this process can know of.
        doubtful = {
            holder: hit
            for holder, hit in zip(holders, hits, strict=True)
            if hit is None
            or now >= hit.renew_at
            or key_of(hit) not in sound
            or not self._revocations.serves(hit, now)
        }
        answers = await self._from_store(doubtful, now) if doubtful else {}
        found = [answers.get(holder, hit) for holder, hit in zip(holders, hits, strict=True)]
        return [
            None if isinstance(one, Current) and self._revocations.killed(one) else one
            for one in found
        ]

    async def _from_store(
        self, doubtful: Mapping[Holder, Current | None], now: int
    ) -> dict[Holder, Answer | None]:
        """Where the store is away, or a string fails: the cached sig if it is as good."""
        answers: dict[Holder, Answer | None] = dict.fromkeys(doubtful)
        try:
            records = await self._lane.within(self._limits.valid, self._store.find([*doubtful]))
        except errors.StoreUnavailable as error:
            for holder, hit in doubtful.items():
                valid = hit is not None and await self._derive.valid(hit, now)
                answers[holder] = hit if valid else error
            return answers
        alive = [r for r in records if r is not None and r.alive(now)]
        answers |= await self._derive.derive_and_cache(alive, now)
        failed = [r for r in alive if isinstance(answers[r.holder], errors.SigmgrError)]
        good = await self._derive.still_valid(failed, now)
        for record in failed:
            hit = doubtful[record.holder]
            if record not in good:
                answers[record.holder] = None
            elif hit is not None and hit.issued_at == record.issued_at:
                answers[record.holder] = hit
        return answers

    async def mark_seen(self, users: Sequence[Holder], now: int) -> None:
        """These users have a stream open now."""
        try:
            await self._store.mark_seen([(user, now) for user in users])
        except errors.StoreUnavailable:
            log.info("sightings were not written", action="seen-skipped", count=len(users))

    async def ack(self, user: Holder, ticket_issued_at: int, issued_at: int, now: int) -> None:
        """The client holds the sig of ``issued_at``. Returns when that is durable; see ``acks``."""
        await self._acks.take(Ack(user, ticket_issued_at, issued_at), now)
