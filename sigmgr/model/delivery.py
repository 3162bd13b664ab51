"""The delivery of sigs to the client of one stream: what it is sent, and when.

    one = Delivery(user, claim)                      # before the state is asked for
    first = one.opened(currents)                     # the first messages: [Write, ...]
    effects = one.live(moment)                       # they are sent; from now on write anything
    effect = one.news(holder, issued_at, moment)     # an event names a newer sig: Ask for it
    effect = one.brought(current)                    # or brought it along: Write
    effect = one.answered(holder, current, moment)   # the lookup's answer: Write
    one.written(effect)                              # the client has taken it
    one.set_deadlines(moment)                        # in the next second
    effects = one.wake(moment)                       # at one.due()
    one.acked(issued_at)                             # the client confirms that it holds the sig

Each kind of occurrence is one method. It changes the state and returns effects for the caller:
write, warn, ask for a sig, have one renewed, mark the user as seen, wake later, close. After each
call but ``written`` the caller reads ``due()`` again.

Rules:
1. The stream is registered before its state is asked for, so it misses no event. Until it is live,
   events are remembered and nothing is written.
2. The first messages are the full state: the user's sig, unless the client claims a newer one, and
   every live room key.
3. A client gets only sigs newer than what it was sent and has acked; except the same sig again,
   when a resend is due. Nothing from before a revocation is written.
4. An event is a hint only: it makes a sig wanted. What is written is the answer of a lookup, or a
   sig that came with the event and has just been made.
5. A wide wave is spread over the policy's splay, but no client waits into the emergency.
6. A message that is not acked is resent by the policy's ladder; after its last rung the interval
   doubles. An ack counts for a sig that was sent.
7. Delivery does not depend on events: a stream also looks by itself. Soon, where a newer sig is
   known; each minute at least, where one is due; near expiry twenty times in the time left;
   otherwise every few hours.
8. In the emergency a look that finds nothing newer has the user's sig renewed.
9. If several looks do not find a valid sig, the stream closes: opening it again asks the store. A
   room key that is not found is forgotten.
10. A revocation closes the stream, with its reason; one that comes too early closes it as soon as
    it is live. Streams of a revoked app are closed over several seconds.
11. A sig that expires in a connected client is reported once, and still looked for.
12. The user is marked as seen while the stream is open, as often as its shortest sig needs.
13. Deadlines are in steady seconds, which do not depend on the wall clock. Those that follow from a
    write are set in the next second, so that a wave reaches the next client first.

What this module does not do: read a clock, draw, look anything up, make or write messages.
Limit: an ack names no device. It counts for every stream of the user that was sent that sig.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import NamedTuple

from sigmgr.model import errors
from sigmgr.model.event import Event
from sigmgr.model.holder import Holder, Kind
from sigmgr.model.policy import Durations, Policy
from sigmgr.model.sig import Current
from sigmgr.model.timing import in_emergency

#: Waits between two looks for a sig that is known to exist, in seconds.
RETRY = (1, 2, 5, 10, 30, 60)
#: The longest wait between two looks while a newer sig is due, in seconds.
LOOK_MAX = 60
#: The interval of looks while nothing is due, spread by a draw.
AUDIT = 6 * 3600
#: Looks that do not find a valid sig before the stream is closed.
MISSING_LOOKS = 4
#: Seconds, spread by a draw, after which the client of such a stream reconnects.
REFRESH_WITHIN = 5
#: How long a room key that has expired is still looked for, in seconds.
ROOM_GRACE = 600
#: A deadline that never comes.
NEVER = 1 << 62

# A plain string: in a wave it is compared once for each stream.
_USER = Kind.USER.value


class Moment(NamedTuple):
    """The time of an occurrence, and the policy. ``now``: Unix seconds; ``steady``: monotonic
    seconds; ``draw``: a number in [0, 1), to spread work."""

    now: int
    steady: int
    draw: float
    policy: Policy


class Phase(IntEnum):
    """OPENING: nothing may be written yet. OPEN: anything may. CLOSED: nothing any more."""

    OPENING = 0
    OPEN = 1
    CLOSED = 2


#: A member read from its class is as slow as a function call.
OPEN = Phase.OPEN


class ClientSig:
    """One sig as a stream's client holds it.

    ``sent``, ``acked``: the issued_at written, and confirmed by the client; both only rise.
    ``want``: the newest known to exist, these included. ``look_at``: when to ask next, steady.
    ``tries``: looks since the last one that found a sig to send. ``misses``: of these, since one
    that found any, those that found none. ``untimed``: written, deadlines not set yet.
    """

    __slots__ = (
        "acked",
        "expires_at",
        "holder",
        "lapsed",
        "look_at",
        "misses",
        "renew_at",
        "sent",
        "tries",
        "untimed",
        "want",
    )

    def __init__(self, holder: Holder) -> None:
        self.holder = holder
        self.sent = self.acked = self.want = 0
        self.renew_at = self.expires_at = 0
        self.look_at = NEVER
        self.tries = self.misses = 0
        self.lapsed = self.untimed = False

    @property
    def floor(self) -> int:
        """Only a sig issued after this is new to the client."""
        return max(self.acked, self.sent)

    def take(self, current: Current) -> None:
        """The client was sent this sig."""
        self.sent = issued_at = current.issued_at
        self.want = max(self.want, issued_at)
        self.renew_at = current.renew_at
        self.expires_at = current.expires_at
        self.tries = self.misses = 0
        self.lapsed = False

    def durations(self, policy: Policy) -> Durations:
        return policy.durations(self.expires_at - self.sent)

    def retry(self) -> int:
        return RETRY[min(self.tries, len(RETRY) - 1)]

    def look_in(self, now: int, draw: float) -> int:
        """Seconds until the next look (rule 7)."""
        if not self.sent:
            return self.retry()
        quiet, wanted = self.renew_at - now, self.want > self.floor
        audit = int(AUDIT * (0.5 + draw / 2))
        if quiet > AUDIT and not wanted:
            return audit
        left = self.expires_at - now
        pace = max(1, min(LOOK_MAX, (self.expires_at - self.sent) // 100))
        if left > 0:
            pace = max(1, min(pace, left // 20))
        if wanted:
            return min(pace, self.retry())
        return min(quiet + pace, audit) if quiet + pace > 0 else pace

    def late(self, moment: Moment) -> bool:
        """In the emergency before expiry, never half of a life; what was not sent has none."""
        left = self.expires_at - moment.now
        if not self.sent or left > moment.now - self.sent:
            return False
        return in_emergency(self.durations(moment.policy), self.expires_at, moment.now)


class Write(NamedTuple):
    sig: ClientSig
    current: Current

    @property
    def news(self) -> bool:
        """The client was not sent this sig before."""
        return self.current.issued_at > self.sig.sent


class Warn(NamedTuple):
    event: Event


class Ask(NamedTuple):
    """Look for the newest sig of this holder. ``urgent``: before all others."""

    holder: Holder
    urgent: bool


class Renew(NamedTuple):
    """Have the user's sig renewed: its own renewal is late. ``issued_at``: of the one held."""

    user: Holder
    issued_at: int


