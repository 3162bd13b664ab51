"""A request that waits for its user's next sig: a stream that ends with its first message.

So a poll costs what an idle stream costs: it is woken by what the gateway hears, looks by
itself only where its sig is due, shares its lookups with all other streams of its user, and
counts among them wherever they are limited.

Rules:
1. Only the user's own sig ends the wait with an answer; heartbeats, warnings and room keys
   do not concern it.
2. Where a stream would be closed, the wait is over without one, and its opening decides.

What this module does not do: know of HTTP, or who may wait how long.
"""

from __future__ import annotations

import asyncio
from typing import Any, NamedTuple, NoReturn

from sigmgr.model import errors
from sigmgr.model.holder import Holder
from sigmgr.push import message
from sigmgr.push.stream import Stream


class News(NamedTuple):
    """A ``sig.current`` as JSON, and of which second its sig is."""

    issued_at: int
    payload: bytes


class Poll(Stream):
    """``answer`` becomes the news, or None where the wait is over without."""

    __slots__ = ("answer",)

    news = message.CURRENT
    takes_bye = False

    def __init__(self, user: Holder, held: int) -> None:
        super().__init__(user, _no_send, None)
        self.acked = held
        self.answer: asyncio.Future[News | None] = asyncio.get_running_loop().create_future()

    def frame(self, kind: str, payload: bytes, issued_at: int | None = None) -> bytes:
        return b"%d\n%b" % (issued_at or 0, payload) if kind == self.news else b""

    def beat(self) -> bytes:
        return b""

    def write(self, frame: bytes, *, last: bool = False) -> bool:
        if not self.answer.done() and (frame or last):
            issued_at, _, payload = frame.partition(b"\n")
            self.answer.set_result(News(int(issued_at), payload) if frame else None)
        return True

    def cut(self) -> None:
        super().cut()
        self.write(b"", last=True)

    def turn_away(self, error: errors.SigmgrError) -> None:
        super().cut()
        if not self.answer.done():
            self.answer.set_exception(error)
            self.answer.exception()  # its handler may be gone, and nobody else asks


async def _no_send(_: dict[str, Any]) -> NoReturn:
    raise AssertionError("a poll writes to nobody")
