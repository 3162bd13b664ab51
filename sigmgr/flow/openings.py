"""The first state of streams that open and of polls, and whether their ticket is still valid.

Thousands of clients reconnect at once when a gateway or a network fails. Their users are gathered:
one read brings the rows of hundreds, and the answers are judged and derived from those rows.
``issued_at`` and ``revoked_at`` of one row are consistent, so only holders whose sig had to be made
are read a second time, since a revocation may have come in between.

Sightings are noted here and written by a job (``seen``).

Rules held here: 16 (the full state, authorised or refused), 19 (nothing known to be revoked is
sent, whatever the rows contain). A hanging database delays nobody beyond the limits: then a valid
cached sig is the answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from sigmgr.flow.better import Better
from sigmgr.flow.derive import Derive, raised
from sigmgr.flow.gather import Gather, answered
from sigmgr.flow.limits import Lane, WaitLimits
from sigmgr.flow.restored import Restored, lost_second
from sigmgr.flow.revocations import Revocations
from sigmgr.flow.seen import Seen
from sigmgr.model import errors
from sigmgr.model.app import App
from sigmgr.model.decision import Verdict
from sigmgr.model.holder import Holder, Kind
from sigmgr.model.sig import Current, Record
from sigmgr.ports import Answer, Registry, SigCache, Store
from sigmgr.telemetry import get_logger

log = get_logger("sigmgr.openings")

ROOM = Kind.ROOM.value

#: Seconds that the first of a crowd waits for others.
_GATHER_FOR = 0.01


class _State(NamedTuple):
    """A user's rows. ``wanted``: the user and the live rooms. ``good``: the current sigs of all
    users that were read with this one; what is wanted and not among them has to be made."""

    app: App
    records: list[Record]
    wanted: list[Holder]
    good: Mapping[Holder, Answer]
    revoked_at: int


@dataclass(eq=False, repr=False)
class Openings:
    registry: Registry
    store: Store
    cache: SigCache
    derive: Derive
    better: Better
    restored: Restored
    revocations: Revocations
    seen: Seen
    limits: WaitLimits

    def __post_init__(self) -> None:
        self._lane = Lane("openings", most=2)
        self._streams: Gather[Holder, _State] = Gather(self._read_all, gather_for=_GATHER_FOR)
        self._polls: Gather[Holder, _State] = Gather(self._read_own, gather_for=_GATHER_FOR)
        self._cached: Gather[Holder, Current] = Gather(self._from_cache)

    async def opened(
        self, user: Holder, ticket_issued_at: int, now: int, *, rooms: bool, held: int
    ) -> list[Current]:
        self._refuse_revoked(user, ticket_issued_at)
        try:
            state = await answered((self._streams if rooms else self._polls).ask(user, now))
        except errors.StoreUnavailable:
            found = [await answered(self._cached.ask(user, now))]
        else:
            lost = lost_second(state.records, user, held, ticket_issued_at, now)
            found = await self._known_state(user, ticket_issued_at, state, now)
            if lost and found[0].issued_at <= lost:
                found[0] = await self._newer(found[0], lost, now)
        self._refuse_revoked(user, ticket_issued_at)
        own, *others = found
        mine = raised(self.derive.unless_revoked(own, now))
        return [mine, *(other for other in others if not self.revocations.killed(other))]

    async def _known_state(
        self, user: Holder, ticket_issued_at: int, state: _State, now: int
    ) -> list[Current]:
        if ticket_issued_at <= state.revoked_at:
            raise errors.TicketRevoked
        answers = {holder: state.good[holder] for holder in state.wanted if holder in state.good}
        due = {holder: state.app for holder in state.wanted if holder not in answers}
        if due:
            made = await self.better.than(state.records, due, now)
            if _is_news(made, state.records):
                again = await answered(self._polls.ask(user, now))
                if ticket_issued_at <= again.revoked_at:
                    raise errors.TicketRevoked
            answers |= made
        self._note(user, state, now)
        own = answers[user]
        if isinstance(own, errors.SigmgrError):
            raise own
        return [a for a in map(answers.__getitem__, state.wanted) if isinstance(a, Current)]

    async def _newer(self, current: Current, held: int, now: int) -> Current:
        """A newer sig than the client holds. Where none can be made, the client is sent nothing
        older; its next ack tries again."""
        try:
            return await self.restored.newer_than(current.holder, held, now)
        except errors.SigmgrError as error:
            log.warning("a sig that was lost could not be replaced", action="restored-not",
                        error=error.code)  # fmt: skip
            return current

    def _refuse_revoked(self, user: Holder, ticket_issued_at: int) -> None:
        """Raises TicketRevoked for a revocation known here, whatever the rows contain."""
        if ticket_issued_at <= self.revocations.until(user.sdkappid, user.userid):
            raise errors.TicketRevoked

    def _note(self, user: Holder, state: _State, now: int) -> None:
        """Note the sighting. It is written at once where the last one is old: a room key is renewed
        only while its holder is present, and a dormant holder has to be woken."""
        durations = state.app.policy.durations
        late = any(
            record.due_at is None or now - record.seen_at >= durations(record.ttl).mark_seen_every
            for record in state.records
        )
        self.seen.note(user, now, sure=late)

    # -- batches ---------------------------------------------------------------------------

    async def _read_all(
        self, users: Sequence[Holder], now: int
    ) -> list[_State | errors.SigmgrError]:
        rows = await self._lane.within(self.limits.valid, self.store.of_users(users))
        return await self._judged(users, rows, now)

    async def _read_own(
        self, users: Sequence[Holder], now: int
    ) -> list[_State | errors.SigmgrError]:
        """Without the rooms: a revocation of the user is in the user's own row, too."""
        found = await self._lane.within(self.limits.valid, self.store.find(users))
        rows = [[] if record is None else [record] for record in found]
        return await self._judged(users, rows, now)

    async def _judged(
        self, users: Sequence[Holder], rows: Sequence[Sequence[Record]], now: int
    ) -> list[_State | errors.SigmgrError]:
        states: list[_State | errors.SigmgrError] = []
        keep: list[Record] = []
        good: dict[Holder, Answer] = {}
        for user, mine in zip(users, rows, strict=True):
            try:
                app = await self.registry.app(user.sdkappid)
            except errors.SigmgrError as error:
                states.append(error)
                continue
            living = [r for r in mine if r.holder == user or (r.kind == ROOM and r.alive(now))]
            keep += [r for r in living if await self._stands(app, r, now)]
            revoked_at = max((record.revoked_at for record in mine), default=0)
            rooms = [record.holder for record in living if record.kind == ROOM]
            states.append(_State(app, living, [user, *rooms], good, revoked_at))
        good.update(await self.derive.cached_or_derived(keep, now))
        return states

    async def _stands(self, app: App, record: Record, now: int) -> bool:
        return (await self.derive.decide(app, record, now)).verdict is Verdict.KEEP

    async def _from_cache(
        self, users: Sequence[Holder], now: int
    ) -> list[Current | errors.SigmgrError]:
        hits = await self.cache.get(users)
        return [
            hit
            if hit is not None and await self.derive.valid(hit, now)
            else errors.StoreUnavailable(retry_after=1)
            for hit in hits
        ]


def _is_news(made: Mapping[Holder, Answer], records: Sequence[Record]) -> bool:
    """Whether anything differs from what was read with the rows."""
    read = {record.holder: record.issued_at for record in records}
    return any(
        a.issued_at != read.get(holder)
        if isinstance(a, Current)
        else isinstance(a, errors.RevokePause)
        for holder, a in made.items()
    )
