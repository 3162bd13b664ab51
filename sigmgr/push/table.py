"""The stream table: who is connected to this process.

Rules:
1. A stream is in the table from before its state is asked for until its endpoint ends.
2. A user has up to ``max_per_user`` streams and polls here; for one more the oldest goes.
3. No task, queue, dict or closure for a stream: a hundred thousand of them lie idle nearly all
   of the time.

What this module does not do: write to anybody, or decide what is written.
"""

from __future__ import annotations

from collections.abc import Iterator

from sigmgr.model.delivery import Delivery, Phase
from sigmgr.model.holder import Holder
from sigmgr.push.message import Message
from sigmgr.push.transport import Transport
from sigmgr.push.wheel import Wheel


class Counters:
    """What the gateway counts. ``open`` and ``behind`` go up and down, the rest only up;
    ``expired_online`` is the number held at zero: sigs that ran out in a connected client;
    ``crowded``: streams and polls that went because their user opened too many."""

    def __init__(self) -> None:
        self.open = self.opened_total = self.sent_total = self.resent_total = 0
        self.behind = self.dropped = self.acked = self.expired_online = self.crowded = 0


class Stream:
    """What a client is sent, and the way to it. Times are of the timer wheel.

    ``due``: the second of its slot in the wheel; ``beat_at``: of the next heartbeat;
    ``behind_since``: since when the client takes nothing, 0 where it does; ``last``: the last
    words of a stream that is over, as long as its client has not taken them.
    """

    __slots__ = ("beat_at", "behind_since", "delivery", "due", "last", "transport")

    def __init__(self, delivery: Delivery, transport: Transport) -> None:
        self.delivery = delivery
        self.transport = transport
        self.due = 0
        self.beat_at = 0
        self.behind_since = 0
        self.last: Message | None = None

    @property
    def user(self) -> Holder:
        return self.delivery.own.holder

    def beats(self, steady: int, every: int, draw: float) -> bool:
        """Whether a heartbeat is due; sets the next one. Who was not awake for long beats at a
        second of its own again."""
        if self.beat_at > steady:
            return False
        late = steady - self.beat_at > every
        self.beat_at = steady + (1 + int(draw * every) if late else every)
        return True


class StreamTable:
    """The streams by user, in the order in which they came, and the wheel that wakes them."""

    def __init__(self, now: int, max_per_user: int) -> None:
        self.wheel: Wheel[Stream] = Wheel(now)
        self._max_per_user = max_per_user
        self._streams: dict[Holder, tuple[Stream, ...]] = {}
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def __contains__(self, stream: Stream) -> bool:
        return stream in self.of(stream.user)

    def of(self, user: Holder) -> tuple[Stream, ...]:
        return self._streams.get(user, ())

    def all(self) -> Iterator[Stream]:
        """All streams that are here at the time of the call and stay until it is their turn."""
        for user in list(self._streams):
            yield from self.of(user)

    def add(self, stream: Stream) -> None:
        self._streams[stream.user] = (*self.of(stream.user), stream)
        self._size += 1

    def remove(self, stream: Stream) -> None:
        """Forget the stream. May be called twice."""
        self.wheel.remove(stream)
        there = self.of(stream.user)
        if stream not in there:
            return
        rest = tuple(other for other in there if other is not stream)
        if rest:
            self._streams[stream.user] = rest
        else:
            del self._streams[stream.user]
        self._size -= 1

    def schedule(self, stream: Stream) -> None:
        """Put the stream into the wheel at its earliest deadline. One that is woken before
        something is due merely goes back."""
        due = min(stream.delivery.due(), stream.beat_at)
        if due < stream.due or not stream.due:
            self.wheel.put(stream, due)

    def over_limit(self, user: Holder) -> list[Stream]:
        """Who goes so that one more of this user's fits. The oldest that is open, for the newest
        is the one somebody looks at; only where none is open, the oldest that opens. And the
        oldest of those that are over, where as many as may be open take no last words."""
        ending = [stream for stream in self.of(user) if stream.last is not None]
        staying = [stream for stream in self.of(user) if stream.last is None]
        go = ending[:1] if len(ending) >= self._max_per_user else []
        if len(staying) >= self._max_per_user:
            opened = (stream for stream in staying if stream.delivery.phase is Phase.OPEN)
            go.append(next(opened, staying[0]))
        return go
