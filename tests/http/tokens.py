"""A store of tokens for tests of ``Auth``."""

from __future__ import annotations

import asyncio

from sigmgr.http.auth import Auth, new_token
from sigmgr.model.app import Token
from tests.http.scripted import APP

KEY = b"k" * 32


class Tokens:
    """A store of tokens that answers, fails or hangs, as set; and an ``Auth`` over it."""

    def __init__(self, **options):
        self.seconds = 0.0
        self.held: dict[bytes, Token] = {}
        self.asked: list[bytes] = []
        self.error: BaseException | None = None
        self.hangs: asyncio.Event | None = None
        self.auth = Auth(self._lookup, KEY, lambda: self.seconds, **{"patience": 0.05, **options})

    def add(self) -> str:
        text, digest = new_token(KEY)
        self.held[digest] = Token(len(self.held) + 1, "", "backend", APP, 0)
        return text

    async def _lookup(self, digest):
        self.asked.append(digest)
        if self.hangs is not None:
            await self.hangs.wait()
        if self.error is not None:
            raise self.error
        return self.held.get(digest)

    async def lands(self):
        """Until nothing is looked up any more."""
        while self.auth._pending or self.auth._lane.left:
            await asyncio.sleep(0)
