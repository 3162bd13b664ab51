"""The other end of ``children``: runs one role until its standard input ends."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import Any

import uvloop

from benchmarks.roles import ROLES
from sigmgr import telemetry

LINE_LIMIT = 64 * 1024 * 1024


async def _run(role: str, config: dict[str, Any]) -> None:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=LINE_LIMIT)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    async with ROLES[role](**config) as (ready, handle):
        _send(ready)
        while line := await reader.readline():
            asked = json.loads(line)
            try:
                answer = await handle(asked.pop("do"), **asked)
            except Exception as error:
                answer = {"error": f"{type(error).__name__}: {error}"}
            _send(answer)


def _send(answer: dict[str, Any]) -> None:
    os.write(1, json.dumps(answer).encode() + b"\n")


if __name__ == "__main__":
    telemetry.configure_logging(level="error", as_json=False)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_run(sys.argv[1], json.loads(sys.argv[2])))
