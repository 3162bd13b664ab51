"""One HTTP/1.1 GET over a raw socket whose body is read as it comes, for event streams.

A general client needs tens of KiB for each open stream, and a test opens a thousand.
Rules: chunked, sized and until-close bodies are read; silence longer than ``idle`` seconds
ends the stream; leaving the block closes the connection at once.

What this module does not do: follow redirects, reuse connections, ask for compression.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

_PIECE = 65536
#: Seconds to connect.
_CONNECT = 10.0


class HttpStreamError(Exception):
    """The other side does not speak HTTP/1.1 as expected, or sends nothing more."""


class Answer:
    """Status, headers (names in lower case) and a body to be read once."""

    def __init__(self, reader: asyncio.StreamReader, idle: float) -> None:
        self._reader = reader
        self._idle = idle
        self.status = 0
        self.headers: dict[str, str] = {}

    async def read_head(self) -> None:
        """Raises HttpStreamError."""
        async with _in_time(self._idle):
            head = await self._reader.readuntil(b"\r\n\r\n")
        status_line, *lines = head.decode("latin-1").split("\r\n")
        parts = status_line.split(" ", 2)
        if len(parts) < 2 or not parts[0].startswith("HTTP/1.") or not parts[1].isdecimal():
            raise HttpStreamError("no HTTP/1.1 status line")
        self.status = int(parts[1])
        for line in lines:
            name, _, value = line.partition(":")
            self.headers[name.strip().lower()] = value.strip()

    async def body(self, limit: int = _PIECE) -> bytes:
        """All of a short body, cut at ``limit``."""
        text = bytearray()
        async for piece in self.pieces():
            text += piece
            if len(text) >= limit:
                break
        return bytes(text[:limit])

    async def pieces(self) -> AsyncIterator[bytes]:
        """The body as it arrives; ends with the body or the connection."""
        if self.headers.get("transfer-encoding", "").lower() == "chunked":
            while size := await self._chunk_size():
                async for piece in self._exactly(size):
                    yield piece
                await self._line()
        elif "content-length" in self.headers:
            async for piece in self._exactly(int(self.headers["content-length"])):
                yield piece
        else:
            while piece := await self._some(_PIECE):
                yield piece

    async def _chunk_size(self) -> int:
        line = await self._line()
        try:
            return int(line.split(b";", 1)[0], 16) if line else 0
        except ValueError:
            raise HttpStreamError("no chunk size") from None

    async def _exactly(self, size: int) -> AsyncIterator[bytes]:
        while size > 0:
            piece = await self._some(min(size, _PIECE))
            if not piece:
                raise HttpStreamError("the connection broke inside the body")
            size -= len(piece)
            yield piece

    async def _some(self, limit: int) -> bytes:
        async with _in_time(self._idle):
            return await self._reader.read(limit)

    async def _line(self) -> bytes:
        async with _in_time(self._idle):
            return await self._reader.readline()


@asynccontextmanager
async def _in_time(seconds: float) -> AsyncIterator[None]:
    """Turns every failure of a socket into HttpStreamError."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        raise HttpStreamError(f"nothing was received for {seconds:g} s") from None
    except (OSError, EOFError, ValueError, asyncio.LimitOverrunError) as error:
        raise HttpStreamError(f"the connection failed: {type(error).__name__}") from None


@asynccontextmanager
async def get(url: str, headers: Mapping[str, str], *, idle: float = 60.0) -> AsyncIterator[Answer]:
    parts = urlsplit(url)
    secure = parts.scheme == "https"
    port = parts.port or (443 if secure else 80)
    host = parts.hostname or ""
    context = ssl.create_default_context() if secure else None
    async with _in_time(_CONNECT):
        reader, writer = await asyncio.open_connection(host, port, ssl=context)
    try:
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        lines = [f"GET {target} HTTP/1.1", f"Host: {parts.netloc}", "Connection: close"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        writer.write("\r\n".join([*lines, "", ""]).encode("latin-1"))
        answer = Answer(reader, idle)
        await answer.read_head()
        yield answer
    finally:
        writer.transport.abort()
