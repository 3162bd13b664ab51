"""The shared tail: where a sig becomes real. Requests and ticks meet here.

In one transaction, under the holders' row locks: derive the next facts, sign them, check
that the key may sign, write the rows guarded by the ``issued_at`` that was read, and append
one event per sig. What can be told of it (cache, channels) follows after the commit.

Rules held here (DESIGN section 4): 2 and 3 (newer, never shorter), 7 (the guard), 8 (the
signer checks every result against its facts before it hands it out), 9 (one event), 10 (a
failure is written with its backoff), 13 (the key's state is read in this transaction), 21
(while the clocks disagree, nothing is made but in the emergency lane).

Not here: why a sig is reissued (``model/decision``), and telling it (``flow/relay``).
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple, TypeVar

import msgspec

from sigmgr.model import decision, errors, timing
from sigmgr.model.event import Event, EventType
from sigmgr.model.holder import Holder
from sigmgr.model.policy import Policy
from sigmgr.model.sig import (
    PAST_KEPT,
    Current,
    KeyRef,
    KeyState,
    Past,
    Reason,
    Record,
    SigFacts,
)
from sigmgr.ports import Announcement, Draw, Signer, Transaction
from sigmgr.telemetry import ISSUED

T = TypeVar("T")

#: After so many seconds a caller may try again; nobody knows how long clocks disagree.
_CLOCKS_AGREE_IN = 5


class Work(NamedTuple):
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


class Made(NamedTuple):
    """What became of one work: a sig, or an error with the old record."""

    record: Record
    current: Current | None
    error: errors.SigmgrError | None


@dataclass(frozen=True, slots=True)
class Telling:
    """What is to be told of a commit, and the rows of the outbox that hold it.

    A row is forgotten as a whole, so a telling is told as a whole.
    """

    batch: Sequence[Announcement] = ()
    rows: Sequence[int] = ()

    def __len__(self) -> int:
        return len(self.batch)


def joined(parts: Sequence[Telling]) -> Telling:
    """Several as one."""
    return Telling(
        list(chain.from_iterable(part.batch for part in parts)),
        list(chain.from_iterable(part.rows for part in parts)),
    )


_past_decoder = msgspec.json.Decoder(list[list[int | str]])


def past_of(record: Record) -> list[Past]:
    """The record's earlier sigs, newest first."""
    return [
        Past(int(p[0]), int(p[1]), int(p[2]), str(p[3])) for p in _past_decoder.decode(record.past)
    ]


def _remember(record: Record) -> str:
    """The ``past`` column once the current sig has become a past one."""
    if record.issued_at == 0:
        return record.past
    newest = f'[{record.issued_at},{record.ttl},{record.key_id},"{record.reason}"]'
    if record.past == "[]":
        return f"[{newest}]"
    kept = record.past[1:-1].split("],")[: PAST_KEPT - 1]
    return f"[{newest},{'],'.join(kept).removesuffix(']')}]]"


def current_of(record: Record, usersig: str, holder: Holder | None = None) -> Current:
    """A record and its derived string as they are handed around. ``holder``: the record's,
    where the caller has it at hand."""
    return Current(
        holder or record.holder,
        record.format,
        record.key_id,
        record.issued_at,
        record.expires_at,
        record.renew_at,
        usersig,
        record.reason,
    )


def announcement_of(record: Record, now: int, current: Current | None) -> Announcement:
    """The one event of a sig that was just made."""
    kind = EventType.ISSUED if record.past == "[]" else EventType.RENEWED
    holder = record.holder if current is None else current.holder
    event = Event(kind.value, holder, record.issued_at, record.expires_at, record.reason, now)
    return Announcement(event, current)


