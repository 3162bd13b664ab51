"""Whether a sig stands, and its string made again from its facts.

Everybody who hands out a sig comes through here: requests, streams, reconcile. A cached sig
stands while enough of its life is left and its key vouches for it; a record is judged by
``model/decision`` with the keys of its app.

What this module does not do: make new sigs, or write to the store.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sigmgr.flow.commit import current_key_state, current_of
from sigmgr.flow.revocations import Revocations
from sigmgr.model import decision, errors, timing
from sigmgr.model.app import App
from sigmgr.model.decision import Decision, Input
from sigmgr.model.holder import Holder
from sigmgr.model.sig import Current, Record
from sigmgr.ports import Registry, SigCache, Signer
from sigmgr.telemetry import get_logger

log = get_logger("sigmgr.derive")

Answer = Current | errors.SigmgrError


def key_of(current: Current) -> tuple[int, int]:
    """Which key made this sig: key ids are counted within an app."""
    return current.holder.sdkappid, current.key_id


class Derive:
    """Judges sigs and derives their strings."""

    def __init__(
        self, *, registry: Registry, cache: SigCache, signer: Signer, revocations: Revocations
    ) -> None:
        self._registry = registry
        self._cache = cache
        self._signer = signer
        self._revocations = revocations

    async def stands(self, hit: Current, now: int) -> bool:
        """A cached sig may be handed out without a look into the store."""
        if not self._revocations.serves(hit, now):
            return False
        try:
            app = await self._registry.app(hit.holder.sdkappid)
        except errors.SigmgrError:
            # The way through the store says why.
            return False
        spans = app.policy.spans(hit.expires_at - hit.issued_at)
        return timing.may_serve(spans, hit.expires_at, now) and not await self._dead(*key_of(hit))

    async def valid(self, hit: Current, now: int) -> bool:
        """A cached sig may be handed out where nothing better can be had: it lives, and
        neither it nor its key was taken back."""
        if now >= hit.expires_at or not self._revocations.serves(hit, now):
            return False
        return not await self._dead(*key_of(hit))

    def still(self, answer: Answer, now: int) -> Answer:
        """The answer, or why not: it may have been revoked while it was on its way. The last
        step before something is handed out, with nothing awaited after it."""
        if isinstance(answer, Current) and self._revocations.killed(answer):
            until = self._revocations.until(answer.holder.sdkappid, answer.holder.userid)
            return errors.RevokePause(retry_after=max(1, until + 1 - now))
        return answer

    async def sound_keys(self, hits: Iterable[Current | None]) -> set[tuple[int, int]]:
        """Those of the keys of cached sigs that were neither tainted nor revoked meanwhile."""
        keys = {key_of(hit) for hit in hits if hit is not None}
        return {key for key in keys if not await self._dead(*key)}

    async def vouched(self, records: Sequence[Record], now: int) -> list[Record]:
        """Those that live and whose keys were not taken back: better than nothing (rule 5)."""
        return [
            record
            for record in records
            if record.alive(now) and not await self._dead(record.sdkappid, record.key_id)
        ]

    async def judged_by(self, app: App, record: Record, now: int, privileges: int = 0) -> Input:
        """All that a decision about this record looks at."""
        try:
            key = await self._signer.active_key(app.sdkappid)
        except errors.SigmgrError:
            # None, or one that does not open: what was signed by others is still served.
            key = None
        state = None
        if record.issued_at:
            state = current_key_state(await self._signer.key_state(app.sdkappid, record.key_id))
        return Input(record, now, app.policy, key, state, privileges)

    async def decide(self, app: App, record: Record, now: int) -> Decision:
        """What to give to somebody who asks."""
        given = await self.judged_by(app, record, now)
        return decision.decide(decision.REQUEST_CHAIN, given)

    async def one(self, record: Record) -> Current:
        """The string of facts that stand. Raises SigningFailed and others of the signer."""
        [string] = await self._signer.sign([record.facts])
        if isinstance(string, errors.SigmgrError):
            raise string
        return current_of(record, string)

    async def many(self, records: Sequence[Record], now: int) -> dict[Holder, Answer]:
        """Strings for facts that stand, and the cache told of them."""
        if not records:
            return {}
        strings = await self._signer.sign([record.facts for record in records])
        answers: dict[Holder, Answer] = {
            record.holder: current_of(record, string) if isinstance(string, str) else string
            for record, string in zip(records, strings, strict=True)
        }
        try:
            await self._cache.put([a for a in answers.values() if isinstance(a, Current)], now)
        except errors.CacheUnavailable:
            log.debug("the cache was not warmed", action="put-skipped")
        return answers

    async def again(self, records: Sequence[Record], now: int) -> dict[Holder, Answer]:
        """As :meth:`many`, but what the cache holds of these very facts is not made again."""
        try:
            hits = await self._cache.get([record.holder for record in records])
        except errors.CacheUnavailable:
            return await self.many(records, now)
        cached: dict[Holder, Answer] = {}
        rest: list[Record] = []
        for record, hit in zip(records, hits, strict=True):
            facts = (record.issued_at, record.key_id, record.expires_at)
            if hit is not None and (hit.issued_at, hit.key_id, hit.expires_at) == facts:
                cached[hit.holder] = hit
            else:
                rest.append(record)
        return cached | await self.many(rest, now)

    async def found(self, records: Sequence[Record], now: int) -> list[Current]:
        """As :meth:`many`; failures are left out."""
        answers = await self.many(records, now)
        return [answer for answer in answers.values() if isinstance(answer, Current)]

    async def _dead(self, sdkappid: int, key_id: int) -> bool:
        state = await self._signer.key_state(sdkappid, key_id)
        return current_key_state(state) in decision.DEAD_KEYS
