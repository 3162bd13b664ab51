"""All open streams of this process, and when each is told what.

The hub hears events, which bring the new sig or only say that it is worth a look, and relies
on none of them. Every stream also looks by itself when its sig is due for renewal, more
often the nearer expiry comes, and now and then in between. So clients get their sigs with
Redis and its channels dead (rule 1 of the design); events merely make it quick.

Rules:
1. Events may be repeated, reordered or lost: what a client is sent depends on the state
   that is found, and on what that client was sent or has acked (see ``courier``).
2. More than ``wide`` streams concerned within about a second are spread over the policy's
   splay, but nobody is made to wait into the emergency before expiry. Whose turn comes later
   looks then: the sig that came with the event may be an old one by that time.
3. All that is timed is due in wheel time, which goes on whatever the wall clock does.

Limit: an ack names no device. It counts for every stream of the user that was sent that
sig.

What this module does not do: authorise, speak ASGI, sleep. ``tick(now)`` is called once a
second, ``lookups.work()`` when its bell rings.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain, repeat

from sigmgr.model import errors
from sigmgr.model.event import Event, EventType
from sigmgr.model.holder import Holder, Kind, shard_of
from sigmgr.model.policy import Policy, Spans
from sigmgr.model.revocation import EVERY_APP, Revocation
from sigmgr.model.sig import Current
from sigmgr.model.ticket import Tickets
from sigmgr.ports import Clock, Draw, States, Values
from sigmgr.push import message
from sigmgr.push.courier import ADMIN, USER, Courier, Letter
from sigmgr.push.lookup import log
from sigmgr.push.poll import Poll
from sigmgr.push.stream import LOOK_MAX, NEVER, OPEN, Held, Phase, Stream

#: How long a room key that has expired is still looked for, in seconds.
ROOM_GRACE = 600

#: A wave comes as many messages with few events each. Letters wait for so many of their like,
#: or until nothing more is there to be read: see rule 3 of ``courier``. More at once were no
#: quicker in any wave that was measured.
WRITTEN_AT_ONCE = 100

#: Over how many seconds the streams of a whole app are closed.
_CLOSED_WITHIN = 5

_NEWER = frozenset({EventType.ISSUED.value, EventType.RENEWED.value})


class Hub(Courier):
    """Fulfils :class:`sigmgr.ports.Listener`.

    ``values`` reads the sigs that come with events. ``shards``: of how many; ``heartbeat``:
    seconds between comments on a quiet stream; ``wide``: streams concerned within a second
    from which a wave is spread; ``patience``: seconds after which a client that takes nothing
    is cut off; ``batch`` and ``lookup_timeout``: of the lookups; ``max_per_user``: streams
    and polls of one user in this process; ``stands``: whether a sig of
    that second may be pushed, for all that this process knows of revocations.
    """

    def __init__(
        self,
        states: States,
        tickets: Tickets,
        clock: Clock,
        draw: Draw,
        policy_of: Callable[[int], Policy],
        *,
        values: Values,
        shards: int = 64,
        heartbeat: int = 20,
        wide: int = 1000,
        patience: int = 60,
        batch: int = 500,
        lookup_timeout: float = 10.0,
        max_per_user: int = 20,
        stands: Callable[[Holder, int], bool] = lambda holder, issued_at: True,
    ) -> None:
        super().__init__(
            states,
            tickets,
            clock,
            draw,
            policy_of,
            batch=batch,
            lookup_timeout=lookup_timeout,
            max_per_user=max_per_user,
        )
        self._values = values
        self._shards = shards
        self._heartbeat = heartbeat
        self._wide = wide
        self._patience = patience
        self._stands = stands
        self._lost: set[int] = set()
        self._letters: list[Letter] = []
        self._surge = 0

    # -- the streams ---------------------------------------------------------------------

    def begin(self, stream: Stream, currents: Sequence[Current]) -> list[bytes]:
        """The first frames of a stream.

        A client that holds something newer than we can see gets nothing older; its stream
        keeps looking. Raises TicketRevoked where a revocation came while we asked.
        """
        user, *rooms = currents
        if user.issued_at <= stream.revoked:
            raise errors.TicketRevoked
        stream.phase = Phase.STARTING
        stream.took(user)
        claim = stream.acked
        frames = [message.sse_retry(self._draw())]
        ticket = self.ticket(stream)
        if claim <= user.issued_at:
            payload = message.current_json(user, ticket, claim)
            frames.append(stream.frame(message.CURRENT, payload, user.issued_at))
        for room in rooms:
            if room.issued_at <= stream.revoked:
                continue
            stream.held(room.holder).took(room)
            frames.append(stream.frame(message.ROOM_RENEWED, message.room_json(room, ticket)))
        self.counters.sent_total += len(frames) - 1
        return frames

    def wait(self, poll: Poll, current: Current) -> None:
        """From here on the poll waits for what is newer than this. Raises TicketRevoked."""
        if current.issued_at <= poll.revoked:
            raise errors.TicketRevoked
        poll.took(current)
        self.live(poll)

    def live(self, stream: Stream) -> None:
        """The first frames are out: from here on the hub may write."""
        now, wheel_now = self._clock(), self.wheel.now
        stream.phase = Phase.OPEN
        self.counters.opened_total += 1
        if stream.revoked >= stream.sent:
            self.revoke(stream, stream.revoked, stream.expires_at)
            return
        spans = self.spans(stream)
        stream.beat_at = wheel_now + 1 + int(self._draw() * self._heartbeat)
        stream.touch_at = wheel_now + self._touch_every(stream)
        if stream.acked < stream.sent:
            stream.climb(spans, wheel_now)
        for held in (stream, *stream.rooms):
            if held.look_at != NEVER or held.want > held.floor:
                self.ask(held, now)
            held.look_at = wheel_now + held.wait(now, self._draw())
        self.wheel.put(stream, stream.next_due())

    # -- what is heard -------------------------------------------------------------------

    def heard(self, shard: int, events: Sequence[Event], sigs: Sequence[bytes] = ()) -> None:
        """Events of a shard; those of users without a stream here cost one look into a dict."""
        now = self._clock()
        for event, sig in zip(events, chain(sigs, repeat(b"")), strict=False):
            kind_of_event, holder, issued_at, *_ = event
            streams = self.of(holder if holder.kind == USER else holder.user)
            if not streams or holder.kind == ADMIN:
                continue
            if kind_of_event in _NEWER:
                self._newer(holder, issued_at, sig, streams, now)
            else:
                self._hear(event, streams, now)
        if len(self._letters) >= WRITTEN_AT_ONCE:
            self.write_letters()
        elif self._letters:
            self.lookups.bell.set()

    def write_letters(self) -> None:
        """Write what was heard. The gateway calls this when the loop has come round."""
        letters, self._letters = self._letters, []
        self.deliver(letters, self._clock())

    def missed(self, shard: int) -> None:
        """Look for everybody of this shard. Done at the next tick, in one pass for all shards:
        when Redis comes back, all of them are missed at once."""
        self._lost.add(shard)

    def revoked(self, revocation: Revocation) -> None:
        """Close the streams of those whom it names, at once; of all users of an app within
        seconds, for each of them is a write. None of them is told anything else from now on."""
        if not revocation.wide:
            user = Holder(revocation.sdkappid, revocation.userid)
            event = revocation.event(self._clock())
            for stream in self.of(user):
                self._hear_revoked(stream, event)
            return
        for stream in self.streams():
            if revocation.sdkappid in (EVERY_APP, stream.holder.sdkappid):
                stream.revoked = max(stream.revoked, revocation.until)
                self.wheel.put(stream, self.wheel.now + 1 + int(self._draw() * _CLOSED_WITHIN))

    def acked(self, user: Holder, issued_at: int) -> None:
        """A client of this user says that it holds this sig."""
        for stream in self.of(user):
            if issued_at <= stream.sent and stream.ack(issued_at):
                self.counters.acked += 1

    def _hear(self, event: Event, streams: tuple[Stream, ...], now: int) -> None:
        if event.type == EventType.DELIVERED and event.holder.kind == Kind.USER:
            self.acked(event.holder, event.issued_at)
            self._newer(event.holder, event.issued_at, b"", streams, now)
        elif event.type == EventType.REVOKED:
            for stream in streams:
                self._hear_revoked(stream, event)
        elif event.type == EventType.WILL_EXPIRE and event.holder.kind == Kind.USER:
            for stream in streams:
                if stream.phase is OPEN and stream.sent == event.issued_at:
                    payload = message.warning_json(event, self.ticket(stream))
                    self.post(stream, stream.frame(message.WILL_EXPIRE, payload))

    def _newer(
        self, holder: Holder, issued_at: int, sig: bytes, streams: tuple[Stream, ...], now: int
    ) -> None:
        """There is a newer sig; ``sig`` is its value, where it came with the event."""
        for stream in streams:
            held = stream if holder.kind == USER else stream.held(holder)
            if issued_at <= held.sent or issued_at <= held.acked or issued_at <= held.want:
                continue
            if issued_at <= stream.revoked:
                continue
            held.want = issued_at
            held.tries = 0
            if stream.phase is not OPEN:
                continue
            seconds = self._wait_in_wave(held, now)
            brought = sig and seconds < 2 and self._stands(holder, issued_at)
            current = self._values.decode(holder, sig) if brought else None
            if current and current.issued_at == issued_at and now < current.renew_at:
                self.write_letter(stream, held, current, self._letters)
            else:
                self._ask_within(stream, held, seconds, now)

    def _hear_revoked(self, stream: Stream, event: Event) -> None:
        if event.holder.kind == Kind.ROOM:
            for room in stream.rooms:
                if room.holder == event.holder and room.sent <= event.issued_at:
                    stream.forget_room(room)
            return
        stream.revoked = max(stream.revoked, event.issued_at)
        if stream.phase is OPEN and stream.floor <= event.issued_at:
            self.revoke(stream, event.issued_at, event.expires_at)

    # -- looking -------------------------------------------------------------------------

    def _wait_in_wave(self, held: Held, now: int) -> int:
        """Over how many seconds this stream's share is drawn: 0 unless the wave is wide."""
        self._surge += 1
        if self._surge <= self._wide or not held.sent:
            return 0
        spans = self.spans(held)
        return min(spans.splay, self._slack(held, spans, now)) if spans.splay else 0

    def _ask_within(self, stream: Stream, held: Held, seconds: int, now: int) -> None:
        if seconds < 2:
            self.ask(held, now)
            return
        held.look_at = min(held.look_at, self.wheel.now + 1 + int(self._draw() * seconds))
        self.wheel.put(stream, stream.next_due())

    def _slack(self, held: Held, spans: Spans, now: int) -> int:
        """How long this client can wait before its emergency begins."""
        return held.expires_at - now - spans.emergency

    # -- the clock -----------------------------------------------------------------------

    def tick(self, now: int) -> None:
        """Do all that is due. Called about once a second; a late call does what was missed."""
        self._book.turn()
        self._surge = 0
        self.book_told(now)
        due = self.wheel.advance(now)
        if self._lost:
            self._look_for_lost(now)
        for stream in due:
            self._wake(stream, now)

    def _wake(self, stream: Stream, now: int) -> None:
        wheel_now = self.wheel.now
        if stream.behind_since and wheel_now - stream.behind_since >= self._patience:
            self.cut(stream)
        elif stream.phase is Phase.ENDING:
            self.finish(stream)
        if stream.phase is not OPEN:
            return
        if stream.floor <= stream.revoked:
            self.revoke(stream, stream.revoked, stream.expires_at)
            return
        self._wake_sigs(stream, now)
        if stream.touch_at <= wheel_now:
            self.lookups.touch(stream.holder)
            stream.touch_at = wheel_now + self._touch_every(stream)
        if stream.beat_at <= wheel_now:
            self._beat(stream)
        if stream.phase is OPEN:
            self.wheel.put(stream, stream.next_due())

    def _wake_sigs(self, stream: Stream, now: int) -> None:
        if stream.resend_at <= self.wheel.now:
            stream.owes = True
            stream.climb(self.spans(stream), self.wheel.now)
            self.lookups.ask(stream.holder)
        for held in (stream, *stream.rooms):
            if now >= held.expires_at and held.sent:
                self._lapse(stream, held, now)
            if held.look_at <= self.wheel.now:
                held.look_at = self.wheel.now + LOOK_MAX
                self.ask(held, now)

    def _lapse(self, stream: Stream, held: Held, now: int) -> None:
        """The number we hold at zero goes up once for each sig; the looking goes on."""
        if not held.lapsed:
            held.lapsed = True
            self.counters.expired_online += 1
            log.error("a connected client's sig expired", action="expired_online",
                      subject=held.holder.subject, kind=held.holder.kind)  # fmt: skip
        if held is not stream and now >= held.expires_at + ROOM_GRACE:
            stream.forget_room(held)

    def _beat(self, stream: Stream) -> None:
        late = self.wheel.now - stream.beat_at
        spread = int(self._draw() * self._heartbeat) if late > self._heartbeat else -1
        stream.beat_at = self.wheel.now + (self._heartbeat if spread < 0 else 1 + spread)
        self.post(stream, stream.beat())

    def _look_for_lost(self, now: int) -> None:
        lost, self._lost = self._lost, set()
        streams = [s for s in self.streams() if self._shard(s.holder) in lost]
        seconds = min(LOOK_MAX, len(streams) // self._wide)
        for stream in streams:
            for held in (stream, *stream.rooms):
                if stream.phase < Phase.OPEN:
                    held.look_at = self.wheel.now
                elif stream.phase is OPEN:
                    slack = self._slack(held, self.spans(held), now)
                    self._ask_within(stream, held, min(seconds, slack), now)

    def _touch_every(self, stream: Stream) -> int:
        """Room keys live shorter and are renewed only for who was seen a moment ago."""
        return min(self.spans(held).touch_every for held in (stream, *stream.rooms) if held.sent)

    def _shard(self, user: Holder) -> int:
        return shard_of(user.sdkappid, user.userid, self._shards)
