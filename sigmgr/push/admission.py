"""Who may be connected to this process, and the end of it.

Rules:
1. For one more stream of a user than it may have, its oldest goes and is told when to come back.
2. A process that holds as many streams as it may takes no more, and says when to try again.
3. Draining tells every client when to come back, spread over the time there is, and ends the
   streams: a server with open responses would not exit by itself. No stream comes in any more.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from sigmgr.model import errors
from sigmgr.model.delivery import OPEN, Bye, Delivery, Phase
from sigmgr.model.holder import Holder
from sigmgr.ports import Draw
from sigmgr.push.table import Counters, Stream, StreamTable
from sigmgr.push.transport import Transport
from sigmgr.push.writer import Writer

#: Seconds, and up to twice as many, after which a stream comes back that went because its user
#: had opened too many: soon enough for who needs it, and no merry-go-round of the same few.
CROWDED_FOR = 60
#: Seconds between two lots of streams that are drained.
_SLICE = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayLimits:
    """``shards``: of how many; ``heartbeat``: seconds between signs of life on a quiet stream;
    ``wide``: streams concerned within about a second from which on a wave is spread;
    ``patience``: seconds after which a client that takes nothing is cut; ``batch``: holders of a
    lookup; ``lookup_timeout``: its seconds; ``max_per_user``, ``max_streams``: streams and polls
    in this process; ``reconnect_within``: seconds over which clients sent elsewhere come back.
    """

    shards: int = 64
    heartbeat: int = 20
    wide: int = 1000
    patience: int = 60
    batch: int = 500
    lookup_timeout: float = 10.0
    max_per_user: int = 20
    max_streams: int = 100_000
    reconnect_within: int = 10


class Admission:
    def __init__(
        self,
        table: StreamTable,
        writer: Writer,
        counters: Counters,
        draw: Draw,
        limits: GatewayLimits,
    ) -> None:
        self.draining = False
        self._table = table
        self._writer = writer
        self._counters = counters
        self._draw = draw
        self._limits = limits

    def enter(self, user: Holder, transport: Transport, claim: int, now: int) -> Stream:
        if self.draining:
            raise errors.Stopping
        for stream in self._table.over_limit(user):
            self._crowd_out(stream)
        if len(self._table) >= self._limits.max_streams:
            raise errors.UnavailableError(
                "this gateway holds as many streams as it may",
                retry_after=self._reconnect_after(),
            )
        # Whether it can be is judged with the state. A sig from the future would silence the
        # stream for good where that cannot be judged, and costs one message where it can.
        stream = Stream(Delivery(user, claim if claim <= now else 0), transport)
        self._table.add(stream)
        self._counters.open = len(self._table)
        return stream

    def send_elsewhere(self, stream: Stream) -> None:
        """Close an open stream of a process that drains."""
        self._writer.end(stream, Bye("drain", self._reconnect_after()))

    async def drain(self, seconds: float) -> None:
        """Send every client elsewhere within this time; who takes no last words is cut, and who
        still opens is refused."""
        self.draining = True
        waiting = [s for s in self._table.all() if s.delivery.phase is OPEN]
        size = max(1, -(-len(waiting) // max(1, int(seconds / _SLICE) - 1)))
        for start in range(0, len(waiting), size):
            for stream in waiting[start : start + size]:
                if stream.delivery.phase is OPEN:
                    self.send_elsewhere(stream)
            await asyncio.sleep(min(_SLICE, seconds))
        for stream in self._table.all():
            if stream.last is not None:
                self._writer.finish(stream)
            opening = stream.delivery.phase is Phase.OPENING
            self._writer.cut(stream, errors.Stopping() if opening else None)

    def _crowd_out(self, stream: Stream) -> None:
        if stream.last is not None:
            self._writer.cut(stream)
            return
        self._counters.crowded += 1
        reconnect_after = CROWDED_FOR + int(self._draw() * CROWDED_FOR)
        if stream.delivery.phase is OPEN and stream.transport.sends_bye:
            self._writer.end(stream, Bye("too-many", reconnect_after))
        else:
            self._writer.cut(stream, errors.TooManyStreams(retry_after=reconnect_after))

    def _reconnect_after(self) -> int:
        return 1 + int(self._draw() * self._limits.reconnect_within)
