"""The three Lua scripts that run inside Redis, and how they are sent.

Rules:
1. Every key of one call is of one shard, so a call never crosses slots of a cluster.
2. Only what every Redis since 6.2, Valkey and fakeredis have: no struct, cjson, cmsgpack.
   issued_at is read from bytes 2 to 5 of a value as a number, whole seconds as bytes.
3. All may run twice with the same effect on sigs; an announcement made twice is
   published twice, which readers bear.
4. A server that lost its scripts answers NOSCRIPT; only those calls are sent again, in full
   text, which also loads the script. No round trip asks beforehand.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha1
from struct import Struct
from typing import Any, Final

from redis.exceptions import NoScriptError

from sigmgr.cache.client import RedisParts

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

#: KEYS: sigs. ARGV, three for each: the value that was read and is of no use, one to put in
#: its place, seconds to live. A writer may have been quicker; then nothing is done.
REPLACE: Final = """
for i, key in ipairs(KEYS) do
  local at = 3 * i - 2
  if redis.call('GET', key) == ARGV[at] then
    redis.call('SET', key, ARGV[at + 1], 'EX', ARGV[at + 2])
  end
end
return 0
"""

#: What an announcement asks of the cached sig: put if newer, bury, look, nothing.
PUT_IF_NEWER: Final = ord("p")
BURY: Final = ord("r")
LOOK: Final = ord("c")
NOTHING: Final = ord("n")

#: A task: what to do, seconds to live.
TASK: Final = Struct(">BI")

#: What became of an event's sig: not cached, cached (or nothing was asked), written just now.
MISSING: Final = ord("0")

#: KEYS: the shard's stream, then a sig key for each event that has something to do. ARGV: channel;
#: the stream's length and its age in milliseconds; a msgpack array of the events; a task for each;
#: a msgpack array of a value for each key; what the message brings of them. Adds one entry to the
#: stream, publishes a message of ``redis_layout``, and answers a string with one character of the
#: above for each event.
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
local flags, k = {}, 1
for i = 1, #tasks / 5 do
  local todo, s1, s2, s3, s4 = byte(tasks, 5 * i - 4, 5 * i)
  local flag = '1'
  if todo ~= 110 then
    k = k + 1
    local kind, l1, l2 = byte(values, finish + 1, finish + 3)
    local first = finish + 3
    if kind == 196 then
      finish = first + l1 - 1
    else
      first = first + 1
      finish = first + l1 * 256 + l2 - 1
    end
    local _, a, b, c, d = byte(values, first, first + 4)
    local issued = ((a * 256 + b) * 256 + c) * 256 + d
    local there = issued_at(KEYS[k])
    if todo == 99 then
      if there < issued then flag = '0' end
    elseif there < issued or (todo == 114 and there == issued) then
      local seconds = ((s1 * 256 + s2) * 256 + s3) * 256 + s4
      call('SET', KEYS[k], sub(values, first, finish), 'EX', seconds)
      if todo == 112 then flag = '2' end
    end
  end
  flags[i] = flag
end
local last = call('XADD', stream, 'MAXLEN', '~', ARGV[2], '*', 'e', events)
local oldest = tonumber(string.match(last, '%d+')) - ARGV[3]
if oldest > 0 then call('XTRIM', stream, 'MINID', '~', string.format('%.0f', oldest)) end
local said = table.concat(flags)
local head_line = previous .. ' ' .. last .. ' ' .. #events .. '\\n'
call('PUBLISH', ARGV[1], head_line .. events .. said .. ARGV[7])
return said
"""
)

_SHA: Final = {
    text: sha1(text.encode(), usedforsecurity=False).hexdigest()
    for text in (PUT, REPLACE, ANNOUNCE)
}


class Call:
    __slots__ = ("args", "keys")

    def __init__(self, keys: list[str | bytes], args: list[Any]) -> None:
        self.keys = keys
        self.args = args


async def run(redis: RedisParts, script: str, calls: Sequence[Call]) -> list[Any]:
    """A run of the script for each call, in one pipeline; answers in order. Raises
    CacheUnavailable."""
    if not calls:
        return []
    return await redis.run(lambda client: _run_all(client, script, calls))


async def _run_all(client: Any, script: str, calls: Sequence[Call]) -> list[Any]:
    """Raises the first error."""
    answers = await _pipeline(client, "EVALSHA", _SHA[script], calls)
    lost = [i for i, answer in enumerate(answers) if isinstance(answer, NoScriptError)]
    if lost:
        again = await _pipeline(client, "EVAL", script, [calls[i] for i in lost])
        for i, answer in zip(lost, again, strict=True):
            answers[i] = answer
    for answer in answers:
        if isinstance(answer, Exception):
            raise answer
    return answers


async def _pipeline(client: Any, verb: str, script: str, calls: Sequence[Call]) -> list[Any]:
    async with client.pipeline(transaction=False) as pipe:
        for call in calls:
            pipe.execute_command(verb, script, len(call.keys), *call.keys, *call.args)
        # Errors as answers: redis-py would write the arguments, sigs among them, into the
        # text of an error that it raises.
        answers: list[Any] = await pipe.execute(raise_on_error=False)
        return answers
