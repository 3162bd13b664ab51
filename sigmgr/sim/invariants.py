"""An invariant checker around the store: sees every commit and checks the rules below.

Checked at each commit (numbers of DESIGN section 4):
2. ``issued_at`` rises strictly.
3. A renewal never shortens, but for a revocation.
4. ``issued_at < renew_at < warn_after < expires_at``; the draw of a sig does not change.
7. One successor per sig: a change names the sig it replaces, and that one is current.
9. A committed sig has exactly one event in the same transaction, and no event lacks a sig.
13. A tainted or revoked key signs nothing after that committed.

It wraps the real store, inside the injected faults, so it sees a commit whose answer is lost.
Where a worker dies during a commit, it reads the rows to learn whether the commit was done.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from sigmgr.model.event import Event, EventType
from sigmgr.model.holder import Holder
from sigmgr.model.sig import Record
from sigmgr.ports import Store, Transaction

_SIG_EVENTS = (EventType.ISSUED.value, EventType.RENEWED.value)


class Violation(NamedTuple):
    """A rule was broken. ``at`` is virtual time."""

    rule: int
    at: int
    text: str


class InvariantChecker:
    """Wraps a store; ``rows`` are the committed rows, ``violations`` the broken rules."""

    def __init__(self, store: Store, clock: Callable[[], int]) -> None:
        self._store = store
        self._clock = clock
        self.rows: dict[Holder, Record] = {}
        self.violations: list[Violation] = []
        self.dead_keys: set[int] = set()
        self.made = 0
        self.failures = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Any]:
        seen = _Notes()
        worked = False
        try:
            async with self._store.transaction() as tx:
                yield _RecordedTransaction(tx, seen)
                worked = True
        except BaseException:
            if worked and await self._is_there(seen):
                self._committed(seen)
            raise
        self._committed(seen)

    async def _is_there(self, seen: _Notes) -> bool:
        saved = [record for record, _ in seen.changes]
        rows = await self._store.find([record.holder for record in saved])
        return bool(saved) and all(
            # A new room key does not change what its row knows of revocations.
            row is not None and row._replace(revoked_at=record.revoked_at) == record
            for row, record in zip(rows, saved, strict=True)
        )

    def report(self, rule: int, text: str) -> None:
        self.violations.append(Violation(rule, self._clock(), text))

    def _committed(self, seen: _Notes) -> None:
        announced = [(e.holder, e.issued_at) for e in seen.events if e.type in _SIG_EVENTS]
        self.failures += sum(e.type == EventType.RENEWAL_FAILED for e in seen.events)
        made = []
        for record, guard in seen.changes:
            old = self.rows.get(record.holder)
            if old is not None and guard != old.issued_at:
                self.report(7, f"{record.holder} was replaced twice: {guard} after {old.issued_at}")
            if old is None or record.issued_at != old.issued_at:
                if record.issued_at:
                    made.append((record.holder, record.issued_at))
                    self._new_sig(record, old)
            elif record.renew_at != old.renew_at:
                self.report(4, f"{record.holder}: the draw changed from {old.renew_at}")
            self.rows[record.holder] = record
        if sorted(announced) != sorted(made):
            self.report(9, f"sigs {sorted(made)} and events {sorted(announced)} differ")
        self.made += len(made)

    def _new_sig(self, record: Record, old: Record | None) -> None:
        r = record
        if not r.issued_at < r.renew_at < r.warn_after < r.expires_at:
            self.report(4, f"{r.holder}: times out of order {r}")
        if r.key_id in self.dead_keys:
            self.report(13, f"{r.holder} was signed with dead key {r.key_id}")
        if old is None:
            return
        if r.issued_at <= old.issued_at or r.issued_at <= old.revoked_at:
            self.report(2, f"{r.holder}: {r.issued_at} is not newer than {old.issued_at}")
        if old.issued_at > old.revoked_at and r.expires_at <= old.expires_at:
            self.report(3, f"{r.holder}: expiry went from {old.expires_at} to {r.expires_at}")


class _Notes:
    __slots__ = ("changes", "events")

    def __init__(self) -> None:
        self.changes: list[tuple[Record, int]] = []
        self.events: list[Event] = []


class _RecordedTransaction:
    """Records what is saved and appended; passes everything on."""

    def __init__(self, tx: Transaction, notes: _Notes) -> None:
        self._tx = tx
        self._notes = notes

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tx, name)

    async def save(self, changes: Sequence[tuple[Record, int]], *, new_sigs: bool = False) -> None:
        await self._tx.save(changes, new_sigs=new_sigs)
        self._notes.changes.extend(changes)

    async def append(self, events: Sequence[Event]) -> list[int]:
        ids = await self._tx.append(events)
        self._notes.events.extend(events)
        return ids
