"""The two Lua scripts that run inside Redis, and how they are sent.

Rules:
1. Every key of one call is of one shard, so a call never crosses slots of a cluster.
2. Only what every Redis since 6.2, Valkey and fakeredis have: no struct, cjson, cmsgpack.
   issued_at is read from bytes 2 to 5 of a value as a number.
3. Both may run twice with the same effect on sigs; an announcement told twice is told
   twice, which readers bear.
4. A server that lost its scripts answers NOSCRIPT; only those calls are sent again, in full
   text, which also loads the script. No round trip asks beforehand.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha1
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
PUT_IF_NEWER: Final = b"p"
BURY: Final = b"r"
LOOK: Final = b"c"
NOTHING: Final = b"n"

#: KEYS: the shard's stream, then a sig key for each event. ARGV: channel, length of the stream,
#: head of the msgpack array, then five for each event: what to do, issued_at, milliseconds to
#: live, value, the event. Answers a string with "1" where the sig is cached (or nothing was
#: asked) and "0" where not.
ANNOUNCE: Final = (
    _ISSUED_AT
    + """
local stream = KEYS[1]
local tail = redis.call('XREVRANGE', stream, '+', '-', 'COUNT', 1)
local previous = '0-0'
if tail[1] then previous = tail[1][1] end
local last = previous
local events, answers = {}, {}
for i = 2, #KEYS do
  local key, at = KEYS[i], 5 * i - 6
  local todo, issued, event = ARGV[at], tonumber(ARGV[at + 1]), ARGV[at + 4]
  local answer = '1'
  if todo == 'p' then
    if issued_at(key) < issued then
      redis.call('SET', key, ARGV[at + 3], 'PX', ARGV[at + 2])
    end
  elseif todo == 'r' then
    if issued_at(key) <= issued then
      redis.call('SET', key, ARGV[at + 3], 'PX', ARGV[at + 2])
    end
  elseif todo == 'c' then
    if issued_at(key) < issued then answer = '0' end
  end
  last = redis.call('XADD', stream, 'MAXLEN', '~', ARGV[2], '*', 'e', event)
  events[i - 1], answers[i - 1] = event, answer
end
redis.call('PUBLISH', ARGV[1], previous .. ' ' .. last .. '\\n' .. ARGV[3] .. table.concat(events))
return table.concat(answers)
"""
)

_SHA: Final = {
    text: sha1(text.encode(), usedforsecurity=False).hexdigest() for text in (PUT, ANNOUNCE)
}


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
