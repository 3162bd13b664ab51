"""A request for a sig: cache, else store, else sign and commit. One flight per holder.

The flight is single across processes by the row lock of the store (a second caller waits
there and then finds the first one's sig), and within a process by sharing the answer.

Rules held here: 5 (nobody gets a sig with too little left while a better one can be made;
if none can, the old one is served as long as it is valid), 7 (``replaces``), and that a
dead Redis slows a get but never fails it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

from sigmgr.flow.commit import (
    Commit,
    Made,
    Telling,
    Work,
    current_key_state,
    current_of,
    with_fresh_keys,
)
from sigmgr.flow.relay import Teller
from sigmgr.flow.seen import Seen
from sigmgr.model import decision, errors, timing
from sigmgr.model.app import App
from sigmgr.model.decision import Decision, Input, Verdict
from sigmgr.model.holder import Holder, Kind, Room
from sigmgr.model.policy import Policy, check_ttl
from sigmgr.model.sig import Current, Reason, Record
from sigmgr.ports import Cache, Registry, Signer, Store, Transaction
from sigmgr.telemetry import GETS, get_logger

log = get_logger("sigmgr.issue")

Answer = Current | errors.SigmgrError


def key_of(current: Current) -> tuple[int, int]:
    """Which key made this sig: key ids are counted within an app."""
    return current.holder.sdkappid, current.key_id


class Issue:
    """Answers gets, batch-gets, reissues and room keys."""

    def __init__(
        self,
        *,
        registry: Registry,
        store: Store,
        cache: Cache,
        signer: Signer,
        commit: Commit,
        teller: Teller,
        seen: Seen,
    ) -> None:
        self._registry = registry
        self._store = store
        self._cache = cache
        self._signer = signer
        self._commit = commit
        self._teller = teller
        self._seen = seen
        self._flights: dict[Holder, asyncio.Future[Answer]] = {}

    async def current(self, holder: Holder, now: int) -> Current:
        """The holder's current sig, issued if there is none."""
        return _raised((await self.many([holder], now))[0])

    async def many(self, holders: Sequence[Holder], now: int) -> list[Answer]:
        """The same for many of any apps, in the order asked, an error where one failed."""
        wanted = list(dict.fromkeys(holders))
        cached = await self._cached(wanted)
        answers: dict[Holder, Answer] = {
            hit.holder: hit for hit in cached if hit is not None and await self._good(hit, now)
        }
        GETS.labels("cache").inc(len(answers))
        missing = [holder for holder in wanted if holder not in answers]
        if missing:
            answers.update(await self._shared(missing, now))
            self._fall_back(answers, zip(wanted, cached, strict=True), now)
        for holder, answer in answers.items():
            if isinstance(answer, Current):
                self._seen.note(holder.user, now)
        return [answers[holder] for holder in holders]

    async def fresh(self, holders: Sequence[Holder], now: int) -> list[Answer]:
        """As :meth:`many`, but looking past the cache: for a stream that opens."""
        answers = await self._shared(list(dict.fromkeys(holders)), now)
        return [answers[holder] for holder in holders]

    async def sound_keys(self, hits: Iterable[Current | None]) -> set[tuple[int, int]]:
        """Those of the keys of cached sigs that were neither tainted nor revoked meanwhile."""
        keys = {key_of(hit) for hit in hits if hit is not None}
        return {key for key in keys if not await self._dead(*key)}

    async def _dead(self, sdkappid: int, key_id: int) -> bool:
        state = await self._signer.key_state(sdkappid, key_id)
        return current_key_state(state) in decision.DEAD_KEYS

    async def derive(self, records: Sequence[Record], now: int) -> list[Current]:
        """The strings of facts that stand, and the cache told; failures are left out."""
        answers = await self._derive_many(records, now)
        return [answer for answer in answers.values() if isinstance(answer, Current)]

    async def reissue(
        self,
        holder: Holder,
        now: int,
        *,
        reason: Reason = Reason.CLIENT_REQUESTED,
        replaces: int | None = None,
    ) -> Current:
        """The holder's next sig. A second call within one second answers with the first's
        result; ``replaces`` (an issued_at) that is no longer current raises AlreadyReplaced.
        """
        return await with_fresh_keys(
            self._signer, lambda: self._reissued(holder, now, reason, replaces)
        )

    async def _reissued(
        self, holder: Holder, now: int, reason: Reason, replaces: int | None
    ) -> Current:
        app = await self._registry.app(holder.sdkappid)
        tell = Telling()
        async with self._store.transaction() as tx:
            [record] = await tx.lock([holder])
            if not decision.may_replace(record, replaces):
                raise errors.AlreadyReplaced
            given = await self._input(app, record, now)
            pause = decision.in_revoke_pause(given)
            if pause is not None:
                raise _pause(app, record, now)
            forced = decision.has_dead_key(given) is not None
            if record.alive(now) and timing.same_second(now, record.issued_at) and not forced:
                made = Made(record, await self._derived(record), None)
            else:
                if record.issued_at == 0:
                    reason = Reason.MISSING
                work = Work(record, reason, app.policy, seen=True)
                [made] = await self._commit.make(tx, [work], now)
                if made.error is not None:
                    raise made.error
                tell = await self._commit.write(tx, [(work, made)], now)
        self._teller.soon(tell, now)
        assert made.current is not None
        return made.current

    async def room_key(
        self, sdkappid: int, userid: str, room: Room, *, privileges: int, ttl: int | None, now: int
    ) -> Current:
        """A privateMapKey for one user and room: the current one where it fits what is
        asked, else the next one. ``ttl`` None means the policy's."""
        if ttl is not None:
            check_ttl(ttl)
        holder = Holder(sdkappid, userid, Kind.ROOM.value, room.scope)
        return await with_fresh_keys(
            self._signer, lambda: self._room_key(holder, privileges, ttl, now)
        )

    async def _room_key(
        self, holder: Holder, privileges: int, ttl: int | None, now: int
    ) -> Current:
        app = await self._registry.app(holder.sdkappid)
        user = holder.user
        tell = Telling()
        async with self._store.transaction() as tx:
            # The user's row is locked too, so that a revocation cannot slip in between.
            owner, record = await tx.lock([user, holder])
            record = record._replace(revoked_at=max(record.revoked_at, owner.revoked_at))
            given = await self._input(app, record, now, privileges)
            verdict = _room_verdict(given, ttl or 0)
            work = Work(
                record,
                verdict.reason or Reason.CLIENT_REQUESTED,
                app.policy,
                ttl=ttl or 0,
                privileges=privileges,
                seen=True,
            )
            if verdict.verdict is Verdict.KEEP:
                made = Made(record, await self._derived(record), None)
                if record.due_at is None:
                    await tx.save([(_awake(record, now), record.issued_at)])
            else:
                [made] = await self._commit.make(tx, [work], now)
                if made.error is not None:
                    raise made.error
                tell = await self._commit.write(tx, [(work, made)], now)
        self._teller.soon(tell, now)
        assert made.current is not None
        return made.current

    # -- the way through the store -------------------------------------------------------

    async def _shared(self, holders: list[Holder], now: int) -> dict[Holder, Answer]:
        """Answers from flights that are under way in this process, and from a new one."""
        mine = [holder for holder in holders if holder not in self._flights]
        theirs = {h: self._flights[h] for h in holders if h in self._flights}
        loop = asyncio.get_running_loop()
        flights = {holder: loop.create_future() for holder in mine}
        self._flights.update(flights)
        answers: dict[Holder, Answer] = {}
        try:
            if mine:
                answers = await self._from_store(mine, now)
        except errors.SigmgrError as error:
            answers = dict.fromkeys(mine, error)
        finally:
            for holder, flight in flights.items():
                del self._flights[holder]
                lost = errors.Stopping()
                flight.set_result(answers.get(holder, lost))
        for holder, flight in theirs.items():
            answers[holder] = await asyncio.shield(flight)
        left = [holder for holder in theirs if isinstance(answers[holder], errors.Stopping)]
        if left:
            # Whoever flew was cancelled, not we.
            answers.update(await self._shared(left, now))
        return answers

    async def _from_store(self, holders: list[Holder], now: int) -> dict[Holder, Answer]:
        answers: dict[Holder, Answer] = {}
        known: list[tuple[App, Holder]] = []
        for holder in holders:
            try:
                known.append((await self._registry.app(holder.sdkappid), holder))
            except errors.SigmgrError as error:
                answers[holder] = error
        found = await self._store.find([holder for _, holder in known])
        keep: list[Record] = []
        stale: list[tuple[App, Holder]] = []
        for (app, holder), record in zip(known, found, strict=True):
            if record is not None and record.due_at is not None:
                verdict = await self._decide(app, record, now)
                if verdict.verdict is Verdict.KEEP:
                    keep.append(record)
                    continue
            stale.append((app, holder))
        answers.update(await self._derive_many(keep, now))
        if stale:
            old = [record for record in found if record is not None]
            answers.update(await self._better(stale, old, now))
        GETS.labels("store").inc(len(answers))
        return answers

    async def _better(
        self, stale: list[tuple[App, Holder]], old: Sequence[Record], now: int
    ) -> dict[Holder, Answer]:
        """The stale ones made anew; where that cannot be written, the old sig while it is
        valid, and an error for those alone that have none (rule 5)."""
        try:
            return await with_fresh_keys(self._signer, lambda: self._reissue_stale(stale, now))
        except errors.SigmgrError as error:
            asked = {holder for _, holder in stale}
            valid = [r for r in old if r.holder in asked and r.alive(now)]
            answers: dict[Holder, Answer] = dict.fromkeys(asked, error)
            derived = await self._derive_many(valid, now)
            return answers | {h: a for h, a in derived.items() if isinstance(a, Current)}

    async def _reissue_stale(
        self, stale: list[tuple[App, Holder]], now: int
    ) -> dict[Holder, Answer]:
        """Under the locks: look again, wake, sign what still needs it, commit."""
        answers: dict[Holder, Answer] = {}
        tell = Telling()
        async with self._store.transaction() as tx:
            records = await tx.lock([holder for _, holder in stale])
            works: list[Work] = []
            keep: list[Record] = []
            for (app, holder), record in zip(stale, records, strict=True):
                verdict = await self._decide(app, record, now)
                if verdict.verdict is Verdict.WAIT:
                    answers[holder] = _pause(app, record, now)
                elif verdict.verdict is Verdict.KEEP:
                    keep.append(record)
                else:
                    assert verdict.reason is not None
                    works.append(Work(record, verdict.reason, app.policy, seen=True))
            await self._wake(tx, keep, now)
            made = await self._commit.make(tx, works, now) if works else []
            tell = await self._commit.write(tx, list(zip(works, made, strict=True)), now)
        self._teller.soon(tell, now)
        answers.update(await self._derive_many(keep, now))
        old = [one.record for one in made if one.error is not None and one.record.alive(now)]
        answers.update(await self._derive_many(old, now))
        for work, one in zip(works, made, strict=True):
            answers.setdefault(work.record.holder, one.current or one.error or errors.SigmgrError())
        return answers

    @staticmethod
    async def _wake(tx: Transaction, keep: Sequence[Record], now: int) -> None:
        """Dormant holders that were asked for are renewed again from now on."""
        asleep = [record for record in keep if record.due_at is None]
        if asleep:
            await tx.save([(_awake(record, now), record.issued_at) for record in asleep])

    # -- small parts -----------------------------------------------------------------------

    async def _cached(self, holders: Sequence[Holder]) -> Sequence[Current | None]:
        try:
            return await self._cache.get(holders)
        except errors.CacheUnavailable:
            return [None] * len(holders)

    async def _good(self, hit: Current, now: int) -> bool:
        try:
            app = await self._registry.app(hit.holder.sdkappid)
        except errors.AppUnknown:
            return False
        spans = app.policy.spans(hit.expires_at - hit.issued_at)
        return timing.may_serve(spans, hit.expires_at, now) and not await self._dead(*key_of(hit))

    @staticmethod
    def _fall_back(
        answers: dict[Holder, Answer], cached: zip[tuple[Holder, Current | None]], now: int
    ) -> None:
        """Where nothing better could be made, a cached sig that is still valid is served."""
        for holder, hit in cached:
            failed = isinstance(answers.get(holder), errors.UnavailableError)
            if failed and hit is not None and now < hit.expires_at:
                answers[holder] = hit

    async def _input(self, app: App, record: Record, now: int, privileges: int = 0) -> Input:
        try:
            key = await self._signer.active_key(app.sdkappid)
        except errors.SigmgrError:
            # None, or one that does not open: what was signed by others is still served.
            key = None
        state = None
        if record.issued_at:
            state = current_key_state(await self._signer.key_state(app.sdkappid, record.key_id))
        return Input(record, now, app.policy, key, state, privileges)

    async def _decide(self, app: App, record: Record, now: int) -> Decision:
        given = await self._input(app, record, now)
        return decision.decide(decision.REQUEST_CHAIN, given)

    async def _derived(self, record: Record) -> Current:
        [string] = await self._signer.sign([record.facts])
        if isinstance(string, errors.SigmgrError):
            raise string
        return current_of(record, string)

    async def _derive_many(self, records: Sequence[Record], now: int) -> dict[Holder, Answer]:
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


