"""The cache of the version before values were sealed: a copy, kept to stand for processes of
that version beside ours. Values and scripts are as they were, word for word; do not mend them.
"""

from __future__ import annotations

import binascii
from functools import partial
from struct import Struct
from typing import Any, Final

from sigmgr.cache.client import RedisParts
from sigmgr.model import redis_layout
from sigmgr.model.holder import Holder
from sigmgr.model.sig import Current, Reason
from sigmgr.ports import Announcement

VERSION: Final = 1

_HEAD: Final = Struct(">BIBIIIB")
_FORMATS: Final = ("", "v1", "v2")
_FORMAT_CODES: Final = {name: code for code, name in enumerate(_FORMATS)}
_FORMAT_MASK: Final = 0b0011
_TOMBSTONE: Final = 0b0100
_TEXT: Final = 0b1000
#: New reasons go to the end: the number is what lies in Redis.
_REASONS: Final = (
    "",
    Reason.MISSING.value,
    Reason.NEARING_EXPIRY.value,
    Reason.EMERGENCY.value,
    Reason.EXPIRED.value,
    Reason.KEY_ROTATED.value,
    Reason.KEY_TAINTED.value,
    Reason.POLICY_CHANGED.value,
    Reason.FORCED.value,
    Reason.CLIENT_REQUESTED.value,
    Reason.REVOKED.value,
)
_REASON_CODES: Final = {name: code for code, name in enumerate(_REASONS)}
# Half the time of a call of the class, where a thousand are read at once.
_current: Final = partial(tuple.__new__, Current)
# The standard signs become one that is no base64: they would not come back as they were.
_TO_BASE64: Final = bytes.maketrans(b"*-_+/=", b"+/=!!!")
_FROM_BASE64: Final = bytes.maketrans(b"+/=", b"*-_")


def encode(current: Current) -> bytes:
    """The value for one sig. Raises KeyError for a format or reason outside the closed lists."""
    flags = _FORMAT_CODES[current.format]
    body = _pack_sig(current.usersig)
    if body is None:
        flags |= _TEXT
        body = current.usersig.encode()
    head = _HEAD.pack(
        VERSION,
        current.issued_at,
        flags,
        current.expires_at,
        current.renew_at,
        current.key_id,
        _REASON_CODES[current.reason],
    )
    return head + body


def tombstone(issued_at: int) -> bytes:
    return _HEAD.pack(VERSION, issued_at, _TOMBSTONE, 0, 0, 0, 0)


def is_tombstone(value: bytes) -> bool:
    return len(value) == _HEAD.size and value[0] == VERSION and bool(value[5] & _TOMBSTONE)


def decode(holder: Holder, value: bytes) -> Current | None:
    """The sig in a value, or None for a tombstone and for what cannot be read."""
    if len(value) <= _HEAD.size or value[0] != VERSION:
        return None
    _, issued_at, flags, expires_at, renew_at, key_id, reason = _HEAD.unpack_from(value)
    body = value[_HEAD.size :]
    try:
        sig = body.decode() if flags & _TEXT else _unpack_sig(body)
        format_ = _FORMATS[flags & _FORMAT_MASK]
        return _current(
            (holder, format_, key_id, issued_at, expires_at, renew_at, sig, _REASONS[reason])
        )
    except (ValueError, IndexError):
        return None


def _pack_sig(sig: str) -> bytes | None:
    """The bytes behind a sig string, or None where they would not give the string back."""
    try:
        raw = binascii.a2b_base64(sig.encode("ascii").translate(_TO_BASE64), strict_mode=True)
    except ValueError:
        return None
    # Strict, so only the bits that fill up the last character can differ.
    return raw if raw and _unpack_sig(raw[-(len(raw) % 3 or 3) :]) == sig[-4:] else None


def _unpack_sig(raw: bytes) -> str:
    return binascii.b2a_base64(raw, newline=False).translate(_FROM_BASE64).decode("ascii")


_ISSUED_AT: Final = """
local function issued_at(key)
  local head = redis.call('GETRANGE', key, 0, 4)
  if #head < 5 then return -1 end
  local version, a, b, c, d = string.byte(head, 1, 5)
  if version ~= 1 then return -1 end
  return ((a * 256 + b) * 256 + c) * 256 + d
end
"""

#: KEYS: sigs. ARGV, three for each: issued_at, milliseconds to live, value. Answers how many
#: were written.
PUT: Final = (
    _ISSUED_AT
    + """
local written = 0
for i, key in ipairs(KEYS) do
  local at = 3 * i - 2
  if issued_at(key) < tonumber(ARGV[at]) then
    redis.call('SET', key, ARGV[at + 2], 'PX', ARGV[at + 1])
    written = written + 1
  end
end
return written
"""
)