class Commit:
    """Makes sigs real inside a transaction that the caller opened and holds the locks in.

    ``ordinary`` says whether this process knows the second well enough for any sig; where it
    does not, works that are not urgent get ClockApart.
    """

    def __init__(
        self, signer: Signer, draw: Draw, ordinary: Callable[[], bool] = lambda: True
    ) -> None:
        self._signer = signer
        self._draw = draw
        self._ordinary = ordinary

    async def make(self, tx: Transaction, works: Sequence[Work], now: int) -> list[Made]:
        """Sign the next sig of each. Writes nothing: see :meth:`write`.

        Never raises for one bad work; its error is in its :class:`Made`. Raises KeyChanged
        where this process's keys are out of date: see :func:`once_more`.
        """
        keys = await self._signing_keys(tx, {work.record.sdkappid for work in works})
        held = not self._ordinary()
        planned = [
            errors.ClockApart(retry_after=_CLOCKS_AGREE_IN)
            if held and not decision.is_urgent(work.record, work.policy, now)
            else self._plan(work, keys[work.record.sdkappid], now)
            for work in works
        ]
        facts = [plan.facts for plan in planned if isinstance(plan, Record)]
        signed = zip(facts, await self._signer.sign(facts) if facts else [], strict=True)
        made = []
        for work, plan in zip(works, planned, strict=True):
            if isinstance(plan, Record):
                fact, result = next(signed)
            else:
                result = plan
            if isinstance(plan, Record) and isinstance(result, str):
                made.append(Made(plan, current_of(plan, result, fact.holder), None))
            else:
                assert isinstance(result, errors.SigmgrError)
                made.append(Made(work.record, None, result))
        self._count(works, made)
        return made

    async def write(self, tx: Transaction, pairs: Iterable[tuple[Work, Made]], now: int) -> Telling:
        """Save what was made and append its events; answers what is to be told.

        Works that failed are left as they are: a tick adds their backoff itself.
        """
        changes = [(made.record, work.record.issued_at) for work, made in pairs if made.current]
        if not changes:
            return Telling()
        tell = [
            announcement_of(made.record, now, made.current) for _, made in pairs if made.current
        ]
        await tx.save(changes, new_sigs=True)
        return await append(tx, tell)

    async def _signing_keys(
        self, tx: Transaction, apps: set[int]
    ) -> dict[int, KeyRef | errors.SigmgrError]:
        """Each app's active key, held active until the transaction ends (rule 13)."""
        keys: dict[int, KeyRef | errors.SigmgrError] = {}
        for sdkappid in apps:
            try:
                keys[sdkappid] = await self._signer.active_key(sdkappid)
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

    def _plan(
        self, work: Work, key: KeyRef | errors.SigmgrError, now: int
    ) -> Record | errors.SigmgrError:
        """The holder's next record, its sig not yet signed."""
        if isinstance(key, errors.SigmgrError):
            return key
        old = work.record
        issued_at = timing.next_issued_at(now, max(old.issued_at, old.revoked_at, work.newer_than))
        ttl = work.ttl or work.policy.ttl_of(old.kind)
        if old.issued_at > old.revoked_at:
            # Rule 3: a policy that was shortened shortens nobody's current sig.
            ttl = max(ttl, old.expires_at - issued_at + 1)
        try:
            times = timing.plan(
                work.policy, issued_at, ttl, self._draw(), first_generation=work.first_generation
            )
        except errors.BadTime as error:
            return error
        # Named one by one: to replace two thirds of a record takes longer than to make one.
        return Record(
            sdkappid=old.sdkappid,
            userid=old.userid,
            kind=old.kind,
            scope=old.scope,
            format=key.format,
            key_id=key.key_id,
            issued_at=times.issued_at,
            ttl=ttl,
            renew_at=times.renew_at,
            warn_after=times.warn_after,
            expires_at=times.expires_at,
            privileges=work.privileges or old.privileges,
            reason=work.reason.value,
            due_at=times.renew_at,
            seen_at=max(old.seen_at, now) if work.seen else old.seen_at,
            acked=old.acked,
            acked_at=old.acked_at,
            revoked_at=old.revoked_at,
            past=_remember(old),
        )

    @staticmethod
    def _count(works: Sequence[Work], made: Sequence[Made]) -> None:
        tally = Counter(
            (work.record.sdkappid, work.reason, _result(one))
            for work, one in zip(works, made, strict=True)
        )
        for (app, reason, result), n in tally.items():
            ISSUED.labels(str(app), reason.value, result).inc(n)


def _result(made: Made) -> str:
    """What was held is no failure: it is made when the clocks agree."""
    if made.error is None:
        return "ok"
    return "held" if isinstance(made.error, errors.ClockApart) else "failed"


async def once_more(story: Callable[[], Awaitable[T]], signer: Signer | None = None) -> T:
    """Run a story that commits; once more where the cause of its failure is gone: a lost
    connection is replaced, keys that had changed are loaded anew.

    Where the connection was lost in the commit, that may have been done. So a story finds out
    under the locks what is left to do, as it must for others who did the same.

    Outside the transaction, for loading needs a connection of its own.
    """
    try:
        return await story()
    except (errors.ConnectionLost, errors.CommitUnknown):
        return await story()
    except errors.KeyChanged:
        if signer is None:
            raise
        # Another app's key that does not open is not this story's trouble.
        with contextlib.suppress(errors.SigmgrError):
            await signer.refresh()
        return await story()


async def append(tx: Transaction, batch: Sequence[Announcement]) -> Telling:
    """Put the events into the outbox; answers what is to be told after the commit."""
    return Telling(batch, await tx.append([event for event, _ in batch]))


def current_key_state(state: KeyState | None) -> KeyState | None:
    """An unknown key is treated as a dead one: its sig cannot be derived again."""
    return KeyState.REVOKED if state is None else state


__all__ = [
    "Commit",
    "Made",
    "SigFacts",
    "Telling",
    "Work",
    "announcement_of",
    "append",
    "current_key_state",
    "current_of",
    "joined",
    "once_more",
    "past_of",
]
