"""Opens a SQLite file; every connection has the same settings.

What this module does not do: begin transactions (``engine``), queue a process's writers (``pool``).
"""

from __future__ import annotations

import asyncio
import sqlite3
import tempfile
import threading
import weakref
from collections.abc import Callable, Sequence
from typing import Any, Final

import aiosqlite
from sqlalchemy import URL, event
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.util import await_only

from sigmgr.store import connect_errors, files
from sigmgr.store import inline as inline_driver
from sigmgr.store.postgres import begin

#: Pause before a setting is tried again.
_LOCKED_MS: Final = 20


class Threads:
    """The driver's threads, one for each SQLite connection, so that all can be waited for.

    The driver does not wait for the thread of a connection that fails to open or is given up; the
    thread would report to a closed loop, and end with a traceback.
    """

    def __init__(self) -> None:
        self._known: weakref.WeakSet[threading.Thread] = weakref.WeakSet()

    def connect(self, *arguments: Any, **options: Any) -> aiosqlite.Connection:
        connection = aiosqlite.connect(*arguments, **options)
        connection._thread.daemon = True  # as SQLAlchemy does where it connects by itself
        self._known.add(connection._thread)
        return connection

    async def ended(self, patience: float) -> None:
        """Wait for all of them, at most ``patience`` seconds."""
        loop = asyncio.get_running_loop()
        until = loop.time() + patience
        for thread in list(self._known):
            if thread.is_alive():
                # In a thread: the loop goes on for others.
                await asyncio.to_thread(thread.join, max(0.0, until - loop.time()))


def with_file(url: URL) -> tuple[URL, tempfile.TemporaryDirectory[str] | None]:
    """A URL that names a file: one of this process in a directory of its own, to be cleaned up,
    where this URL names none. Several connections must see the same data."""
    if url.database not in {None, "", ":memory:"}:
        return url, None
    private = tempfile.TemporaryDirectory(prefix="sigmgr-", ignore_cleanup_errors=True)
    return url.set(database=f"{private.name}/memory.db"), private


def open_sqlite(
    url: URL, threads: Threads, pool_size: int, *, lock_timeout: float, inline: bool, create: bool
) -> AsyncEngine:
    """A pool of so many connections, none of them opened yet. ``inline``: see ``store.inline``;
    without waits. ``create``: make the file where there is none."""
    patience_ms = 0 if inline else int(lock_timeout * 1000)
    engine = create_async_engine(
        url.set(drivername="sqlite+aiosqlite"),
        pool_size=pool_size,
        max_overflow=0,
        # Callers have limits of their own.
        pool_timeout=None,
        hide_parameters=True,
        connect_args={
            # The driver begins nothing by itself.
            "isolation_level": None,
            "timeout": patience_ms / 1000,
            "async_creator_fn": _opener(
                inline_driver.connect if inline else threads.connect, create
            ),
        },
    )
    settings = (
        f"busy_timeout={patience_ms}",
        "journal_mode=WAL",
        f"synchronous={'OFF' if inline else 'NORMAL'}",
        "foreign_keys=ON",
    )
    event.listen(engine.sync_engine, "connect", _configuring(settings, patience_ms))
    event.listen(engine.sync_engine, "begin", begin)
    return engine


def _opener(connect: Callable[..., Any], create: bool) -> Callable[..., Any]:
    async def open_one(path: str, **options: Any) -> Any:
        files.prepare(path, uri=options.get("uri", False), create=create)
        try:
            return await connect(path, **options)
        except sqlite3.Error as error:
            raise connect_errors.not_opened(error, path) from error

    return open_one


def _configuring(settings: Sequence[str], patience_ms: int) -> Callable[[Any, Any], None]:
    def configure(connection: Any, _: Any) -> None:
        try:
            for setting in settings:
                _set(connection, setting, patience_ms)
            if path := _path(connection):
                files.narrow(path)
        except BaseException:
            # It is in use nowhere yet.
            connection.close()
            raise

    return configure


def _path(connection: Any) -> str:
    cursor = connection.cursor()
    try:
        cursor.execute("PRAGMA database_list")
        return str(cursor.fetchone()[2])
    finally:
        cursor.close()


def _set(connection: Any, setting: str, patience_ms: int) -> None:
    """SQLite does not wait when two connections turn a new file into a WAL at once, but refuses
    one."""
    waited = 0
    while True:
        cursor = connection.cursor()
        try:
            cursor.execute(f"PRAGMA {setting}")
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or waited >= patience_ms:
                raise
        else:
            return
        finally:
            cursor.close()
        await_only(asyncio.sleep(_LOCKED_MS / 1000))
        waited += _LOCKED_MS
