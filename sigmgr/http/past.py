"""Ways past the ASGI send, for what is written a thousand times a second.

What this module does not do: judge whether an answer may go that way; the send does, and whoever
calls uses it where a way is closed.
"""

from __future__ import annotations

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle


class Fields:
    """The server's own header fields, as they are written."""

    def __init__(self) -> None:
        self._of: list[tuple[bytes, bytes]] = []
        self._joined = b""

    def joined(self, headers: list[tuple[bytes, bytes]]) -> bytes:
        """The list is another one when the second has changed."""
        if headers is not self._of:
            self._of = headers
            self._joined = b"".join(b"%b: %b\r\n" % field for field in headers)
        return self._joined


class Past:
    """Ways past the send of one request, without a coroutine for each piece; fulfils
    ``push.sse.Past``."""

    __slots__ = ("_cycle", "_fields", "_transport")

    def __init__(self, fields: Fields, cycle: RequestResponseCycle) -> None:
        self._fields = fields
        self._cycle = cycle
        self._transport = cycle.transport

    @property
    def chunked(self) -> bool:
        return self._cycle.chunked_encoding is True

    def write(self, body: bytes) -> bool:
        """What the send would write between the first chunk and the last: a tenth of the time of
        a wave."""
        transport = self._transport
        if transport.get_write_buffer_size():
            return False
        if not transport.is_closing():
            transport.write(b"%x\r\n%b\r\n" % (len(body), body))
        return True

    def cut(self) -> None:
        self._cycle.disconnected = True
        self._transport.abort()

    def answer(self, fields: bytes, body: bytes) -> bool:
        """What the two sends of a 200 write, in one piece: a fifth of the time of a get from the
        near cache. ``fields``: its header fields but the length. False where the send has to
        judge."""
        cycle = self._cycle
        if cycle.response_started or cycle.disconnected or cycle.flow.write_paused:
            return False
        if not cycle.keep_alive or cycle.access_log:
            return False
        defaults = self._fields.joined(cycle.default_headers)
        cycle.response_started = cycle.response_complete = True
        cycle.waiting_for_100_continue = False
        self._transport.write(
            b"HTTP/1.1 200 OK\r\n%b%bcontent-length: %d\r\n\r\n%b"
            % (defaults, fields, len(body), body)
        )
        cycle.message_event.set()
        cycle.on_response()
        return True
