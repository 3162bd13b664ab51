"""Finding the newest sig of a holder and getting it to the streams that lack it.

Rules:
1. A client never gets a sig that is not newer than what it was sent or has acked; except
   the same one again, until it is acked.
2. A message is written from the newest state at the time of writing, or from an event that
   brings its sig along and has just come; never from a queue.
3. A batch is worked out first and then written in one go: sends that come one by one each
   wake a sleeping client. What follows from a write that only the clock needs waits for the
   clock (:meth:`Courier.book_told`).
4. A user in the emergency whose renewal has not come is renewed by way of
   :meth:`States.opened`, as if its stream had just opened.
5. A sig that is said to be gone while it should still be valid is not argued about here:
   the stream is closed with ``bye``, and its opening decides with authority.

What this module does not do: hear events, or wake streams by the clock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from sigmgr.model.event import Event, EventType
from sigmgr.model.holder import Holder, Kind
from sigmgr.model.policy import Policy, Spans
from sigmgr.model.sig import Current, Reason
from sigmgr.model.ticket import Tickets
from sigmgr.model.timing import in_emergency
from sigmgr.ports import Clock, Draw, States
from sigmgr.push import message
from sigmgr.push.lookup import Lookups, trouble
from sigmgr.push.roster import Roster
from sigmgr.push.spans import SpansBook
from sigmgr.push.stream import OPEN, Held, Stream

#: Looks that find nothing of a valid sig before the stream is closed to ask with authority.
MISSING_LOOKS = 4

# Plain strings: in a wave these are compared once per stream.
USER, ADMIN = Kind.USER.value, Kind.ADMIN.value


#: A frame that is ready to be written, for which stream, and what it says of which sig.
Letter = tuple[Stream, Held, Current, bytes]


class Courier(Roster):
    """``lookups`` is the work it wants done; the answers come back to :meth:`found`."""

    def __init__(
        self,
        states: States,
        tickets: Tickets,
        clock: Clock,
        draw: Draw,
        policy_of: Callable[[int], Policy],
        *,
        batch: int = 500,
        lookup_timeout: float = 10.0,
        max_per_user: int = 20,
    ) -> None:
        super().__init__(clock(), max_per_user)
        self.lookups = Lookups(states, clock, self, batch=batch, timeout=lookup_timeout)
        self._tickets = tickets
        self._clock = clock
        self._draw = draw
        self._book = SpansBook(policy_of)
        self._told: list[tuple[Stream, Held]] = []

    def ask(self, held: Held, now: int) -> None:
        """Ask now. Should no answer come, :meth:`unanswered` sees to it."""
        self.lookups.ask(held.holder, urgent=self._late(held, now))

    def unanswered(self, holder: Holder) -> None:
        """The lookup failed: ask again by the wheel, as often as this sig's end demands."""
        now = self._clock()
        for stream in self.of(holder.user):
            held = stream.find(holder)
            if held is not None and stream.phase is OPEN:
                self._look_again(stream, held, now)
                held.tries += 1

    def found(
        self, answers: Iterable[tuple[Holder, Current | None]], *, rescued: bool = False
    ) -> None:
        """Answers from the lookups; ``rescued``: renewing was tried just now."""
        now = self._clock()
        letters: list[Letter] = []
        for holder, current in answers:
            try:
                for stream in self.of(holder if holder.kind == USER else holder.user):
                    if stream.phase is not OPEN:
                        continue
                    if current is None:
                        self._missing(stream, holder, now)
                    elif not self._answer(stream, current, letters):
                        self._no_news(stream, current, now, rescued=rescued)
            except Exception as error:  # noqa: BLE001 - one holder must not stop the rest
                trouble("deliver", error, "a sig could not be delivered")
                self.unanswered(holder)
        self.deliver(letters, now, rescued=rescued)

    def write_letter(
        self, stream: Stream, held: Held, current: Current, letters: list[Letter]
    ) -> None:
        """Add a letter with this sig, which is news to the stream."""
        letters.append((stream, held, current, self._frame(stream, held, current)))

    def deliver(self, letters: Sequence[Letter], now: int, *, rescued: bool = False) -> None:
        """Write them all. Those whose stream has ended meanwhile are dropped."""
        sent = 0
        for stream, held, current, frame in letters:
            if stream.phase is not OPEN:
                continue
            done = self.post(stream, frame)
            if current.issued_at <= held.sent or current.issued_at <= held.acked:
                self._resent(stream, current, now, done=done, rescued=rescued)
            elif done:
                held.took(current)
                stream.owes = False
                sent += 1
                self._told.append((stream, held))
            else:
                held.want = max(held.want, current.issued_at)
                self._look_again(stream, held, now)
        self.counters.sent_total += sent

    def book_told(self, now: int) -> None:
        """Set the timers of streams that were told. For the clock, before the wheel moves: all
        of them are in whole seconds, and in a wave the next client comes first."""
        told, self._told = self._told, []
        for stream, held in told:
            if stream.phase is not OPEN:
                continue
            spans = self.spans(held)
            if held is not stream:
                stream.touch_at = min(stream.touch_at, self.wheel.now + spans.touch_every)
            elif stream.acked < stream.sent:
                stream.start_ladder(spans, self.wheel.now)
            self._look_again(stream, held, now)

    def denied(self, user: Holder) -> None:
        """The user was revoked, and we had not heard."""
        for stream in self.of(user):
            self.revoke(stream, stream.sent, stream.expires_at)

    def revoke(self, stream: Stream, at: int, expires_at: int) -> None:
        """Tell the client that its sig is dead, and close: its ticket is dead too."""
        reason = Reason.REVOKED.value
        event = Event(EventType.REVOKED.value, stream.holder, at, expires_at, reason, at)
        self.end(stream, stream.frame(message.REVOKED, message.revoked_json(event)))

    # -- one answer ----------------------------------------------------------------------

    def _answer(self, stream: Stream, current: Current, letters: list[Letter]) -> bool:
        """A letter if this is news to the client, or due again; False if it is neither."""
        held = stream.held(current.holder)
        issued_at = current.issued_at
        if issued_at > held.sent:
            fits = issued_at > held.acked and issued_at > stream.revoked
        else:
            fits = issued_at == held.sent and stream.owes and held is stream
        if fits:
            self.write_letter(stream, held, current, letters)
        return fits

    def _frame(self, stream: Stream, held: Held, current: Current) -> bytes:
        """The ticket in a message is that of the sig in it, not of the one before."""
        if held is not stream:
            payload = message.room_json(current, self.ticket(stream))
            return stream.frame(message.ROOM_RENEWED, payload)
        user = current.holder
        ticket = self._tickets.issue(
            user.sdkappid, user.userid, current.issued_at, current.expires_at
        )
        payload = message.sig_json(stream.news, current, ticket)
        return stream.frame(stream.news, payload, current.issued_at)

    def _resent(
        self, stream: Stream, current: Current, now: int, *, done: bool, rescued: bool
    ) -> None:
        stream.owes = False
        self.counters.resent_total += done
        self._no_news(stream, current, now, rescued=rescued)

    def _no_news(self, stream: Stream, current: Current, now: int, *, rescued: bool) -> None:
        """In the emergency, see that there will be news."""
        held = stream.held(current.holder)
        held.tries = held.tries + 1 if held.want > held.floor else 0
        self._look_again(stream, held, now)
        if self._late(held, now) and not rescued:
            self.lookups.rescue(stream.holder, stream.sent)

    def _missing(self, stream: Stream, holder: Holder, now: int) -> None:
        held = stream.find(holder)
        if held is None:
            return
        held.tries += 1
        if now >= held.expires_at and held.sent:
            self._look_again(stream, held, now)
            if held is stream:
                self.lookups.rescue(stream.holder, stream.sent)
        elif held.tries < MISSING_LOOKS:
            held.look_at = self.wheel.now + held.retry()
            self.wheel.put(stream, stream.next_due())
        elif held is stream:
            self.bye(stream, "refresh", 1 + int(self._draw() * 5))
        else:
            stream.forget_room(held)

    def _look_again(self, stream: Stream, held: Held, now: int) -> None:
        if stream.phase is OPEN:
            held.look_at = self.wheel.now + held.wait(now, self._draw())
            # A stream that is woken before something is due merely goes back into the wheel.
            due = stream.due
            if due > held.look_at or due > stream.resend_at or due > stream.touch_at or not due:
                self.wheel.put(stream, stream.next_due())

    # -- small things --------------------------------------------------------------------

    def ticket(self, stream: Stream) -> str:
        """A fresh ticket for what the client holds."""
        user = stream.holder
        return self._tickets.issue(user.sdkappid, user.userid, stream.sent, stream.expires_at)

    def spans(self, held: Held) -> Spans:
        return self._book[held.holder.sdkappid, held.expires_at - held.sent]

    def _late(self, held: Held, now: int) -> bool:
        """In the emergency before expiry, which is never half of a life."""
        half_left = held.expires_at - now > now - held.sent
        return not half_left and in_emergency(self.spans(held), held.expires_at, now)
