"""Where a sig becomes real. Requests and ticks meet here.

A story says under the locks whose sigs are reissued and why (:data:`Choose`). The rest is the same
for all, in one transaction: take the app's key, derive the next facts, sign them, write the rows
guarded by the ``issued_at`` that was read, write what failed, append one event for each.

Rules held here: 2 and 3 (newer, never shorter), 7 (the guard), 8 (the signer checks every result),
9 (one event), 10 (a failure is written with its backoff), 13 (the key's state is read in this
transaction), 21 (while the clocks disagree, nothing is made but in the emergency lane).

What this module does not do: say why a sig is reissued (``model/decision``).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import NamedTuple

from sigmgr.flow.commit import Committed, append, once_more
from sigmgr.flow.relay import Publisher
from sigmgr.model import decision, errors, timing
from sigmgr.model.event import Event, EventType
from sigmgr.model.holder import Holder
from sigmgr.model.policy import Policy
from sigmgr.model.sig import Current, KeyRef, KeyState, Reason, Record, current_of, next_record
from sigmgr.ports import Announcement, Draw, Signer, Store, Transaction
from sigmgr.telemetry import ISSUED, get_logger

log = get_logger("sigmgr.reissuer")

#: After so many seconds a caller may try again; nobody knows how long clocks disagree.
_CLOCKS_AGREE_IN = 5

_ISSUED, _RENEWED = EventType.ISSUED.value, EventType.RENEWED.value


class Reissue(NamedTuple):
    """One holder that is to get its next sig. ``ttl`` and ``privileges`` 0: as before or
    as the policy says. ``newer_than``: a second after which it is to be issued, too."""

    record: Record
    reason: Reason
    policy: Policy
    ttl: int = 0
    privileges: int = 0
    first_generation: bool = False
    seen: bool = False
    newer_than: int = 0


@dataclass(slots=True)
class Choice:
    """What a story found under the locks: who gets a next sig; records whose sigs stand; errors for
    others; and records that only move in time, each with the ``issued_at`` that its row has."""

    reissues: list[Reissue] = field(default_factory=list)
    keep: list[Record] = field(default_factory=list)
    refused: dict[Holder, errors.SigmgrError] = field(default_factory=dict)
    moved: list[tuple[Record, int]] = field(default_factory=list)


#: Locks rows and chooses. It is called once more where a commit may have been done; the
#: records are those that were written then.
Choose = Callable[[Transaction, Sequence[Record]], Awaitable[Choice]]


class OnFailure(Enum):
    """ANSWER the error and leave the row as it is; RAISE it, so that nothing is written; or
    BACK_OFF: write it into the row with the time of the next try."""

    ANSWER = auto()
    RAISE = auto()
    BACK_OFF = auto()


class Outcome(NamedTuple):
    """What became of one reissue: a sig with its new record, or an error with the old one."""

    reissue: Reissue
    record: Record
    answer: Current | errors.SigmgrError

    @property
    def made(self) -> bool:
        return isinstance(self.answer, Current)


class Batch(NamedTuple):
    """A choice, an outcome for each of its reissues, and what is to be announced of it."""

    choice: Choice
    outcomes: Sequence[Outcome]
    committed: Committed

    def answers(self) -> dict[Holder, Current | errors.SigmgrError]:
        """For those that were refused or reissued."""
        return self.choice.refused | {one.record.holder: one.answer for one in self.outcomes}


@dataclass(eq=False, repr=False)
class Reissuer:
    """``ordinary``: whether this process knows the second well enough for any sig; where it does
    not, reissues that are not urgent get ClockApart."""

    store: Store
    signer: Signer
    draw: Draw
    publisher: Publisher
    ordinary: Callable[[], bool] = lambda: True

    async def reissue(
        self, choose: Choose, now: int, on_failure: OnFailure = OnFailure.ANSWER
    ) -> Batch:
        """As :meth:`commit`, and have it announced soon."""
        batch = await self.commit(choose, now, on_failure)
        self.publisher.soon(batch.committed, now)
        return batch

    async def commit(self, choose: Choose, now: int, on_failure: OnFailure) -> Batch:
        """Choose, sign and write, all of it committed. Raises what the choice raises, and
        StoreUnavailable."""
        written: list[Record] = []
        return await once_more(
            lambda: self._in_one_transaction(choose, written, now, on_failure), self.signer
        )

    async def _in_one_transaction(
        self, choose: Choose, written: list[Record], now: int, on_failure: OnFailure
    ) -> Batch:
        async with self.store.transaction() as tx:
            choice = await choose(tx, written)
            outcomes = await self._signed(tx, choice.reissues, now) if choice.reissues else []
            made = [one for one in outcomes if one.made]
            failed = [one for one in outcomes if not one.made]
            written += [one.record for one in made]
            moved, events = choice.moved, [_announcement(one, now) for one in made]
            if failed and on_failure is OnFailure.RAISE:
                raise _error(failed[0])
            if failed and on_failure is OnFailure.BACK_OFF:
                later, failures = self._backed_off(failed, now)
                moved, events = moved + later, events + failures
            if made:
                changes = [(one.record, one.reissue.record.issued_at) for one in made]
                await tx.save(changes, new_sigs=True)
            if moved:
                await tx.save(moved)
            committed = await append(tx, events) if events else Committed()
        return Batch(choice, outcomes, committed)

    # -- signing ---------------------------------------------------------------------------

    async def _signed(
        self, tx: Transaction, reissues: Sequence[Reissue], now: int
    ) -> list[Outcome]:
        """The next sig of each, not yet written; an error where one fails. Raises KeyChanged
        where this process's keys are out of date."""
        keys = await self._signing_keys(tx, {one.record.sdkappid for one in reissues})
        held = not self.ordinary()
        planned = [
            errors.ClockApart(retry_after=_CLOCKS_AGREE_IN)
            if held and not decision.is_urgent(one.record, one.policy, now)
            else self._next(one, keys[one.record.sdkappid], now)
            for one in reissues
        ]
        facts = [plan.facts for plan in planned if isinstance(plan, Record)]
        signed = zip(facts, await self.signer.sign(facts) if facts else [], strict=True)
        outcomes = []
        for one, plan in zip(reissues, planned, strict=True):
            if isinstance(plan, Record):
                fact, result = next(signed)
                if isinstance(result, str):
                    current = current_of(plan, result, fact.holder)
                    outcomes.append(Outcome(one, plan, current))
                else:
                    outcomes.append(Outcome(one, one.record, result))
            else:
                outcomes.append(Outcome(one, one.record, plan))
        _count(outcomes)
        return outcomes

    async def _signing_keys(
        self, tx: Transaction, apps: set[int]
    ) -> dict[int, KeyRef | errors.SigmgrError]:
        """Each app's active key, held active until the transaction ends (rule 13)."""
        keys: dict[int, KeyRef | errors.SigmgrError] = {}
        for sdkappid in apps:
            try:
                keys[sdkappid] = await self.signer.active_key(sdkappid)
            except errors.SigmgrError as error:
                keys[sdkappid] = error
        wanted = [key.key_id for key in keys.values() if isinstance(key, KeyRef)]
        states = await tx.signing_states(wanted) if wanted else {}
        for sdkappid, key in keys.items():
            if isinstance(key, KeyRef) and states.get(key.key_id) is not KeyState.ACTIVE:
                # Nobody's fault and soon over: roll back, load the keys, try again. A failure
                # with backoff would let an app wait a minute after each key activation.
                raise errors.KeyChanged(f"key {key.key_id} of app {sdkappid} is not active")
        return keys

    def _next(
        self, one: Reissue, key: KeyRef | errors.SigmgrError, now: int
    ) -> Record | errors.SigmgrError:
        if isinstance(key, errors.SigmgrError):
            return key
        old = one.record
        issued_at = timing.next_issued_at(now, max(old.issued_at, old.revoked_at, one.newer_than))
        ttl = one.ttl or one.policy.ttl_of(old.kind)
        if old.issued_at > old.revoked_at:
            # Rule 3: a policy that was shortened shortens nobody's current sig.
            ttl = max(ttl, old.expires_at - issued_at + 1)
        try:
            times = timing.plan(
                one.policy, issued_at, ttl, self.draw(), first_generation=one.first_generation
            )
        except errors.BadTime as error:
            return error
        return next_record(
            old,
            key,
            times,
            reason=one.reason,
            privileges=one.privileges or old.privileges,
            seen_at=max(old.seen_at, now) if one.seen else old.seen_at,
        )

    # -- writing ---------------------------------------------------------------------------

    def _backed_off(
        self, failed: Sequence[Outcome], now: int
    ) -> tuple[list[tuple[Record, int]], list[Announcement]]:
        """Rows with the failure and the time of the next try, and its event. What waits for
        the clocks to agree stays due, as if it had not been claimed."""
        rows: list[tuple[Record, int]] = []
        events: list[Announcement] = []
        for one in failed:
            error = _error(one)
            if isinstance(error, errors.ClockApart):
                continue
            old = one.record
            durations, failures = one.reissue.policy.durations(old.ttl), old.failures + 1
            due_at = timing.retry_at(durations, old.expires_at, failures, self.draw(), now)
            changed = old._replace(failures=failures, last_error=error.code, due_at=due_at)
            rows.append((changed, old.issued_at))
            events.append(Announcement(_failure(one, error, now), None))
        for (sdkappid, code), count in Counter(
            (event.holder.sdkappid, event.note) for event, _ in events
        ).items():
            log.warning(
                "renewals failed and will be tried again",
                action="renewal-failed",
                app=sdkappid,
                count=count,
                code=code,
            )
        return rows, events


