"""The gateway: feeds what happens into the rules of each stream, and carries out what follows.

An endpoint (``sse``, ``poll``) authorises a client, makes a transport and enters it here; the
stream is in the table before its state is asked for. From then on all that happens comes in as a
plain call: events and losses from the shard channels (events may be repeated, reordered or lost),
revocations from the looks into SQL, acks, answers of lookups, and each second. It is handed, with a
:class:`~sigmgr.model.delivery.Moment`, to the :class:`~sigmgr.model.delivery.Delivery` of its
streams, which holds all rules and answers with effects. Messages are written together by the
:class:`~sigmgr.push.writer.Writer`; questions gather in :class:`~sigmgr.push.lookup.Wanted` and are
asked in batches. Each kind of work is a task of its own, so that none waits for another's answer.

What this module does not do: decide what is sent, speak a protocol.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from itertools import chain, repeat

from sigmgr.model import delivery as rules
from sigmgr.model import errors
from sigmgr.model.event import Event, EventType
from sigmgr.model.holder import Holder, Kind, shard_of
from sigmgr.model.policy import Policy
from sigmgr.model.revocation import EVERY_APP, Revocation
from sigmgr.model.sig import Current
from sigmgr.model.ticket import Tickets
from sigmgr.model.values import decode
from sigmgr.ports import Clock, Draw, States
from sigmgr.push.admission import Admission, GatewayLimits
from sigmgr.push.logs import log, log_unexpected
from sigmgr.push.lookup import Answers, Lookups, Wanted
from sigmgr.push.message import Messages
from sigmgr.push.table import Counters, Stream, StreamTable
from sigmgr.push.transport import Transport
from sigmgr.push.writer import Writer

#: A wave comes as many messages with few events each. What follows is written at so many, or when
#: nothing more is there to be read.
WRITTEN_AT_ONCE = 100
#: Lookups under way at a time: the answer of one travels while that of the other is worked on.
LANES = 2
#: Over how many seconds the streams of a whole app are closed.
CLOSED_WITHIN = 5
_NEWER = frozenset({EventType.ISSUED.value, EventType.RENEWED.value})
# Plain strings: in a wave these are compared once for each stream.
_USER, _ADMIN = Kind.USER.value, Kind.ADMIN.value


class Gateway:
    """Fulfils :class:`sigmgr.ports.EventListener`. Use ``start`` and ``aclose``, or drive it with
    ``tick`` and ``settle``, as tests do.

    ``policy_of``: of an app, the default for one that is not there any more; ``stands``: whether a
    sig of that second may be pushed, for all that this process knows of revocations.
    """

    def __init__(
        self,
        states: States,
        tickets: Tickets,
        clock: Clock,
        draw: Draw,
        policy_of: Callable[[int], Policy],
        *,
        stands: Callable[[Holder, int], bool] = lambda holder, issued_at: True,
        limits: GatewayLimits,
    ) -> None:
        self.counters = Counters()
        self.table = StreamTable(clock(), limits.max_per_user)
        self._messages = Messages(tickets)
        self._writer = Writer(self.table, self._messages, self.counters)
        self._admission = Admission(self.table, self._writer, self.counters, draw, limits)
        self._states = states
        self._lookups, self._wanted = Lookups(states, limits.lookup_timeout), Wanted(limits.batch)
        self._clock = clock
        self._draw = draw
        self._policy_of = policy_of
        self._stands = stands
        self._limits = limits
        self._surge = 0
        self._missed: set[int] = set()
        self._unwritten = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    # -- streams come and go -------------------------------------------------------------

    @property
    def draining(self) -> bool:
        return self._admission.draining

    def enter(self, user: Holder, transport: Transport, claim: int = 0) -> Stream:
        """Register a client that is authorised; ``leave`` it in any case. ``claim``: the second
        of the sig that it says it holds. Raises Stopping, and UnavailableError where this
        process holds as many as it may."""
        return self._admission.enter(user, transport, claim, self._clock())

    async def open(
        self, stream: Stream, ticket_issued_at: int, claim: int, *, rooms: bool = True
    ) -> None:
        """Ask for the state and write it. Raises what :meth:`States.opened` raises, and Stopping
        where draining begins meanwhile."""
        delivery = stream.delivery
        currents = await self._states.opened(
            stream.user, ticket_issued_at, self._clock(), rooms=rooms, held=claim
        )
        if self.draining:
            raise errors.Stopping
        if delivery.phase is not rules.Phase.OPENING:
            return
        held = delivery.own.acked
        first = [self._messages.first(delivery, one, held) for one in delivery.opened(currents)]
        self.counters.sent_total += len(first)
        await stream.transport.open(first)
        self._live(stream)

    def _live(self, stream: Stream) -> None:
        moment = self._moment(stream.user.sdkappid, self._clock())
        self.counters.opened_total += 1
        stream.beat_at = moment.steady + 1 + int(moment.draw * self._limits.heartbeat)
        self._carry_out(stream, *stream.delivery.live(moment), None)
        if self.draining and stream.delivery.phase is rules.OPEN:
            self._admission.send_elsewhere(stream)

    def leave(self, stream: Stream) -> None:
        """The client is gone. May be called twice."""
        self._writer.leave(stream)

    # -- what happens --------------------------------------------------------------------

    def receive(self, shard: int, events: Sequence[Event], sigs: Sequence[bytes] = ()) -> None:
        """Events of a shard; those of users without a stream here cost one look into a dict."""
        now = self._clock()
        for event, sig in zip(events, chain(sigs, repeat(b"")), strict=False):
            kind, holder, *_ = event
            streams = self.table.of(holder if holder.kind == _USER else holder.user)
            if not streams or holder.kind == _ADMIN:
                continue
            if kind in _NEWER:
                if not (sig and self._brought(event, sig, streams, now)):
                    self._news(event, streams, now)
            else:
                self._receive(event, streams, now)
        if len(self._writer) >= WRITTEN_AT_ONCE:
            self._write_out()
        elif self._writer:
            self._unwritten.set()

    def resync(self, shard: int) -> None:
        """Look for everybody of this shard. Done at the next tick, in one pass for all shards:
        when Redis comes back, all of them are missed at once."""
        self._missed.add(shard)

    def revoked(self, revocation: Revocation) -> None:
        """Close the streams of those whom it names, at once; of all users of an app within
        seconds, for each of them is a write. None of them is sent anything else from now on."""
        now = self._clock()
        if not revocation.wide:
            event = revocation.event(now)
            for stream in self.table.of(event.holder):
                self._carry_out(stream, stream.delivery.revoked(event))
            return
        for stream in self.table.all():
            sdkappid = stream.user.sdkappid
            if revocation.sdkappid in (EVERY_APP, sdkappid):
                moment = self._moment(sdkappid, now)
                wake = stream.delivery.revoked_widely(revocation.until, CLOSED_WITHIN, moment)
                self._carry_out(stream, wake)

    def acked(self, user: Holder, issued_at: int) -> None:
        """A client of this user says that it holds this sig. One that acked to another process
        is known by its ``sig.delivered``."""
        for stream in self.table.of(user):
            self.counters.acked += stream.delivery.acked(issued_at)

    def tick(self, now: int) -> None:
        """A second has passed: do all that is due. A late call does what was missed."""
        written, self._writer.written = self._writer.written, []
        self._surge = 0
        due = self.table.wheel.advance(now)
        if self._missed:
            self._look_for_missed(now)
        for stream in written:
            if stream.delivery.phase is rules.OPEN:
                stream.delivery.set_deadlines(self._moment(stream.user.sdkappid, now))
                self.table.schedule(stream)
        for stream in due:
            self._wake(stream, now)

    def _receive(self, event: Event, streams: Sequence[Stream], now: int) -> None:
        """An event that is not of a newer sig."""
        kind, holder = event.type, event.holder
        if kind == EventType.DELIVERED and holder.kind == _USER:
            self.acked(holder, event.issued_at)
            self._news(event, streams, now)
        elif kind == EventType.REVOKED:
            for stream in streams:
                self._carry_out(stream, stream.delivery.revoked(event))
        elif kind == EventType.WILL_EXPIRE and holder.kind == _USER:
            for stream in streams:
                self._carry_out(stream, stream.delivery.will_expire(event))

    def _brought(self, event: Event, sig: bytes, streams: Sequence[Stream], now: int) -> bool:
        """Write the sig that came with its event, if it is the one and not due again itself."""
        _, holder, issued_at, *_ = event
        # In a wave that is spread, the turn of most comes later, when there may be a newer one.
        if self._surge >= self._limits.wide and self._policy_of(holder.sdkappid).splay:
            return False
        if not self._stands(holder, issued_at):
            return False
        current = decode(holder, sig)
        if current is None or current.issued_at != issued_at or now >= current.renew_at:
            return False
        for stream in streams:
            write = stream.delivery.brought(current)
            if write is not None:
                self._surge += 1
                self._writer.make(stream, write)
        return True

    def _news(self, event: Event, streams: Sequence[Stream], now: int) -> None:
        moment = self._moment(event.holder.sdkappid, now)
        wide = self._surge >= self._limits.wide
        for stream in streams:
            effect = stream.delivery.news(event.holder, event.issued_at, moment, wide=wide)
            if effect is not None:
                self._surge += 1
                self._carry_out(stream, effect)

    def _look_for_missed(self, now: int) -> None:
        missed, self._missed = self._missed, set()
        shards = self._limits.shards
        streams = [s for s in self.table.all() if shard_of(*s.user[:2], shards) in missed]
        seconds = min(rules.LOOK_MAX, len(streams) // self._limits.wide)
        for stream in streams:
            moment = self._moment(stream.user.sdkappid, now)
            self._carry_out(stream, *stream.delivery.missed(seconds, moment))

    def _wake(self, stream: Stream, now: int) -> None:
        steady = self.table.wheel.now
        if stream.behind_since and steady - stream.behind_since >= self._limits.patience:
            self._writer.cut(stream)
        elif stream.last is not None:
            self._writer.finish(stream)
        elif stream.delivery.phase is rules.OPEN:
            moment = self._moment(stream.user.sdkappid, now)
            if stream.beats(steady, self._limits.heartbeat, moment.draw):
                self._writer.beat(stream)
            self._carry_out(stream, *stream.delivery.wake(moment), None)

    def _moment(self, sdkappid: int, now: int) -> rules.Moment:
        return rules.Moment(now, self.table.wheel.now, self._draw(), self._policy_of(sdkappid))

    # -- lookups ---------------------------------------------------------------------------

    async def settle(self) -> None:
        """Write what waits, then ask and deliver until no question waits. Lets others run."""
        self._write_out()
        while self._wanted:
            lanes = (self._look() for _ in range(LANES))
            await asyncio.gather(*lanes, self._renew(), self._mark_seen())

    async def _write_all(self) -> None:
        self._write_out()

    async def _look(self) -> None:
        while batch := self._wanted.looks():
            self._answered(await self._lookups.latest(batch, self._clock()))
            await asyncio.sleep(0)

    async def _renew(self) -> None:
        while users := self._wanted.renewals():
            now = self._clock()
            asked = [self._lookups.renewed(user, held, now) for user, held in users.items()]
            for answer in asyncio.as_completed(asked):
                self._answered(await answer, renewed=True)

    async def _mark_seen(self) -> None:
        while users := self._wanted.seen():
            await self._lookups.mark_seen(users, self._clock())

    def _answered(self, answers: Answers, *, renewed: bool = False) -> None:
        """``renewed``: to have it renewed was tried just now."""
        now = self._clock()
        for holder, current in answers.found:
            try:
                self._found(holder, current, now, renewed=renewed)
            except Exception as error:  # noqa: BLE001 - one holder must not stop the rest
                log_unexpected("deliver", error, "a sig could not be delivered")
                self._not_found(holder, now)
        for holder in answers.failed:
            self._not_found(holder, now)
        for user in answers.revoked:
            for stream in self.table.of(user):
                self._carry_out(stream, stream.delivery.denied())
        self._write_out(renewed=renewed)

    def _found(self, holder: Holder, current: Current | None, now: int, *, renewed: bool) -> None:
        moment = self._moment(holder.sdkappid, now)
        for stream in self.table.of(holder.user):
            effect = stream.delivery.answered(holder, current, moment, renewed=renewed)
            self._carry_out(stream, effect)

    def _not_found(self, holder: Holder, now: int) -> None:
        moment = self._moment(holder.sdkappid, now)
        for stream in self.table.of(holder.user):
            stream.delivery.unanswered(holder, moment)
            self._carry_out(stream, None)

    # -- what follows ----------------------------------------------------------------------

    def _carry_out(self, stream: Stream, *effects: rules.Effect | None) -> None:
        """None: nothing follows but that deadlines may have moved."""
        for effect in effects:
            match effect:
                case rules.Write():
                    self._writer.make(stream, effect)
                    continue  # its deadlines are set by the next second
                case rules.Ask() | rules.Renew() | rules.MarkSeen():
                    self._wanted.add(effect)
                case rules.Revoked() | rules.Bye():
                    self._writer.end(stream, effect)
                case rules.Warn(event):
                    self._writer.warn(stream, event)
                case rules.Lapsed(holder):
                    self.counters.expired_online += 1
                    log.error("a connected client's sig expired", action="expired_online",
                              subject=holder.subject, kind=holder.kind)  # fmt: skip
            if stream.delivery.phase is rules.OPEN:
                self.table.schedule(stream)

    def _write_out(self, *, renewed: bool = False) -> None:
        """Write what was made. What a client did not take, or had before, is looked for again."""
        now = self._clock()
        for stream, write, taken in self._writer.write_out():
            moment = self._moment(stream.user.sdkappid, now)
            if taken or not write.news:
                again = stream.delivery.repeated(write, moment, renewed=renewed)
                self._carry_out(stream, again)
            else:
                stream.delivery.not_taken(write, moment)
                self._carry_out(stream, None)

    # -- its life ------------------------------------------------------------------------

    def start(self) -> None:
        if not self._tasks:
            wanted = self._wanted
            lanes = [
                (self._unwritten, self._write_all),
                *[(wanted.looked, self._look)] * LANES,
                (wanted.renewed, self._renew),
                (wanted.marked, self._mark_seen),
            ]
            running = [self._tick_on(), *(self._run(*lane) for lane in lanes)]
            self._tasks = [asyncio.create_task(one, name="gateway") for one in running]

    async def drain(self, seconds: float) -> None:
        await self._admission.drain(seconds)

    async def aclose(self) -> None:
        """Stop the tasks; drain first."""
        self._admission.draining = True
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _tick_on(self) -> None:
        while True:
            await asyncio.sleep(1)
            try:
                self.tick(self._clock())
            except Exception as error:  # noqa: BLE001 - the clock of all streams must go on
                log_unexpected("tick", error, "a tick of the gateway failed")

    async def _run(self, waits: asyncio.Event, work: Callable[[], Awaitable[None]]) -> None:
        while True:
            await waits.wait()
            waits.clear()
            try:
                await work()
            except Exception as error:  # noqa: BLE001 - the work for all streams must go on
                log_unexpected("gateway", error, "a round of the gateway's work failed")
