"""Judges whether a sig may be served, and derives its string from its facts.

Requests, streams and reconcile all use it. A cached sig may be served while enough of its life is
left and its key is neither tainted nor revoked; a record is judged by ``model/decision`` with the
keys of its app.

What this module does not do: make new sigs, or write to the store.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sigmgr.flow.reissuer import Batch
from sigmgr.flow.revocations import Revocations
from sigmgr.model import decision, errors, timing
from sigmgr.model.app import App
from sigmgr.model.decision import Decision, Input
from sigmgr.model.holder import Holder
from sigmgr.model.sig import Current, Record, current_of
from sigmgr.ports import Answer, Registry, SigCache, Signer
from sigmgr.telemetry import get_logger

log = get_logger("sigmgr.derive")


def raised(answer: Answer) -> Current:
    if isinstance(answer, errors.SigmgrError):
        raise answer
    return answer


def key_of(current: Current) -> tuple[int, int]:
    """The key that made this sig: key ids are counted within an app."""
    return current.holder.sdkappid, current.key_id


@dataclass(eq=False, repr=False)
class Derive:
    registry: Registry
    cache: SigCache
    signer: Signer
    revocations: Revocations

    async def cached(self, holders: Sequence[Holder]) -> Sequence[Current | None]:
        """The cached sigs, in the order asked; all None where Redis does not answer."""
        try:
            return await self.cache.get(holders)
        except errors.CacheUnavailable:
            return [None] * len(holders)

    async def stands(self, hit: Current, now: int) -> bool:
        """A cached sig may be served without a look into the store."""
        if not self.revocations.serves(hit, now):
            return False
        try:
            app = await self.registry.app(hit.holder.sdkappid)
        except errors.SigmgrError:
            # The way through the store reports the error.
            return False
        durations = app.policy.durations(hit.expires_at - hit.issued_at)
        if not timing.may_serve(durations, hit.expires_at, now):
            return False
        return not await self._dead(*key_of(hit))

    async def valid(self, hit: Current, now: int) -> bool:
        """A cached sig may be served where nothing better can be had: it lives, and neither it nor
        its key is revoked or tainted."""
        if now >= hit.expires_at or not self.revocations.serves(hit, now):
            return False
        return not await self._dead(*key_of(hit))

    def unless_revoked(self, answer: Answer, now: int) -> Answer:
        """The answer, or the error where it was revoked meanwhile. The last step before a sig is
        served, with no await after it."""
        if isinstance(answer, Current) and self.revocations.killed(answer):
            until = self.revocations.until(answer.holder.sdkappid, answer.holder.userid)
            return errors.RevokePause(retry_after=max(1, until + 1 - now))
        return answer

    async def sound_keys(self, hits: Iterable[Current | None]) -> set[tuple[int, int]]:
        """The keys of cached sigs that are neither tainted nor revoked."""
        keys = {key_of(hit) for hit in hits if hit is not None}
        return {key for key in keys if not await self._dead(*key)}

    async def still_valid(self, records: Sequence[Record], now: int) -> list[Record]:
        """The records whose sig and key are still valid: better than nothing (rule 5)."""
        return [
            record
            for record in records
            if record.alive(now) and not await self._dead(record.sdkappid, record.key_id)
        ]

    async def inputs(
        self, app: App, records: Sequence[Record], now: int, privileges: int = 0
    ) -> list[Input]:
        try:
            key = await self.signer.active_key(app.sdkappid)
        except errors.SigmgrError:
            # None, or one that does not open: sigs of other keys are still served.
            key = None
        states = {
            key_id: decision.state_of(await self.signer.key_state(app.sdkappid, key_id))
            for key_id in {record.key_id for record in records if record.issued_at}
        }
        return [
            Input(record, now, app.policy, key, states.get(record.key_id), privileges)
            for record in records
        ]

    async def decide(self, app: App, record: Record, now: int) -> Decision:
        [given] = await self.inputs(app, [record], now)
        return decision.decide(decision.REQUEST_CHAIN, given)

    async def only(self, batch: Batch, now: int) -> Current:
        """The answer of a batch for one holder. Raises its error, and those of the signer."""
        for record in batch.choice.keep:
            [string] = await self.signer.sign([record.facts])
            answer = current_of(record, string) if isinstance(string, str) else string
            break
        else:
            [answer] = batch.answers().values()
        return raised(self.unless_revoked(answer, now))

    async def derived(self, records: Sequence[Record]) -> dict[Holder, Answer]:
        strings = await self.signer.sign([record.facts for record in records])
        return {
            record.holder: current_of(record, string) if isinstance(string, str) else string
            for record, string in zip(records, strings, strict=True)
        }

    async def derive_and_cache(self, records: Sequence[Record], now: int) -> dict[Holder, Answer]:
        if not records:
            return {}
        answers = await self.derived(records)
        try:
            await self.cache.put([a for a in answers.values() if isinstance(a, Current)], now)
        except errors.CacheUnavailable:
            log.debug("the cache was not warmed", action="put-skipped")
        return answers

    async def cached_or_derived(self, records: Sequence[Record], now: int) -> dict[Holder, Answer]:
        """As :meth:`derive_and_cache`, but for sigs that the cache has of these facts."""
        hits = await self.cached([record.holder for record in records])
        cached: dict[Holder, Answer] = {}
        rest: list[Record] = []
        for record, hit in zip(records, hits, strict=True):
            facts = (record.issued_at, record.key_id, record.expires_at)
            if hit is not None and (hit.issued_at, hit.key_id, hit.expires_at) == facts:
                cached[hit.holder] = hit
            else:
                rest.append(record)
        return cached | await self.derive_and_cache(rest, now)

    async def _dead(self, sdkappid: int, key_id: int) -> bool:
        state = await self.signer.key_state(sdkappid, key_id)
        return decision.state_of(state) in decision.DEAD_KEYS
