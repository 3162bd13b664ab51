"""The way to one client, whatever it speaks.

The endpoint that has authorised the client makes a transport for one stream. The gateway opens it
once, writes and beats while the stream is open, and closes or cuts it once.

What a transport does not do: decide what is written.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from sigmgr.model import errors
from sigmgr.push.message import Message


class Transport(Protocol):
    """``news``: the type of the message that brings a newer sig. ``sends_bye``: once it is open,
    its client can be given last words; else it is refused with an error as long as it waits.

    ``write``, ``beat`` and ``close`` answer True where it was taken, False where the client has not
    taken what was written before. Then nothing is written or kept: the newest state is written
    later. They may raise where the connection is broken, which cuts the stream.
    """

    @property
    def news(self) -> str: ...

    @property
    def sends_bye(self) -> bool: ...

    async def open(self, messages: Sequence[Message]) -> None:
        """Begin, with these messages. May wait for the client."""
        ...

    def write(self, message: Message) -> bool:
        """Write at once, or not at all."""
        ...

    def beat(self) -> bool:
        """Show that the stream is alive."""
        ...

    def close(self, last: Message) -> bool:
        """End with these last words, at once or not at all."""
        ...

    def cut(self, error: errors.SigmgrError | None = None) -> None:
        """Give the client up without last words. ``error`` is why, where it was told nothing
        yet. May be called twice."""
        ...
