"""The invariant checker itself: each rule is broken here once, and it must report that."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from sigmgr.model.event import Event
from sigmgr.model.holder import Holder
from sigmgr.model.sig import Record
from sigmgr.sim.invariants import InvariantChecker

ALICE = Holder(1, "alice")


def record(at: int, **changes: Any) -> Record:
    base = Record(
        1,
        "alice",
        "user",
        "",
        format="v2",
        key_id=1,
        issued_at=at,
        ttl=100,
        renew_at=at + 60,
        warn_after=at + 70,
        expires_at=at + 100,
    )
    return base._replace(**changes)


def renewed(row: Record) -> Event:
    return Event("sig.renewed", row.holder, row.issued_at, row.expires_at, "Forced", row.issued_at)


class Store:
    """Takes everything."""

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Any]:
        yield self

    async def save(self, changes: Sequence[tuple[Record, int]], *, new_sigs: bool = False) -> None:
        return None

    async def append(self, events: Sequence[Event]) -> list[int]:
        return [1 for _ in events]


async def commit(
    invariants: InvariantChecker, row: Record, guard: int, *events: Event
) -> list[int]:
    async with invariants.transaction() as tx:
        await tx.save([(row, guard)])
        if events:
            await tx.append(events)
    return [violation.rule for violation in invariants.violations]


@pytest.fixture
async def invariants() -> InvariantChecker:
    made = InvariantChecker(Store(), lambda: 5)  # type: ignore[arg-type]
    assert await commit(made, record(1000), 0, renewed(record(1000))) == []
    return made


async def test_what_is_right_is_not_reported(invariants: InvariantChecker) -> None:
    assert await commit(invariants, record(1060), 1000, renewed(record(1060))) == []
    assert await commit(invariants, record(1060, acked=1060), 1060) == []


@pytest.mark.parametrize(
    ("row", "guard", "rule"),
    [
        (record(1000, renew_at=1061), 1000, 4),
        (record(1060), 999, 7),
        (record(990), 1000, 2),
        (record(1010, ttl=80, expires_at=1090), 1000, 3),
        (record(1060, warn_after=1100), 1000, 4),
        (record(1060, key_id=9), 1000, 13),
    ],
)
async def test_what_is_wrong_is_reported(
    invariants: InvariantChecker, row: Record, guard: int, rule: int
) -> None:
    invariants.dead_keys.add(9)
    events = [renewed(row)] if row.issued_at != 1000 else []
    assert rule in await commit(invariants, row, guard, *events)


@pytest.mark.parametrize("count", [0, 2])
async def test_a_sig_has_exactly_one_event(invariants: InvariantChecker, count: int) -> None:
    row = record(1060)
    assert 9 in await commit(invariants, row, 1000, *[renewed(row)] * count)


class Died(BaseException):
    pass


@pytest.mark.parametrize("committed", [True, False])
async def test_a_worker_that_dies_in_its_commit_is_seen_if_that_came_to_be(committed: bool) -> None:
    first, second = record(10), record(80, past='[[10,100,1,"Forced"]]')

    class Dying(Store):
        @asynccontextmanager
        async def transaction(self) -> AsyncIterator[Any]:
            yield self
            raise Died

        async def find(self, holders: Sequence[Holder]) -> list[Record | None]:
            return [second if committed else first for _ in holders]

    store = Dying()
    invariants = InvariantChecker(store, lambda: 0)  # type: ignore[arg-type]
    invariants.rows[ALICE] = first
    with pytest.raises(Died):
        await commit(invariants, second, 10, renewed(second))
    assert invariants.rows[ALICE] == (second if committed else first)
    assert invariants.made == committed
    assert invariants.violations == []


async def test_who_dies_before_the_commit_has_done_nothing() -> None:
    invariants = InvariantChecker(Store(), lambda: 0)  # type: ignore[arg-type]
    with pytest.raises(Died):
        async with invariants.transaction() as tx:
            await tx.save([(record(10), 0)])
            raise Died
    assert invariants.rows == {}