def _announcement(one: Outcome, now: int) -> Announcement:
    """Of a sig that was made."""
    record, current = one.record, one.answer
    assert isinstance(current, Current)
    # The new record of a first sig remembers none before.
    kind = _ISSUED if record.past == "[]" else _RENEWED
    event = Event(kind, current.holder, record.issued_at, record.expires_at, record.reason, now)
    return Announcement(event, current)


def _failure(one: Outcome, error: errors.SigmgrError, now: int) -> Event:
    old, reason = one.record, one.reissue.reason.value
    kind = EventType.RENEWAL_FAILED.value
    return Event(kind, old.holder, old.issued_at, old.expires_at, reason, now, error.code)


def _error(one: Outcome) -> errors.SigmgrError:
    assert isinstance(one.answer, errors.SigmgrError)
    return one.answer


def _count(outcomes: Sequence[Outcome]) -> None:
    tally = Counter(
        (one.record.sdkappid, one.reissue.reason, _result(one.answer)) for one in outcomes
    )
    for (app, reason, result), n in tally.items():
        ISSUED.labels(str(app), reason.value, result).inc(n)


def _result(answer: Current | errors.SigmgrError) -> str:
    """What was held is no failure: it is made when the clocks agree."""
    if isinstance(answer, Current):
        return "ok"
    return "held" if isinstance(answer, errors.ClockApart) else "failed"