def _awake(record: Record, now: int) -> Record:
    return record._replace(due_at=record.renew_at, seen_at=max(record.seen_at, now))


def _room_verdict(given: Input, ttl: int) -> Decision:
    """Keep the room key or make the next one. Raises RevokePause and AskedTooOften."""
    record, now = given.record, given.now
    verdict = decision.decide(decision.REQUEST_CHAIN, given)
    if verdict.verdict is Verdict.WAIT:
        raise errors.RevokePause(retry_after=_wait(given.policy, record, now))
    # What lives longer already cannot be made shorter (rule 3).
    if verdict.verdict is Verdict.KEEP and ttl > record.ttl:
        verdict = Decision(Verdict.REISSUE, Reason.POLICY_CHANGED, "a longer life")
    if verdict.verdict is Verdict.REISSUE and record.issued_at > now and record.alive(now):
        # Two askers who want different privileges would push the fence into the future.
        raise errors.AskedTooOften(retry_after=1)
    return verdict


def _wait(policy: Policy, record: Record, now: int) -> int:
    return max(1, record.revoked_at + policy.revoke_pause - now)


def _pause(app: App, record: Record, now: int) -> errors.RevokePause:
    return errors.RevokePause(retry_after=_wait(app.policy, record, now))


def _raised(answer: Answer) -> Current:
    if isinstance(answer, errors.SigmgrError):
        raise answer
    return answer
