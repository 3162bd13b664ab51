"""Writing to an open response without a coroutine for each write.

To a server that speaks ASGI a write is a coroutine and a message in a dict. In a wave to all
streams of a gateway that was a sixth of the time, for a send that does not wait: its first
step either writes or finds the client's buffer full.

Rules:
1. What is written is what uvicorn's own send would write: one chunk of a chunked response.
2. Only for a response that has begun, is not over, and is chunked; :func:`chunks_of` answers
   None for all others, and for servers that it does not know. Then the send is used.
3. It never waits, and behind a client that is behind it buffers nothing.

What this module does not do: begin or end a response.
"""

from __future__ import annotations

from typing import Any

from starlette.types import Send
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle


class Chunks:
    """The body of one response.

    It asks the transport alone. To look into the response and its flow control too is to fetch
    half a dozen more objects from memory for each stream of a wave.
    """

    __slots__ = ("_transport",)

    def __init__(self, transport: Any) -> None:
        self._transport = transport

    def write(self, body: bytes) -> bool:
        """Write it now, or answer False where the client has not taken all that was written
        before. To a client that has hung up nothing is written, as with the send; the handler
        gets its disconnect in a moment."""
        transport = self._transport
        if transport.get_write_buffer_size():
            return False
        if transport.is_closing():
            return True
        transport.write(b"%x\r\n%b\r\n" % (len(body), body))
        return True


def chunks_of(send: Send) -> Chunks | None:
    """Of the response that this send belongs to."""
    cycle: Any = getattr(send, "__self__", None)
    if not isinstance(cycle, RequestResponseCycle):
        return None
    fit = cycle.response_started and cycle.chunked_encoding and not cycle.response_complete
    return Chunks(cycle.transport) if fit and cycle.scope["method"] != "HEAD" else None
