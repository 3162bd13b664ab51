"""A SQLite connection that works where it is called, without a thread of its own.

For a process that has nobody else to serve while a statement runs: virtual months. There
the way to a thread and back costs more than any statement, and leaves the order of things
to chance. It must never wait for a lock, for who holds that lock could not go on: the engine
opens it with no busy timeout, so that a lock in the way is an error at once. Writers of one
process queue at the engine and readers of a WAL wait for nobody, so there is none. It does
not wait for the disk either: what it writes outlives the process, but no power cut.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Generator
from typing import Any

import aiosqlite


class InlineConnection(aiosqlite.Connection):
    """What SQLAlchemy knows of ``aiosqlite``, with every call done when it returns."""

    async def _execute(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        if self._connection is None:
            raise ValueError("Connection closed")
        return fn(*args, **kwargs)

    async def _connect(self) -> InlineConnection:
        if self._connection is None:
            self._connection = self._connector()
        return self

    def __await__(self) -> Generator[Any, None, InlineConnection]:
        return self._connect().__await__()

    def stop(self) -> None:
        """Close it, half way or not. There is no thread to stop."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def connect(database: str, **options: Any) -> InlineConnection:
    """As ``aiosqlite.connect``; opened where it is awaited."""
    return InlineConnection(lambda: sqlite3.connect(database, **options), iter_chunk_size=64)