#: What an announcement asks of the cached sig: put if newer, bury, look, nothing.
PUT_IF_NEWER: Final = ord("p")
BURY: Final = ord("r")
LOOK: Final = ord("c")
NOTHING: Final = ord("n")

#: A task: what to do, seconds to live.
TASK: Final = Struct(">BI")

#: What became of an event's sig: not cached, cached (or nothing was asked), written just now.
MISSING: Final = ord("0")
WRITTEN: Final = ord("2")

#: KEYS: the shard's stream, then a sig key for each event. ARGV: channel; the stream's length
#: and its age in milliseconds; a msgpack array of the events; a task for each; a msgpack array
#: of a value for each. Adds one entry to the stream, publishes a message of ``wire``, and
#: answers a string with one character of the above for each event.
#:
#: Events and values stay the texts they came as: to cut and join them here would cost as much
#: as the work itself, and seven arguments for each event cost more to send than that.
ANNOUNCE: Final = (
    _ISSUED_AT
    + """
local byte, sub, call = string.byte, string.sub, redis.call
local stream, events, tasks, values = KEYS[1], ARGV[4], ARGV[5], ARGV[6]
local tail = call('XREVRANGE', stream, '+', '-', 'COUNT', 1)
local previous = '0-0'
if tail[1] then previous = tail[1][1] end
local finish, head = 1, byte(values, 1)
if head == 220 then finish = 3 elseif head == 221 then finish = 5 end
local flags = {}
for i = 2, #KEYS do
  local todo, s1, s2, s3, s4 = byte(tasks, 5 * i - 9, 5 * i - 5)
  local kind, l1, l2 = byte(values, finish + 1, finish + 3)
  local first = finish + 3
  if kind == 196 then
    finish = first + l1 - 1
  else
    first = first + 1
    finish = first + l1 * 256 + l2 - 1
  end
  local flag = '1'
  if todo ~= 110 then
    local _, a, b, c, d = byte(values, first, first + 4)
    local issued = ((a * 256 + b) * 256 + c) * 256 + d
    local there = issued_at(KEYS[i])
    if todo == 99 then
      if there < issued then flag = '0' end
    elseif there < issued or (todo == 114 and there == issued) then
      local seconds = ((s1 * 256 + s2) * 256 + s3) * 256 + s4
      call('SET', KEYS[i], sub(values, first, finish), 'EX', seconds)
      if todo == 112 then flag = '2' end
    end
  end
  flags[i - 1] = flag
end
local last = call('XADD', stream, 'MAXLEN', '~', ARGV[2], '*', 'e', events)
local oldest = tonumber(string.match(last, '%d+')) - ARGV[3]
if oldest > 0 then call('XTRIM', stream, 'MINID', '~', string.format('%.0f', oldest)) end
local said = table.concat(flags)
local head_line = previous .. ' ' .. last .. ' ' .. #events .. '\\n'
call('PUBLISH', ARGV[1], head_line .. events .. said .. values)
return said
"""
)


class UnsealedCache:
    """Such a process, one sig at a time."""

    def __init__(self, redis: RedisParts, layout: redis_layout.Layout) -> None:
        self._redis = redis
        self._layout = layout

    async def get(self, holder: Holder) -> Current | None:
        value = await self._redis.run(lambda client: client.get(self._layout.sig_key(holder)))
        return None if value is None else decode(holder, value)

    async def put(self, current: Current, seconds: int) -> None:
        key = self._layout.sig_key(current.holder)
        args = (key, current.issued_at, seconds * 1000, encode(current))
        await self._redis.run(lambda client: client.eval(PUT, 1, *args))

    async def announce(self, reported: Announcement, seconds: int) -> bool:
        """``reported.current`` None: a revocation where the event is one, else a mere look."""
        event, current = reported
        if current is not None:
            todo, value = PUT_IF_NEWER, encode(current)
        else:
            todo = BURY if event.type == "sig.revoked" else LOOK
            value = tombstone(event.issued_at)
        shard = self._layout.shard(event.holder)
        args: list[Any] = [
            self._layout.stream_key(shard),
            self._layout.sig_key(event.holder),
            self._layout.channel(shard),
            10_000,
            120_000,
            redis_layout.encode_events([event]),
            TASK.pack(todo, seconds),
            redis_layout.encode_values([value]),
        ]
        answer = await self._redis.run(lambda client: client.eval(ANNOUNCE, 2, *args))
        return bool(answer[0] != MISSING)
