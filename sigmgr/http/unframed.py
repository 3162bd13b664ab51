"""Answers to HTTP/1.0, which knows no chunks: one without a length ends with its connection."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle


class Unframed:
    """The send of an answer to HTTP/1.0: one without a length is not cut into chunks."""

    def __init__(self, cycle: RequestResponseCycle) -> None:
        self._cycle = cycle
        self._send: Callable[[Any], Any] = cycle.send
        self._endless = False

    async def send(self, message: Any) -> None:
        """As the cycle's."""
        cycle = self._cycle
        if message["type"] == "http.response.start":
            named = {name.lower() for name, _ in message.get("headers", ())}
            self._endless = b"content-length" not in named
            if self._endless:
                cycle.chunked_encoding = False
        elif self._endless:
            cycle.expected_content_length = len(message.get("body", b""))
        await self._send(message)
