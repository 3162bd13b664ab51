"""An incremental parser of server-sent events, by the HTML standard.

Rules: lines end in CR, LF or CRLF, also where a CRLF is split over two chunks; a byte order mark at
the very start is dropped; lines that start with a colon are comments; several data lines are joined
by LF; an id with a NUL is ignored; retry takes digits only; an event without data is not
dispatched, and an incomplete one at the end is lost.

Any chunking of the stream gives the same events.
"""

from __future__ import annotations

from typing import NamedTuple

_BOM = b"\xef\xbb\xbf"


class SseEvent(NamedTuple):
    """One event. ``id`` is the last id seen on the stream, not only this event's."""

    event: str
    data: str
    id: str


class SseParser:
    """Feed it bytes. ``last_id`` and ``retry_ms`` are the last values of the stream."""

    def __init__(self) -> None:
        self.last_id = ""
        self.retry_ms: int | None = None
        self._buffer = bytearray()
        self._at_start = True
        self._after_cr = False
        self._event = ""
        self._data: list[str] = []

    def feed(self, chunk: bytes) -> list[SseEvent]:
        if not chunk:
            return []
        if self._after_cr and chunk[:1] == b"\n":
            chunk = chunk[1:]
        # Only a chunk with bytes left may clear the flag: a lone LF was the end of a CRLF.
        self._after_cr = chunk[-1:] == b"\r"
        self._buffer += chunk
        if self._at_start and not self._past_bom():
            return []
        return self._take_lines()

    def _past_bom(self) -> bool:
        """False while the first bytes may still become a byte order mark."""
        if len(self._buffer) < len(_BOM) and _BOM.startswith(self._buffer):
            return False
        if self._buffer.startswith(_BOM):
            del self._buffer[: len(_BOM)]
        self._at_start = False
        return True

    def _take_lines(self) -> list[SseEvent]:
        # bytes.splitlines breaks at LF, CR and CRLF only, as the format requires.
        lines = bytes(self._buffer).splitlines(keepends=True)
        rest = lines.pop() if lines and not lines[-1].endswith((b"\n", b"\r")) else b""
        self._buffer = bytearray(rest)
        events = [self._line(line.rstrip(b"\r\n").decode(errors="replace")) for line in lines]
        return [event for event in events if event is not None]

    def _line(self, line: str) -> SseEvent | None:
        if not line:
            return self._dispatch()
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
        elif name == "event":
            self._event = value
        elif name == "id" and "\0" not in value:
            self.last_id = value
        elif name == "retry" and value.isascii() and value.isdigit():
            self.retry_ms = int(value)
        return None

    def _dispatch(self) -> SseEvent | None:
        event, data = self._event, self._data
        self._event, self._data = "", []
        if not data:
            return None
        return SseEvent(event or "message", "\n".join(data), self.last_id)
