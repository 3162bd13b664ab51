"""One write transaction over holders, keys and the outbox; fulfils ``ports.Transaction``.

Rules:
1. :meth:`lock` and the claims hold row locks until the end, and :meth:`save` writes only over the
   ``issued_at`` that was read.
2. Rows are locked in the order of holders, so that batches cannot deadlock.
3. A claim never reads more than a fixed multiple of what it returns.

What this module does not do: begin and commit (``engine``), or judge a record.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from operator import attrgetter
from typing import Any, NamedTuple

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from sigmgr.model import errors
from sigmgr.model.event import Event
from sigmgr.model.holder import Holder
from sigmgr.model.policy import emergency_of
from sigmgr.model.revocation import Revocation
from sigmgr.model.sig import KeyState, Record
from sigmgr.model.ttl import MAX_TTL
from sigmgr.ports import Ack, Confirmed
from sigmgr.store import holders as statements
from sigmgr.store.dialect import SQLITE, Dialect
from sigmgr.store.locks import queue_for_keys
from sigmgr.store.outbox import append
from sigmgr.store.revocations import write as write_revocations
from sigmgr.store.tables import keys

#: How far a claim looks, in multiples of its limit: so many workers find distinct rows.
LOOKAHEAD = 8
#: The same for a paused app, where rows that are due but not in emergency lie in between.
EMERGENCY_LOOKAHEAD = 64
#: A claim takes an eighth of the way to the horizon; after so many it is looked up again.
HORIZON_CLAIMS = 6
#: Index entries that one statement of :meth:`claim_warnings` looks at, and statements a call.
WARNING_WINDOW = 8_000
WARNING_WINDOWS = 4
#: For callers that would rather not wait.
_SHORT_LOCKS = "SET LOCAL lock_timeout=500"
_SHORTEST_LOCKS = "SET LOCAL lock_timeout=100"

Position = tuple[int, int]
#: Of an app and a userid: the second up to which its sigs are known to be revoked.
RevokedUntil = Callable[[int, str], int]
START: Position = (-1, -1)


class Horizon(NamedTuple):
    """Two positions in the expiry order between which the next claims look, and for how many
    claims.

    ``start`` is where the last claim of this process ended: rows before it are locked or just
    renewed, and walking over them again took a third of the statements' time in a mass renewal.
    Rows there that became free by a rollback elsewhere wait for a few claims, at most until the
    tick ends: ``now`` is that of the claim that looked, and what has fallen due since may expire
    before all of this. ``end`` is START where all that was due then is within the lookahead.
    """

    start: Position
    end: Position
    claims_left: int
    now: int


class Memory:
    """What outlives a transaction: how rows are read, and hints, any value of which is correct.

    ``horizons``: of apps with a large backlog. ``warned_to``: the position where the next look for
    warnings goes on, where one call did not reach the end.
    """

    def __init__(self, revoked_until: RevokedUntil) -> None:
        self.revoked_until = revoked_until
        self.horizons: dict[int, Horizon] = {}
        self.warned_to: dict[int, Position] = {}

    def record(self, row: Iterable[Any]) -> Record:
        """A row with the revocations that apply to it, also those of all users."""
        record = _record(row)
        until = self.revoked_until(record.sdkappid, record.userid)
        return record._replace(revoked_at=until) if until > record.revoked_at else record


# Twice as fast as Record._make, where a thousand rows are read at once.
_record: Callable[[Iterable[Any]], Record] = partial(tuple.__new__, Record)


_by_user = attrgetter("user")


class SqlTransaction:
    def __init__(self, connection: AsyncConnection, dialect: Dialect, memory: Memory) -> None:
        self._connection = connection
        self._dialect = dialect
        self._memory = memory
        self.made: set[Holder] = set()

    async def lock(self, holders: Sequence[Holder]) -> list[Record]:
        """One statement where all rows exist."""
        rows = await self._all_locked(sorted(set(holders)))
        return [rows[holder] for holder in holders]

    async def try_lock(
        self, holders: Sequence[Holder], *, make: bool = True
    ) -> list[Record | None]:
        """Waits a moment for a row that another transaction is making, since only its end shows
        whether the row exists."""
        wanted = sorted(set(holders))
        rows = await (self._all_locked if make else self._locked)(wanted, skip=True)
        return [rows.get(holder) for holder in holders]

    async def _all_locked(
        self, wanted: Sequence[Holder], *, skip: bool = False
    ) -> dict[Holder, Record]:
        rows = await self._locked_if_all_there(wanted, skip=skip)
        if len(rows) < len(wanted):
            missing = [holder for holder in wanted if holder not in rows]
            if skip and self._dialect is not SQLITE:
                await self._connection.exec_driver_sql(_SHORT_LOCKS)
            made = await self._connection.execute(
                statements.make_missing(self._dialect), self._dialect.parameters(missing)
            )
            self.made.update(map(Holder._make, made))
            rows = await self._locked(wanted, skip=skip)
        return rows

    async def _locked_if_all_there(
        self, wanted: Sequence[Holder], *, skip: bool
    ) -> dict[Holder, Record]:
        """The rows that exist; locked if none is missing, else not (on SQLite transactions are
        exclusive). Missing rows are made before any lock: a transaction that held locks and then
        made rows could deadlock with one that does the reverse."""
        if self._dialect is SQLITE or len(wanted) < 2:
            return await self._locked(wanted, skip=skip)
        async with self._connection.begin_nested() as before:
            rows = await self._locked(wanted, skip=skip)
            if len(rows) < len(wanted):
                await before.rollback()
        return rows

    async def _locked(
        self, wanted: Sequence[Holder], *, skip: bool = False
    ) -> dict[Holder, Record]:
        if not wanted:
            return {}
        found = await self._connection.execute(
            statements.named(self._dialect, lock=True, skip=skip), self._dialect.parameters(wanted)
        )
        return {record.holder: record for record in map(self._memory.record, found.all())}

    async def live_rooms(self, owner: Record, now: int) -> tuple[int, int]:
        values = {"sdkappid": owner.sdkappid, "userid": owner.userid, "now": now}
        found = await self._connection.execute(
            statements.live_rooms(), values | {"revoked_at": owner.revoked_at}
        )
        rooms, first_ends = found.one()
        return rooms, first_ends or 0

    async def claim_due(
        self, sdkappid: int, now: int, limit: int, *, emergency: float | None = None
    ) -> list[Record]:
        """:mod:`sigmgr.store.holders` describes how the cost is bounded."""
        values = {"sdkappid": sdkappid, "now": now, "lookahead": LOOKAHEAD * limit}
        if emergency is not None:
            values["lookahead"] = EMERGENCY_LOOKAHEAD * limit
            whole = Horizon(START, await self._horizon(values), 0, now)
            return await self._urgent(values, whole, limit, emergency)
        known = self._memory.horizons.get(sdkappid)
        if known is None or known.now != now:
            probe = await self._connection.execute(statements.due_beyond(), values)
            if probe.first() is None:
                known = Horizon(START, START, 0, now)
            else:
                known = Horizon(START, await self._horizon(values), HORIZON_CLAIMS, now)
        if known.end == START:
            # Of what is due at one second a backlog never grows: it is not probed again.
            self._memory.horizons[sdkappid] = known
            return await self._records(statements.backlog(), {**values, "limit": limit})
        claimed = await self._urgent(values, known, limit)
        if len(claimed) == limit and known.claims_left > 1:
            last = (claimed[-1].expires_at, claimed[-1].due_at or 0)
            left = known.claims_left - 1
            self._memory.horizons[sdkappid] = Horizon(last, known.end, left, now)
            return claimed
        self._memory.horizons.pop(sdkappid, None)
        if len(claimed) < limit and known.start != START:
            # Up to the position before it: its own rows are locked by us, and own locks skip
            # nothing.
            before = Horizon(START, (known.start[0], known.start[1] - 1), 0, now)
            claimed = await self._urgent(values, before, limit - len(claimed)) + claimed
        if len(claimed) < limit:
            beyond = {"from_expiry": known.end[0], "from_due": known.end[1]}
            more = {**values, **beyond, "limit": limit - len(claimed)}
            claimed += await self._records(statements.overdue(), more)
        return claimed

    async def _horizon(self, values: dict[str, int]) -> Position:
        found = (await self._connection.execute(statements.expiry_horizon(), values)).first()
        return statements.ENDLESS if found is None else (found[0], found[1])

    async def _urgent(
        self, values: dict[str, int], look: Horizon, limit: int, emergency: float | None = None
    ) -> list[Record]:
        bounds: dict[str, float] = {
            "from_expiry": look.start[0],
            "from_due": look.start[1],
            "to_expiry": look.end[0],
            "to_due": look.end[1],
        }
        if emergency is None:
            statement = statements.urgent()
        else:
            statement = statements.emergencies()
            bounds |= {"share": emergency, "longest": emergency_of(MAX_TTL, emergency)}
        return await self._records(statement, {**values, **bounds, "limit": limit})

    async def claim_warnings(
        self, sdkappid: int, now: int, limit: int, ladder: Sequence[int]
    ) -> list[Record]:
        """Looks through what expires within the longest rung, at most ``WARNING_WINDOWS`` windows
        of it a call; the next call goes on from there, so that rows already warned of hide nothing
        and do not cost more each time."""
        values = {"sdkappid": sdkappid, "now": now, "lookahead": WARNING_WINDOW}
        values |= {f"rung_{i}": rung for i, rung in enumerate(ladder)}
        end: Position = (now + max(ladder, default=0), statements.ENDLESS[1])
        start = self._memory.warned_to.pop(sdkappid, START)
        claimed: list[Record] = []
        for _ in range(WARNING_WINDOWS):
            values |= {"from_expiry": start[0], "from_due": start[1]}
            values |= {"to_expiry": end[0], "to_due": end[1]}
            probe = await self._connection.execute(statements.expiry_horizon(resumed=True), values)
            found = probe.first()
            stop = end if found is None else (found[0], found[1])
            values |= {"to_expiry": stop[0], "to_due": stop[1], "limit": limit - len(claimed)}
            claimed += await self._records(statements.unwarned(len(ladder)), values)
            if len(claimed) >= limit:
                break
            start = stop
            if stop == end:
                return claimed
        self._memory.warned_to[sdkappid] = start
        return claimed

    async def save(self, changes: Sequence[tuple[Record, int]], *, new_sigs: bool = False) -> None:
        if not changes:
            return
        rows: list[tuple[Any, ...]]
        if new_sigs:
            statement = statements.renewed(self._dialect)
            rows = [(*statements.sig_cells(record), replaces) for record, replaces in changes]
        else:
            statement = statements.save(self._dialect)
            rows = [(*record, replaces) for record, replaces in changes]
        done = await self._connection.execute(statement, self._dialect.parameters(rows))
        if done.rowcount != len(changes):
            raise errors.StoreUnavailable(
                f"fenced: {len(changes) - done.rowcount} of {len(changes)} rows were replaced"
                " by another process meanwhile"
            )

    async def confirm(self, acks: Sequence[Ack], now: int) -> list[Confirmed]:
        """One statement: locking the rows before the write would take twice as long."""
        known = self._memory.revoked_until
        rows = [
            (user.sdkappid, user.userid, ticket, claim)
            for user, ticket, claim in sorted(acks, key=_by_user)
            if known(user.sdkappid, user.userid) < ticket
        ]
        if not rows:
            return []
        if self._dialect is not SQLITE:
            await self._connection.exec_driver_sql(_SHORTEST_LOCKS)
        done = await self._connection.execute(
            statements.confirm(self._dialect), {**self._dialect.parameters(rows), "now": now}
        )
        return [
            Confirmed(Holder(sdkappid, userid), issued_at, expires_at, reason)
            for sdkappid, userid, issued_at, expires_at, reason in done.all()
        ]

    async def revoke(self, revocations: Sequence[Revocation]) -> None:
        await write_revocations(self._connection, self._dialect, revocations)

    async def append(self, events: Sequence[Event]) -> list[int]:
        return await append(self._connection, self._dialect, events)

    async def signing_states(self, key_ids: Sequence[int]) -> dict[int, KeyState]:
        """A key's row is share-locked: a change of its state waits for us."""
        wanted = sorted(set(key_ids))
        await queue_for_keys(self._connection, self._dialect, wanted, shared=True)
        rows = await self._connection.execute(
            select(keys.c.id, keys.c.state)
            .where(keys.c.id.in_(wanted))
            .order_by(keys.c.id)
            .with_for_update(read=True)
        )
        return {key_id: KeyState(state) for key_id, state in rows}

    async def _records(self, statement: Any, values: Mapping[str, float]) -> list[Record]:
        rows = await self._connection.execute(statement, values)
        return list(map(self._memory.record, rows.all()))
