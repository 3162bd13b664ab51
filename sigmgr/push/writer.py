"""Writing to the transports of streams, and what becomes of a client that does not take it.

Rules:
1. Messages are made first and written together: sends that come one by one each wake a
   sleeping client.
2. A client's trouble is its own: one that is behind gets the message later, from the newest
   state; one whose transport fails is cut. The others notice nothing.
3. A stream ends with last words, which are tried each second until its client takes them or
   its patience is over.

What this module does not do: decide what is written.
"""

from __future__ import annotations

from typing import NamedTuple

from sigmgr.model import errors
from sigmgr.model.delivery import OPEN, Bye, Revoked, Write
from sigmgr.model.event import Event
from sigmgr.push.logs import log
from sigmgr.push.message import Message, Messages
from sigmgr.push.table import Counters, Stream, StreamTable


class Refused(NamedTuple):
    """A message that was no news to its client, or not taken by it."""

    stream: Stream
    write: Write
    taken: bool


class Writer:
    """``written``: streams that took news since it was last emptied."""

    def __init__(self, table: StreamTable, messages: Messages, counters: Counters) -> None:
        self.written: list[Stream] = []
        self._table = table
        self._messages = messages
        self._counters = counters
        self._waiting: list[tuple[Stream, Write, Message]] = []

    def __len__(self) -> int:
        """How many messages wait for :meth:`write_out`."""
        return len(self._waiting)

    def make(self, stream: Stream, write: Write) -> None:
        message = self._messages.newer(stream.delivery, write, stream.transport.news)
        self._waiting.append((stream, write, message))

    def write_out(self) -> list[Refused]:
        """Write all messages that wait. Those whose stream has ended meanwhile are dropped."""
        waiting, self._waiting = self._waiting, []
        refused: list[Refused] = []
        sent = 0
        for stream, write, message in waiting:
            delivery = stream.delivery
            if delivery.phase is not OPEN:
                continue
            sig, current = write
            news = current.issued_at > sig.sent
            taken = self._post(stream, message)
            if taken and news:
                sent += 1
                if delivery.written(write):
                    self.written.append(stream)
            elif delivery.phase is OPEN:
                self._counters.resent_total += taken
                refused.append(Refused(stream, write, taken))
        self._counters.sent_total += sent
        return refused

    def warn(self, stream: Stream, event: Event) -> None:
        self._post(stream, self._messages.warning(stream.delivery, event))

    def beat(self, stream: Stream) -> None:
        try:
            self._note(stream, taken=stream.transport.beat())
        except Exception as error:  # noqa: BLE001 - see rule 2
            self._broken(stream, error)

    def end(self, stream: Stream, reason: Revoked | Bye) -> None:
        """Close the stream with last words."""
        stream.delivery.close()
        stream.last = self._messages.last(stream.user, reason)
        self.finish(stream)

    def finish(self, stream: Stream) -> None:
        """Try the last words of a stream that is over."""
        assert stream.last is not None
        try:
            taken = stream.transport.close(stream.last)
        except Exception as error:  # noqa: BLE001 - see rule 2
            self._broken(stream, error)
            return
        self._note(stream, taken=taken)
        if taken:
            self.leave(stream)
        else:
            self._table.wheel.put(stream, self._table.wheel.now)  # with the next second

    def cut(self, stream: Stream, error: errors.SigmgrError | None = None) -> None:
        """Close without last words. ``error``: why, for a client that was told nothing yet."""
        if stream in self._table:
            self._counters.dropped += error is None
            stream.transport.cut(error)
            self.leave(stream)

    def leave(self, stream: Stream) -> None:
        stream.delivery.close()
        self._note(stream, taken=True)
        self._table.remove(stream)
        self._counters.open = len(self._table)

    def _post(self, stream: Stream, message: Message) -> bool:
        try:
            taken = stream.transport.write(message)
        except Exception as error:  # noqa: BLE001 - see rule 2
            self._broken(stream, error)
            return False
        if stream.behind_since or not taken:
            self._note(stream, taken=taken)
        return taken

    def _note(self, stream: Stream, *, taken: bool) -> None:
        """Since when the client is behind. One that is gets a heartbeat with each second."""
        if taken and stream.behind_since:
            stream.behind_since = 0
            self._counters.behind -= 1
        elif not taken:
            if not stream.behind_since:
                stream.behind_since = self._table.wheel.now
                self._counters.behind += 1
            stream.beat_at = self._table.wheel.now

    def _broken(self, stream: Stream, error: Exception) -> None:
        log.warning("a stream's send failed", action="send", error=type(error).__name__)
        self.cut(stream)
