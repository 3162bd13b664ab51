"""A SQLite connection that runs on the caller's thread.

For a simulation, which has nothing else to do while a statement runs. There, switching to a thread
and back costs more than a statement and makes the order of calls random. It must not wait for a
lock, since the holder could not go on: the engine opens it with no busy timeout, so that a lock is
an error at once. There is none, because writers of one process queue at the engine and readers of a
WAL do not wait. It does not wait for the disk either: writes survive the process, but no power
failure.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Generator
from typing import Any

import aiosqlite


class InlineConnection(aiosqlite.Connection):
    """The part of ``aiosqlite`` that SQLAlchemy uses; every call is done when it returns."""

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
        """Close it. There is no thread to stop."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def connect(database: str, **options: Any) -> InlineConnection:
    """As ``aiosqlite.connect``; opened where it is awaited."""
    return InlineConnection(lambda: sqlite3.connect(database, **options), iter_chunk_size=64)
