"""What the cache writes and the push side reads: key names, events and messages as bytes.

Both sides of Redis are built apart from each other and meet here, in bytes.

Rules:
1. All keys of one shard carry one hash tag, ``{17}``, so that a script may touch them
   together on a Redis Cluster. The number of shards is part of every name's meaning:
   every process must use the same number.
2. Two holders never share a key: kinds other than ``user`` have a letter of their own, and
   the userid, the only part that may contain a slash, comes last.
3. An event carries facts and never a sig. It is a msgpack array, and that is all that lies
   in a shard's stream.
4. A message on a shard's channel is a line ``previous last size``: two stream ids and a number
   of bytes. So many bytes are a msgpack array of events; the rest is an array of as many
   byte strings: for each event the new sig's value (see ``values``), or nothing. ``previous``
   is the last id in the shard's stream before this batch; a reader that has not seen exactly
   that id has missed something.
5. Anything that cannot be read raises ValueError. Readers answer with a look into the store.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import msgspec

from sigmgr.model.event import Event
from sigmgr.model.holder import Holder, Kind, shard_of

#: The field of a stream entry that holds the event.
EVENT_FIELD: Final = b"e"

#: A stream id as two numbers, so that it compares: (milliseconds, sequence).
StreamId = tuple[int, int]

#: The id before every id: an empty stream.
NO_ID: Final[StreamId] = (0, 0)

_MAX_FIXARRAY: Final = 15
_MAX_ARRAY16: Final = 0xFFFF

_encoder = msgspec.msgpack.Encoder()
_event = msgspec.msgpack.Decoder(Event)
_events = msgspec.msgpack.Decoder(list[Event])
_sigs = msgspec.msgpack.Decoder(list[bytes])


class Layout(NamedTuple):
    """Names of keys and channels. ``prefix`` keeps two installations on one Redis apart."""

    shards: int = 64
    prefix: str = "sm"

    def shard(self, holder: Holder) -> int:
        return shard_of(holder.sdkappid, holder.userid, self.shards)

    def sig_key(self, holder: Holder) -> str:
        """Where the holder's sig is cached."""
        return self.sig_key_in(self.shard(holder), holder)

    def sig_key_in(self, shard: int, holder: Holder) -> str:
        """The same for a caller who knows the holder's shard."""
        app, userid, kind, scope = holder
        if kind == Kind.USER.value and not scope:
            return f"{self.prefix}:{{{shard}}}:s:{app}/{userid}"
        return f"{self.prefix}:{{{shard}}}:o:{app}/{kind}/{scope}/{userid}"

    def stream_key(self, shard: int) -> str:
        return f"{self.prefix}:{{{shard}}}:x"

    def channel(self, shard: int) -> str:
        return f"{self.prefix}:{{{shard}}}:c"


class Message(NamedTuple):
    """What one PUBLISH on a shard's channel says. ``sigs``: for each event the value of the
    sig it is about, empty where it was not put into the cache."""

    previous: StreamId
    last: StreamId
    events: list[Event]
    sigs: list[bytes]


def encode_event(event: Event) -> bytes:
    return _encoder.encode(event)


def decode_event(data: bytes) -> Event:
    """Raises ValueError."""
    return _event.decode(data)


def array_head(count: int) -> bytes:
    """The msgpack bytes that, before ``count`` encoded events, make one array of them.

    So a script can join events that are also written one by one without encoding anything.
    """
    if count <= _MAX_FIXARRAY:
        return bytes((0x90 | count,))
    if count > _MAX_ARRAY16:
        raise ValueError(f"{count} events are too many for one message")
    return b"\xdc" + count.to_bytes(2, "big")


def encode_message(
    previous: StreamId, last: StreamId, events: Sequence[Event], sigs: Sequence[bytes]
) -> bytes:
    """What the announce script builds inside Redis; here for tests and tools."""
    head = array_head(len(events))
    body = head + b"".join(map(encode_event, events))
    line = f"{format_id(previous)} {format_id(last)} {len(body)}\n".encode()
    return line + body + _encoder.encode(list(sigs))


def decode_message(data: bytes) -> Message:
    """Raises ValueError, also for a message of a newer version that has more fields."""
    line, _, body = data.partition(b"\n")
    previous, last, size = line.split(b" ")
    end = int(size)
    events, sigs = _events.decode(body[:end]), _sigs.decode(body[end:])
    if len(events) != len(sigs):
        raise ValueError("the message has not as many sigs as events")
    return Message(parse_id(previous), parse_id(last), events, sigs)


def parse_id(text: bytes) -> StreamId:
    """``b"1526919030474-55"`` as numbers. Raises ValueError."""
    milliseconds, _, sequence = text.partition(b"-")
    return int(milliseconds), int(sequence)


def format_id(stream_id: StreamId) -> str:
    return f"{stream_id[0]}-{stream_id[1]}"
