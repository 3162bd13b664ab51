"""One open stream and what its client holds, in as few bytes as they need.

Rules:
1. No task, queue, dict or closure per stream: a hundred thousand of them lie idle nearly
   all of the time. The send of the server is kept and called directly.
2. A write from the hub never waits. It goes to the server's ``chunks`` where there are any,
   else the send is run for one step; where that would wait, the client is slow, the step is
   closed and the message dropped: only the newest state matters, and that is fetched again
   later. (uvicorn waits before it writes, so a closed step has written nothing.)
3. Nothing is written before the response has started, or after it has ended.
4. ``sent`` and ``acked`` of a sig only rise.

What this module does not do: look anything up, or decide when.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from enum import IntEnum
from typing import Any, Protocol

from sigmgr.model import errors
from sigmgr.model.holder import Holder
from sigmgr.model.policy import Spans
from sigmgr.model.sig import Current
from sigmgr.push import message

Send = Callable[[dict[str, Any]], Awaitable[None]]


class Chunks(Protocol):
    """A way past the send for what is written into an open response."""

    def write(self, body: bytes) -> bool:
        """Write it now, or answer False where the client is behind. May raise."""
        ...


#: Waits between two looks for a sig that is known to be out there, in seconds.
RETRY = (1, 2, 5, 10, 30, 60)
#: The longest wait between two looks while a newer sig is due, in seconds.
LOOK_MAX = 60
#: A quiet sig is looked at this often all the same, spread by a draw: events and their repair
#: may both be away, and a reissue before ``renew_at`` has no other herald.
AUDIT = 6 * 3600

#: A deadline that does not come.
NEVER = 1 << 62


class Phase(IntEnum):
    """OPENING: its state is being asked for. STARTING: its first messages are being written,
    by its handler. OPEN: the hub may write. ENDING: one last message waits to be written."""

    OPENING = 0
    STARTING = 1
    OPEN = 2
    ENDING = 3
    CLOSED = 4


#: The phase in which the hub may write; asked several times for each stream of a wave, and
#: to look a member up in its class takes as long as a call.
OPEN = Phase.OPEN


class Held:
    """One sig as a stream's client holds it.

    ``want`` is the newest issued_at known to exist; ``look_at`` (wheel time) is when to ask
    for it next; ``tries`` counts looks since the last one that found something good.
    """

    __slots__ = (
        "acked",
        "expires_at",
        "holder",
        "lapsed",
        "look_at",
        "renew_at",
        "sent",
        "tries",
        "want",
    )

    def __init__(self, holder: Holder) -> None:
        self.holder = holder
        self.sent = 0
        self.acked = 0
        self.renew_at = 0
        self.expires_at = 0
        self.want = 0
        self.look_at = NEVER
        self.tries = 0
        self.lapsed = False

    @property
    def floor(self) -> int:
        """Only what was issued after this is news to the client."""
        # Asked several times for each stream of a wave: a call of max() would show.
        return max(self.acked, self.sent)

    @property
    def ttl(self) -> int:
        return self.expires_at - self.sent

    def took(self, current: Current) -> None:
        """The client was given this sig."""
        self.sent = current.issued_at
        self.renew_at = current.renew_at
        self.expires_at = current.expires_at
        self.tries = 0
        self.lapsed = False

    def wait(self, now: int, draw: float) -> int:
        """Seconds until the next look: soon where a newer sig is known, often where one is
        due, seldom else. Near expiry never longer than a twentieth of what is left."""
        quiet = self.renew_at - now
        if quiet > AUDIT and (self.want <= self.sent or self.want <= self.acked):
            return int(AUDIT * (0.5 + draw / 2))
        left = self.expires_at - now
        pace = max(1, min(LOOK_MAX, self.ttl // 100))
        if left > 0:
            pace = max(1, min(pace, left // 20))
        if self.want > self.floor:
            return min(pace, self.retry())
        return min(quiet + pace, int(AUDIT * (0.5 + draw / 2))) if quiet + pace > 0 else pace

    def retry(self) -> int:
        return RETRY[min(self.tries, len(RETRY) - 1)]


class Stream(Held):
    """An open stream; as a :class:`Held` it stands for the user's own sig.

    A WebSocket stream differs in :meth:`frame`, :meth:`beat` and :meth:`envelope` only.
    ``news`` is the type of the message that brings a newer sig; ``takes_bye``: its client
    can be told that the stream ends.
    """

    news = message.RENEWED
    takes_bye = True

    __slots__ = (
        "beat_at",
        "behind_since",
        "chunks",
        "due",
        "ending",
        "owes",
        "phase",
        "refusal",
        "resend_at",
        "revoked",
        "rooms",
        "rung",
        "send",
        "task",
        "touch_at",
    )

    def __init__(self, user: Holder, send: Send, task: asyncio.Task[Any] | None) -> None:
        super().__init__(user)
        self.send = send
        self.chunks: Chunks | None = None
        self.task = task
        self.phase = Phase.OPENING
        self.rooms: tuple[Held, ...] = ()
        self.rung = 0
        self.owes = False
        self.resend_at = NEVER
        self.touch_at = NEVER
        self.beat_at = NEVER
        self.behind_since = 0
        self.revoked = 0
        self.due = 0
        self.ending: bytes | None = None
        self.refusal: errors.SigmgrError | None = None

    @property
    def cut_off(self) -> bool:
        """The hub has given this stream up; its handler returns without a last word."""
        return self.task is None

    def find(self, holder: Holder) -> Held | None:
        """What the client holds of this holder, if it is known."""
        if holder is self.holder or holder == self.holder:
            return self
        for room in self.rooms:
            if room.holder == holder:
                return room
        return None

    def held(self, holder: Holder) -> Held:
        """What the client holds of this holder; a room that is new to it is remembered."""
        known = self.find(holder)
        if known is not None:
            return known
        room = Held(holder)
        self.rooms = (*self.rooms, room)
        return room

    def forget_room(self, room: Held) -> None:
        self.rooms = tuple(kept for kept in self.rooms if kept is not room)

    def next_due(self) -> int:
        """The earliest deadline; the one slot of the wheel this stream lies in."""
        due = min(self.beat_at, self.look_at, self.resend_at, self.touch_at)
        for room in self.rooms:
            due = min(due, room.look_at)
        return due

    def climb(self, spans: Spans, wheel_now: int) -> None:
        """Set the next rung of the resend ladder; after the last, its interval doubles."""
        ladder = spans.resend
        last = len(ladder) - 1
        step = ladder[self.rung] if self.rung <= last else ladder[last] << min(self.rung - last, 20)
        self.rung += 1
        self.resend_at = wheel_now + step

    def start_ladder(self, spans: Spans, wheel_now: int) -> None:
        """A new sig went out: repeat it by the ladder until it is acked."""
        self.rung = 0
        self.owes = False
        self.climb(spans, wheel_now)

    def ack(self, issued_at: int) -> bool:
        """The client holds the sig of this second; True where that is news and ends the ladder."""
        if issued_at <= self.acked:
            return False
        self.acked = issued_at
        if issued_at < self.sent:
            return False
        self.owes = False
        self.resend_at = NEVER
        return True

    def frame(self, kind: str, payload: bytes, issued_at: int | None = None) -> bytes:
        return message.sse(kind, payload, issued_at)

    def beat(self) -> bytes:
        return message.HEARTBEAT

    def envelope(self, frame: bytes, *, last: bool) -> dict[str, Any]:
        return {"type": "http.response.body", "body": frame, "more_body": not last}

    def write(self, frame: bytes, *, last: bool = False) -> bool:
        """Write now, or answer False where the client is slow. May raise what send raises."""
        if self.chunks is not None and not last:
            return self.chunks.write(frame)
        step: Any = self.send(self.envelope(frame, last=last))
        try:
            step.send(None)
        except StopIteration:
            return True
        step.close()
        return False

    def cut(self) -> None:
        """Give the client up without a last word: it takes nothing, or its send fails."""
        self.phase = Phase.CLOSED
        task, self.task = self.task, None
        if task is not None:
            task.cancel()

    def turn_away(self, error: errors.SigmgrError) -> None:
        """Give up an opening; its handler says why, if nothing was said yet."""
        if self.phase is Phase.OPENING:
            self.refusal = error
        self.cut()
