"""Who is connected to this process, and writing to one of them.

Rules:
1. A stream is in here from before its state is asked for until its handler ends, so no
   event falls between.
2. A client's trouble is its own: a slow one is left behind and caught up with later, one
   that stays behind or whose send fails is cut off, the others notice nothing.
3. A stream is closed with a reason, unless its client takes none.

What this module does not do: decide what is written and when.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

from sigmgr.model import errors
from sigmgr.model.holder import Holder
from sigmgr.push import message
from sigmgr.push.lookup import log
from sigmgr.push.stream import Phase, Send, Stream
from sigmgr.push.wheel import Wheel


class Counters:
    """What the gateway counts. ``open`` and ``behind`` go up and down, the rest only up;
    ``expired_online`` is the number held at zero: sigs that ran out in a connected client;
    ``crowded``: streams and polls that went because their user opened too many."""

    __slots__ = (
        "acked",
        "behind",
        "crowded",
        "dropped",
        "expired_online",
        "open",
        "opened_total",
        "resent_total",
        "sent_total",
    )

    def __init__(self) -> None:
        self.open = self.opened_total = self.sent_total = self.resent_total = 0
        self.behind = self.dropped = self.acked = self.expired_online = self.crowded = 0


class Roster:
    """The open streams by user, polls among them; a user may have several devices, and up to
    ``max_per_user`` streams in this process."""

    def __init__(self, now: int, max_per_user: int) -> None:
        self.counters = Counters()
        self._max_per_user = max_per_user
        self.wheel: Wheel[Stream] = Wheel(now)
        self._streams: dict[Holder, tuple[Stream, ...]] = {}

    def enter(
        self, user: Holder, send: Send, task: asyncio.Task[Any] | None, claim: int = 0
    ) -> Stream:
        """Register a stream that is about to open, before its state is asked for: an event that
        comes meanwhile is remembered. ``claim`` is the issued_at its client says it holds."""
        stream = Stream(user, send, task)
        stream.acked = claim
        self.join(stream)
        return stream

    def join(self, stream: Stream) -> None:
        """As :meth:`enter`, for one that is there."""
        self._streams[stream.holder] = (*self.of(stream.holder), stream)
        self.counters.open += 1

    def one_too_many(self, user: Holder) -> Stream | None:
        """Who goes so that one more of this user's fits: the oldest that is open, for the newest
        is the one somebody looks at; only where none is open yet, the oldest that opens."""
        there = self.of(user)
        if len(there) >= 2 * self._max_per_user:
            self.cut(there[0])  # these take no last words
        staying = [stream for stream in there if stream.phase <= Phase.OPEN]
        if len(staying) < self._max_per_user:
            return None
        return next((stream for stream in staying if stream.phase is Phase.OPEN), staying[0])

    def send_away(self, stream: Stream, reconnect_after: int) -> None:
        """Its user has opened too many."""
        self.counters.crowded += 1
        if stream.phase is Phase.OPEN and stream.takes_bye:
            self.bye(stream, "too-many", reconnect_after)
        else:
            stream.turn_away(errors.TooManyStreams(retry_after=reconnect_after))
            self.leave(stream)

    def leave(self, stream: Stream) -> None:
        """Forget the stream. May be called twice."""
        stream.phase = Phase.CLOSED
        self.wheel.remove(stream)
        there = self.of(stream.holder)
        if stream not in there:
            return
        rest = tuple(other for other in there if other is not stream)
        if rest:
            self._streams[stream.holder] = rest
        else:
            del self._streams[stream.holder]
        self.counters.open -= 1
        self._caught_up(stream)

    def of(self, user: Holder) -> tuple[Stream, ...]:
        """The open streams of a user."""
        return self._streams.get(user, ())

    def streams(self) -> Iterator[Stream]:
        """All of them, as they are now."""
        for user in list(self._streams):
            yield from self.of(user)

    def end(self, stream: Stream, frame: bytes) -> None:
        """Close the stream with these last words, as soon as its client takes them."""
        if stream.phase is Phase.OPEN:
            stream.phase = Phase.ENDING
            stream.ending = frame
            self.finish(stream)

    def bye(self, stream: Stream, reason: str, reconnect_after: int) -> None:
        """Close the stream and tell its client when to come back."""
        payload = message.bye_json(reason, reconnect_after)
        self.end(stream, stream.frame(message.BYE, payload))

    def cut(self, stream: Stream) -> None:
        """Close the stream without a word: its client takes none."""
        if stream.phase is not Phase.CLOSED:
            self.counters.dropped += 1
            stream.cut()
            self.leave(stream)

    def post(self, stream: Stream, frame: bytes, *, last: bool = False) -> bool:
        """Write to one client; its trouble is its own."""
        try:
            done = stream.write(frame, last=last)
        except Exception as error:  # noqa: BLE001 - a broken connection ends its own stream only
            log.warning("a stream's send failed", action="send", error=type(error).__name__)
            self.cut(stream)
            return False
        if done:
            self._caught_up(stream)
        else:
            if not stream.behind_since:
                stream.behind_since = self.wheel.now
                self.counters.behind += 1
            stream.beat_at = self.wheel.now + 1
        return done

    def _caught_up(self, stream: Stream) -> None:
        if stream.behind_since:
            stream.behind_since = 0
            self.counters.behind -= 1

    def finish(self, stream: Stream) -> None:
        """Write the last words; again by the wheel while the client does not take them."""
        if self.post(stream, stream.ending or b"", last=True):
            self.leave(stream)
        elif stream.phase is Phase.ENDING:
            self.wheel.put(stream, self.wheel.now + 1)
