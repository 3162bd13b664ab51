"""The format of what lies in Redis: key names, events and messages as bytes.

``cache`` writes it and ``push`` reads it; neither imports the other.

Rules:
1. All keys of one shard carry one hash tag, ``{17}``, so that a script may use them together on a
   Redis Cluster. The number of shards is part of every name's meaning: every process must use the
   same number.
2. Two holders never share a key: kinds other than ``user`` have a letter of their own, and the
   userid, the only part that may contain a slash, comes last.
3. An event carries facts and never a sig. An entry of a shard's stream is a msgpack array of the
   events of a batch that belong to this shard.
4. A message on a shard's channel is a line ``previous last size`` (two stream ids and a number of
   bytes); then ``size`` bytes, the entry added as ``last``; then a character for each event, and an
   array of as many byte strings, in one seal (``keys/cached``). Where the character is ``2``, the
   string is the plain value (``values``) of the sig just put into the cache; others may be older
   than the cached one. ``previous`` is the last id in the shard's stream before this entry; a
   reader whose last id is another one has missed something.
5. Anything that cannot be read raises ValueError. Readers then look into the store.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

import msgspec

from sigmgr.model.event import Event
from sigmgr.model.holder import Holder, Kind, shard_of

#: The field of a stream entry that holds the events.
EVENT_FIELD: Final = b"e"

#: A stream id as comparable numbers: (milliseconds, sequence).
StreamId = tuple[int, int]

#: The id before every id: an empty stream.
NO_ID: Final[StreamId] = (0, 0)

_WRITTEN: Final = ord("2")
# A constant, since the value of an enum member is a call, and each key of a batch needs it.
_USER: Final = Kind.USER.value

_encoder = msgspec.msgpack.Encoder()
_events = msgspec.msgpack.Decoder(list[Event])
_sigs = msgspec.msgpack.Decoder(list[bytes])


OpenValues = Callable[[bytes, bytes], Sequence[bytes] | None]


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
        if kind == _USER and not scope:
            return f"{self.prefix}:{{{shard}}}:s:{app}/{userid}"
        return f"{self.prefix}:{{{shard}}}:o:{app}/{kind}/{scope}/{userid}"

    def stream_key(self, shard: int) -> str:
        return f"{self.prefix}:{{{shard}}}:x"

    def probe_key(self, shard: int) -> str:
        """A key without meaning, to test whether the shard's node takes writes."""
        return f"{self.prefix}:{{{shard}}}:p"

    def channel(self, shard: int) -> str:
        return f"{self.prefix}:{{{shard}}}:c"


class ChannelMessage(NamedTuple):
    """The content of one PUBLISH on a shard's channel. ``sigs``: for each event the value of its
    sig, empty where it was not put into the cache."""

    previous: StreamId
    last: StreamId
    events: list[Event]
    sigs: Sequence[bytes]


def encode_events(events: Sequence[Event]) -> bytes:
    return _encoder.encode(events)


def decode_events(data: bytes) -> list[Event]:
    """Raises ValueError."""
    return _events.decode(data)


def encode_values(values: Sequence[bytes]) -> bytes:
    """As many values as events; empty where there is none."""
    return _encoder.encode(values)


def decode_values(data: bytes) -> list[bytes]:
    """Raises ValueError."""
    return _sigs.decode(data)


def decode_message(data: bytes, open_values: OpenValues) -> ChannelMessage:
    """Raises ValueError. A message of a newer version, with more fields, raises it too.
    ``open_values`` gets the events and what was brought, as bytes; None brings nothing."""
    line, _, body = data.partition(b"\n")
    previous, last, size = line.split(b" ")
    end = int(size)
    events = _events.decode(body[:end])
    flags = body[end : end + len(events)]
    values = open_values(body[:end], body[end + len(events) :])
    if values is None:
        values = [b""] * len(events)
    if not len(events) == len(values) == len(flags):
        raise ValueError("the message has not as many sigs as events")
    sigs = [value if flag == _WRITTEN else b"" for flag, value in zip(flags, values, strict=True)]
    return ChannelMessage(parse_id(previous), parse_id(last), events, sigs)


def parse_id(text: bytes) -> StreamId:
    """``b"1526919030474-55"`` as numbers. Raises ValueError."""
    milliseconds, _, sequence = text.partition(b"-")
    return int(milliseconds), int(sequence)


def format_id(stream_id: StreamId) -> str:
    return f"{stream_id[0]}-{stream_id[1]}"