class MarkSeen(NamedTuple):
    user: Holder


class Wake(NamedTuple):
    at: int


class Lapsed(NamedTuple):
    holder: Holder


class Revoked(NamedTuple):
    """Close: every sig of the user issued in or before ``issued_at`` is dead."""

    issued_at: int
    expires_at: int


class Bye(NamedTuple):
    """Close: the sig is still valid. The client may reconnect after so many seconds."""

    reason: str
    reconnect_after: int


Effect = Write | Warn | Ask | Renew | MarkSeen | Wake | Lapsed | Revoked | Bye


class Delivery:
    """The state of one stream. ``claim``: the issued_at that its client claims to hold.

    ``own`` is the user's sig, ``rooms`` its room keys. ``dead_until``: the second up to which its
    sigs are revoked. ``rung``, ``resend_at``: of the resend ladder; ``owes``: a resend waits for
    its lookup; ``seen_at``: when to mark the user as seen next; ``close_at``: when a revocation of
    the whole app closes the stream.
    """

    __slots__ = (
        "close_at",
        "dead_until",
        "owes",
        "own",
        "phase",
        "resend_at",
        "rooms",
        "rung",
        "seen_at",
    )

    def __init__(self, user: Holder, claim: int = 0) -> None:
        self.own = ClientSig(user)
        self.own.acked = self.own.want = claim
        self.rooms: tuple[ClientSig, ...] = ()
        self.phase = Phase.OPENING
        self.dead_until = 0
        self.rung = 0
        self.owes = False
        self.resend_at = NEVER
        self.seen_at = NEVER
        self.close_at = NEVER

    def due(self) -> int:
        """The earliest deadline, in steady seconds."""
        due = min(self.own.look_at, self.resend_at, self.seen_at, self.close_at)
        for room in self.rooms:
            due = min(due, room.look_at)
        return due

    def close(self) -> None:
        """The stream ends for a reason outside of these rules."""
        self.phase = Phase.CLOSED

    # -- it opens ------------------------------------------------------------------------

    def opened(self, currents: Sequence[Current]) -> list[Write]:
        """The first messages: the user's sig, then its room keys (rule 2). They count as sent,
        since a client that cannot take them has no stream. Raises TicketRevoked where a revocation
        came in the meantime."""
        user, *rooms = currents
        if user.issued_at <= self.dead_until:
            raise errors.TicketRevoked
        writes = [Write(self.own, user)] if self.own.acked <= user.issued_at else []
        self.own.take(user)
        for current in rooms:
            if current.issued_at > self.dead_until:
                room = self._find(current.holder) or self._add_room(current.holder)
                room.take(current)
                writes.append(Write(room, current))
        return writes

    def live(self, moment: Moment) -> list[Effect]:
        if self.phase is not Phase.OPENING:
            return []
        self.phase = OPEN
        own = self.own
        if self.dead_until >= own.sent:
            return [self._revoked(self.dead_until, own.expires_at)]
        self.seen_at = moment.steady + self._seen_every(moment.policy)
        if own.acked < own.sent:
            self._climb(moment)
        effects: list[Effect] = []
        for sig in (own, *self.rooms):
            if sig.look_at != NEVER or sig.want > sig.floor:
                effects.append(self._ask(sig, moment))
            self._look_again(sig, moment)
        return effects

    # -- a newer sig ---------------------------------------------------------------------

    def brought(self, current: Current) -> Write | None:
        """An event brought this sig along, and its turn is now (rule 4)."""
        sig = self._wanted(current.holder, current.issued_at)
        return None if sig is None else Write(sig, current)

    def news(
        self, holder: Holder, issued_at: int, moment: Moment, *, wide: bool = False
    ) -> Ask | Wake | None:
        """An event names a sig of this second. ``wide``: many streams are concerned
        (rule 5)."""
        sig = self._wanted(holder, issued_at)
        if sig is None:
            return None
        splay = sig.durations(moment.policy).splay if wide and sig.sent else 0
        seconds = min(splay, self._slack(sig, moment)) if splay else 0
        return self._ask_within(sig, seconds, moment)

    def answered(
        self, holder: Holder, current: Current | None, moment: Moment, *, renewed: bool = False
    ) -> Effect | None:
        """A lookup found this sig, or none. ``renewed``: a renewal has just been tried."""
        if self.phase is not OPEN:
            return None
        sig = self._find(holder)
        if current is None:
            return None if sig is None else self._missing(sig, moment)
        issued_at = current.issued_at
        if sig is None:
            if issued_at <= self.dead_until:
                return None
            sig = self._add_room(holder)
        if issued_at > sig.sent:
            fits = issued_at > sig.acked
        else:
            fits = issued_at == sig.sent and self.owes and sig is self.own
        fits = fits and issued_at > self.dead_until
        return Write(sig, current) if fits else self._nothing_new(sig, moment, renewed=renewed)

    def unanswered(self, holder: Holder, moment: Moment) -> None:
        """The lookup failed: ask again as often as the time left demands."""
        sig = self._find(holder)
        if sig is not None and self.phase is OPEN:
            self._look_again(sig, moment)
            sig.tries += 1

    def written(self, write: Write) -> bool:
        """The client took a new sig; its deadlines are set in the next second (rule 13). False
        where they were to be set already."""
        sig, current = write
        sig.take(current)
        if sig is self.own:
            self.owes = False
        timed, sig.untimed = not sig.untimed, True
        return timed

    def not_taken(self, write: Write, moment: Moment) -> None:
        """The client is behind, and the new sig was dropped."""
        sig, current = write
        sig.want = max(sig.want, current.issued_at)
        self._look_again(sig, moment)

    def repeated(self, write: Write, moment: Moment, *, renewed: bool = False) -> Renew | None:
        """What was written, or dropped, was a resend."""
        if write.sig is self.own:
            self.owes = False
        return self._nothing_new(write.sig, moment, renewed=renewed)

    # -- what else happens ---------------------------------------------------------------

    def acked(self, issued_at: int) -> bool:
        """The client confirms the sig of this second. True where that ends a resend ladder."""
        own = self.own
        if not own.acked < issued_at <= own.sent:
            return False
        own.acked = issued_at
        if issued_at < own.sent:
            return False
        self.owes = False
        self.resend_at = NEVER
        return True

    def revoked(self, event: Event) -> Revoked | None:
        """The sigs of this holder are dead up to ``issued_at`` of the event."""
        if event.holder.kind == Kind.ROOM:
            room = self._find(event.holder)
            if room is not None and room.sent <= event.issued_at:
                self._forget(room)
            return None
        self.dead_until = max(self.dead_until, event.issued_at)
        if self.phase is OPEN and self.own.floor <= event.issued_at:
            return self._revoked(event.issued_at, event.expires_at)
        return None

    def revoked_widely(self, until: int, seconds: int, moment: Moment) -> Wake | None:
        """The sigs of a whole app are revoked: the stream closes within so many seconds."""
        self.dead_until = max(self.dead_until, until)
        if self.phase is not OPEN or self.own.floor > until:
            return None
        self.close_at = min(self.close_at, moment.steady + 1 + int(moment.draw * seconds))
        return Wake(self.close_at)

    def denied(self) -> Revoked | None:
        """The store knows of a revocation of the user, and no event came."""
        own = self.own
        return self._revoked(own.sent, own.expires_at) if self.phase is OPEN else None

    def will_expire(self, event: Event) -> Warn | None:
        """The sig that the client holds expires soon and is not renewed."""
        return Warn(event) if self.phase is OPEN and self.own.sent == event.issued_at else None

    def missed(self, seconds: int, moment: Moment) -> list[Effect]:
        """Events may have been lost: look within so many seconds."""
        if self.phase is not OPEN:
            for sig in (self.own, *self.rooms):
                sig.look_at = moment.steady
            return []
        return [
            self._ask_within(sig, min(seconds, self._slack(sig, moment)), moment)
            for sig in (self.own, *self.rooms)
        ]

    def set_deadlines(self, moment: Moment) -> None:
        for sig in (self.own, *self.rooms):
            if not sig.untimed:
                continue
            sig.untimed = False
            self._look_again(sig, moment)
            if sig is not self.own:
                seen_every = sig.durations(moment.policy).mark_seen_every
                self.seen_at = min(self.seen_at, moment.steady + seen_every)
            elif sig.acked < sig.sent:
                self.rung = 0
                self._climb(moment)

    def wake(self, moment: Moment) -> list[Effect]:
        if self.phase is not OPEN:
            return []
        own, steady = self.own, moment.steady
        if own.floor <= self.dead_until:
            return [self._revoked(self.dead_until, own.expires_at)]
        self.close_at = NEVER
        effects: list[Effect] = []
        if self.resend_at <= steady:
            self.owes = True
            self._climb(moment)
            effects.append(Ask(own.holder, urgent=False))
        for sig in (own, *self.rooms):
            if sig.sent and moment.now >= sig.expires_at:
                effects += self._expired(sig, moment.now)
            if sig.look_at <= steady:
                sig.look_at = steady + LOOK_MAX
                effects.append(self._ask(sig, moment))
        if self.seen_at <= steady:
            self.seen_at = steady + self._seen_every(moment.policy)
            effects.append(MarkSeen(own.holder))
        return effects

    # -- parts of the rules --------------------------------------------------------------

    def _find(self, holder: Holder) -> ClientSig | None:
        if holder == self.own.holder:
            return self.own
        for room in self.rooms:
            if room.holder == holder:
                return room
        return None

    def _wanted(self, holder: Holder, issued_at: int) -> ClientSig | None:
        """The one of which this is news, where it may be written now."""
        sig = self.own if holder.kind == _USER else self._find(holder)
        if issued_at <= self.dead_until:
            return None
        if sig is None:
            sig = self._add_room(holder)
        elif issued_at <= sig.want:
            return None
        sig.want = issued_at
        sig.tries = sig.misses = 0
        return sig if self.phase is OPEN else None

    def _add_room(self, holder: Holder) -> ClientSig:
        room = ClientSig(holder)
        self.rooms = (*self.rooms, room)
        return room

    def _forget(self, room: ClientSig) -> None:
        self.rooms = tuple(kept for kept in self.rooms if kept is not room)

    def _ask(self, sig: ClientSig, moment: Moment) -> Ask:
        return Ask(sig.holder, sig.late(moment))

    def _ask_within(self, sig: ClientSig, seconds: int, moment: Moment) -> Ask | Wake:
        if seconds < 2:
            return self._ask(sig, moment)
        sig.look_at = min(sig.look_at, moment.steady + 1 + int(moment.draw * seconds))
        return Wake(sig.look_at)

    def _slack(self, sig: ClientSig, moment: Moment) -> int:
        """Seconds that this client can wait before its emergency begins."""
        return sig.expires_at - moment.now - sig.durations(moment.policy).emergency

    def _look_again(self, sig: ClientSig, moment: Moment) -> None:
        sig.look_at = moment.steady + sig.look_in(moment.now, moment.draw)

    def _nothing_new(self, sig: ClientSig, moment: Moment, *, renewed: bool) -> Renew | None:
        sig.tries, sig.misses = sig.tries + 1 if sig.want > sig.floor else 0, 0
        self._look_again(sig, moment)
        if renewed or not sig.late(moment):
            return None
        return Renew(self.own.holder, self.own.sent)

    def _missing(self, sig: ClientSig, moment: Moment) -> Renew | Bye | None:
        sig.tries += 1
        sig.misses += 1
        if sig.sent and moment.now >= sig.expires_at:
            self._look_again(sig, moment)
            return Renew(sig.holder, sig.sent) if sig is self.own else None
        if sig.misses < MISSING_LOOKS:
            sig.look_at = moment.steady + sig.retry()
            return None
        if sig is not self.own:
            self._forget(sig)
            return None
        self.phase = Phase.CLOSED
        return Bye("refresh", 1 + int(moment.draw * REFRESH_WITHIN))

    def _revoked(self, issued_at: int, expires_at: int) -> Revoked:
        self.phase = Phase.CLOSED
        return Revoked(issued_at, expires_at)

    def _climb(self, moment: Moment) -> None:
        """Set the next rung of the resend ladder; after the last, its interval doubles."""
        ladder, rung = self.own.durations(moment.policy).resend, self.rung
        last = len(ladder) - 1
        step = ladder[rung] if rung <= last else ladder[last] << min(rung - last, 20)
        self.rung += 1
        self.resend_at = moment.steady + step

    def _expired(self, sig: ClientSig, now: int) -> list[Effect]:
        reported, sig.lapsed = sig.lapsed, True
        if sig is not self.own and now >= sig.expires_at + ROOM_GRACE:
            self._forget(sig)
        return [] if reported else [Lapsed(sig.holder)]

    def _seen_every(self, policy: Policy) -> int:
        """Room keys live shorter, and are renewed only for users seen recently."""
        return min(
            sig.durations(policy).mark_seen_every for sig in (self.own, *self.rooms) if sig.sent
        )
