"""The two Lua scripts that run inside Redis, and how they are sent.

Rules:
1. Every key of one call is of one shard, so a call never crosses slots of a cluster.
2. Only what every Redis since 6.2, Valkey and fakeredis have: no struct, cjson, cmsgpack.
   issued_at is read from bytes 2 to 5 of a value as a number, whole seconds as bytes.
3. Both may run twice with the same effect on sigs; an announcement told twice is told
   twice, which readers bear.
4. A server that lost its scripts answers NOSCRIPT; only those calls are sent again, in full
   text, which also loads the script. No round trip asks beforehand.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha1
from struct import Struct
from typing import Any, Final

from redis.exceptions import NoScriptError

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

#: Before value and event in a task: what to do, seconds to live, length of the value.
_TASK: Final = Struct(">BIH")

#: KEYS: the shard's stream, then a sig key for each event. ARGV: channel, length of the stream,
#: head of a msgpack array, then a task for each event. Publishes a message of ``wire``, with
#: the sigs that it has written: what was there already may be newer. Answers a string with
#: "1" where the sig is cached (or nothing was asked) and "0" where not.
ANNOUNCE: Final = (
    _ISSUED_AT
    + """
local byte, sub, call = string.byte, string.sub, redis.call
local stream = KEYS[1]
local tail = call('XREVRANGE', stream, '+', '-', 'COUNT', 1)
local previous = '0-0'
if tail[1] then previous = tail[1][1] end
local last = previous
local events, sigs, answers = {}, {}, {}
for i = 2, #KEYS do
  local key, task = KEYS[i], ARGV[i + 2]
  local todo, s1, s2, s3, s4, l1, l2, _, a, b, c, d = byte(task, 1, 12)
  local finish = 7 + l1 * 256 + l2
  local event, sig, answer = sub(task, finish + 1), '\\196\\0', '1'
  if todo ~= 110 then
    local issued = ((a * 256 + b) * 256 + c) * 256 + d
    local there = issued_at(key)
    if todo == 99 then
      if there < issued then answer = '0' end
    elseif there < issued or (todo == 114 and there == issued) then
      local seconds = ((s1 * 256 + s2) * 256 + s3) * 256 + s4
      local value = sub(task, 8, finish)
      call('SET', key, value, 'EX', seconds)
      if todo == 112 then sig = string.char(197, l1, l2) .. value end
    end
  end
  last = call('XADD', stream, 'MAXLEN', '~', ARGV[2], '*', 'e', event)
  events[i - 1], sigs[i - 1], answers[i - 1] = event, sig, answer
end
local said = ARGV[3] .. table.concat(events)
local line = previous .. ' ' .. last .. ' ' .. #said .. '\\n'
call('PUBLISH', ARGV[1], line .. said .. ARGV[3] .. table.concat(sigs))
return table.concat(answers)
"""
)

_SHA: Final = {
    text: sha1(text.encode(), usedforsecurity=False).hexdigest() for text in (PUT, ANNOUNCE)
}


def task(todo: int, seconds: int, value: bytes, event: bytes) -> bytes:
    """One argument for each event: seven would cost more to send than the work they ask for.

    The second in ``value`` (see ``values``) is the one that is compared.
    """
    return _TASK.pack(todo, seconds, len(value)) + value + event


class Call:
    """The keys and arguments of one run of a script."""

    __slots__ = ("args", "keys")

    def __init__(self, keys: list[str], args: list[Any]) -> None:
        self.keys = keys
        self.args = args


async def run_all(client: Any, script: str, calls: Sequence[Call]) -> list[Any]:
    """One pipeline with a run for each call; answers in order. Raises the first error."""
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
