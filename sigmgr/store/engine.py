"""Opens a database, begins its transactions, and translates its errors.

Rules:
1. A write is one transaction; a read is one statement and needs none.
2. We say BEGIN ourselves. SQLite's driver would begin too late and lose updates, so a
   write begins IMMEDIATE. On PostgreSQL the limits on time are set in the very message
   that begins, for this transaction only: that holds behind PgBouncer in transaction
   mode, where settings of a session would leak to others or be refused.
3. In one process the writers of a SQLite file queue here, in order. The file's own lock is
   polled and knows no order; it remains for other processes.
4. Nothing of the driver leaves the store: see :func:`translated`.

What this module does not do: statements.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import tempfile
import threading
import weakref
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any

import aiosqlite
from sqlalchemy import URL, Connection, event, exc, make_url
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.util import await_only

from sigmgr.model import errors
from sigmgr.store import inline as inline_driver
from sigmgr.store.dialect import POSTGRES, SQLITE, Dialect

#: PostgreSQL: undefined table, undefined column, schema that does not exist.
_NOT_MIGRATED_STATES = frozenset({"42P01", "42703", "3F000"})
#: How long a setting waits before it is tried again.
_LOCKED_MS = 20
_NOT_MIGRATED_TEXTS = ("no such table", "no such column", "has no column named")


class _Threads:
    """The driver's threads, one a SQLite connection, so that the last can be waited for.

    The driver stops a connection that does not open, or that is given up half way, without
    waiting for its thread; that would report to a loop which is closed by then, and die with
    a traceback.
    """

    def __init__(self) -> None:
        self._known: weakref.WeakSet[threading.Thread] = weakref.WeakSet()

    def connect(self, *arguments: Any, **options: Any) -> aiosqlite.Connection:
        connection = aiosqlite.connect(*arguments, **options)
        connection._thread.daemon = True  # as SQLAlchemy does where it connects by itself
        self._known.add(connection._thread)
        return connection

    async def ended(self, patience: float) -> None:
        """Wait for all of them, no longer than so many seconds."""
        loop = asyncio.get_running_loop()
        until = loop.time() + patience
        for thread in list(self._known):
            if thread.is_alive():
                # Not on the loop, which goes on for whoever shares it.
                await asyncio.to_thread(thread.join, max(0.0, until - loop.time()))


class Engine:
    """An open database. Close it with :meth:`close`."""

    def __init__(
        self,
        engine: AsyncEngine,
        dialect: Dialect,
        *,
        begin: str,
        timeout: float,
        home: Any = None,
        threads: _Threads | None = None,
    ) -> None:
        self.dialect = dialect
        self._engine = engine
        self._writer = engine.execution_options(sigmgr_begin=begin)
        self._timeout = timeout
        self._home = home
        self._threads = threads
        self._turn = asyncio.Lock() if dialect is SQLITE else None
        self._relay_turn = asyncio.Lock()

    @contextlib.asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncConnection]:
        """One write transaction: committed at the end, rolled back by an exception."""
        async with self._queued():
            with translated():
                try:
                    # The server's own limits do not help where the server is gone.
                    async with asyncio.timeout(4 * self._timeout), self._writer.begin() as open_:
                        yield open_
                except TimeoutError as error:
                    raise errors.StoreUnavailable(
                        f"a transaction took longer than {4 * self._timeout:g} s"
                    ) from error

    @contextlib.asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """A connection for single statements, each of which sees one state of the data."""
        with translated():
            try:
                async with asyncio.timeout(self._timeout), self._engine.connect() as connection:
                    yield connection
            except TimeoutError as error:
                raise errors.StoreUnavailable(
                    f"no answer of the database within {self._timeout:g} s"
                ) from error

    @property
    def relay_turn(self) -> asyncio.Lock:
        """Where rows cannot be locked one by one, relays of one process take turns."""
        return self._relay_turn

    async def close(self) -> None:
        """Close every connection. Nothing of the driver works on when this returns."""
        await self._engine.dispose()
        if self._threads is not None:
            # A thread is busy no longer than it waits for the file's lock.
            await self._threads.ended(self._timeout + 1)
        if self._home is not None:
            self._home.cleanup()

    @contextlib.asynccontextmanager
    async def _queued(self) -> AsyncIterator[None]:
        if self._turn is None:
            yield
            return
        try:
            async with asyncio.timeout(self._timeout):
                await self._turn.acquire()
        except TimeoutError as error:
            raise errors.StoreUnavailable(
                f"another write transaction held the database for {self._timeout:g} s"
            ) from error
        try:
            yield
        finally:
            self._turn.release()


def open_engine(
    url: str,
    *,
    pool_size: int = 8,
    max_overflow: int = 8,
    pool_timeout: float = 10.0,
    connect_timeout: float = 5.0,
    statement_timeout_ms: int = 15_000,
    lock_timeout_ms: int = 5_000,
    idle_timeout_ms: int = 30_000,
    inline: bool = False,
) -> Engine:
    """Open a database by its URL; nothing is connected yet.

    ``sqlite+aiosqlite:///FILE``, ``sqlite+aiosqlite:///:memory:`` (a private file that is
    gone when closed: several connections must see the same data) or
    ``postgresql+psycopg://USER@HOST/NAME``. The timeouts bound a statement, the wait for a
    lock, and how long a transaction may stand still. ``inline`` works a SQLite file on the
    loop itself and waits for nothing: see ``store.inline``. Raises BadSettings.
    """
    parsed = _parsed(url)
    pool = {"pool_size": pool_size, "max_overflow": max_overflow, "pool_timeout": pool_timeout}
    if parsed.get_backend_name() == "sqlite":
        return _open_sqlite(parsed, pool, lock_timeout_ms, inline=inline)
    begin = _begin_message(statement_timeout_ms, lock_timeout_ms, idle_timeout_ms)
    engine = create_async_engine(
        parsed.set(drivername="postgresql+psycopg"),
        **pool,
        pool_recycle=1800,
        pool_use_lifo=True,
        hide_parameters=True,
        # hstore would be looked up on every first connection.
        use_native_hstore=False,
        connect_args={
            "autocommit": True,
            "prepare_threshold": None,
            "connect_timeout": max(2, int(connect_timeout)),
            "keepalives_idle": 30,
            "keepalives_interval": 10,
            "keepalives_count": 3,
            "application_name": "sigmgr",
        },
    )
    event.listen(engine.sync_engine, "begin", _begin)
    return Engine(engine, POSTGRES, begin=begin, timeout=statement_timeout_ms / 1000)


def _begin_message(statement_timeout_ms: int, lock_timeout_ms: int, idle_timeout_ms: int) -> str:
    """What opens a write transaction, its limits and its planner settings, in one message."""
    return (
        "BEGIN;"
        f"SET LOCAL statement_timeout={int(statement_timeout_ms)};"
        f"SET LOCAL lock_timeout={int(lock_timeout_ms)};"
        f"SET LOCAL idle_in_transaction_session_timeout={int(idle_timeout_ms)};"
        # Compiling costs more than any statement here takes.
        "SET LOCAL jit=off;"
        # Every write finds its rows by an index, most in the index's order and a few of them.
        # Figures from before a backlog came or went must not talk the planner into reading a
        # whole table, or a whole index to sort it.
        "SET LOCAL enable_seqscan=off;"
        "SET LOCAL enable_bitmapscan=off"
    )


def _parsed(url: str) -> URL:
    try:
        parsed = make_url(url)
    except (exc.ArgumentError, ValueError):
        # The text of the cause would show the URL, and with it a password.
        raise errors.BadSettings("the database URL cannot be read") from None
    if parsed.get_backend_name() not in {"sqlite", "postgresql"}:
        raise errors.BadSettings(
            f"the database is sqlite+aiosqlite or postgresql+psycopg, not {parsed.drivername}"
        )
    return parsed


def _open_sqlite(url: URL, pool: dict[str, Any], lock_timeout_ms: int, *, inline: bool) -> Engine:
    home = None
    if url.database in {None, "", ":memory:"}:
        home = tempfile.TemporaryDirectory(prefix="sigmgr-", ignore_cleanup_errors=True)
        url = url.set(database=f"{home.name}/memory.db")
    threads = _Threads()
    patience_ms = 0 if inline else int(lock_timeout_ms)
    engine = create_async_engine(
        url.set(drivername="sqlite+aiosqlite"),
        **pool,
        hide_parameters=True,
        connect_args={
            # The driver begins nothing by itself.
            "isolation_level": None,
            "timeout": patience_ms / 1000,
            "async_creator_fn": inline_driver.connect if inline else threads.connect,
        },
    )

    settings = (
        f"busy_timeout={patience_ms}",
        "journal_mode=WAL",
        f"synchronous={'OFF' if inline else 'NORMAL'}",
        "foreign_keys=ON",
    )
    event.listen(engine.sync_engine, "connect", _configuring(settings, patience_ms))
    event.listen(engine.sync_engine, "begin", _begin)
    return Engine(
        engine,
        SQLITE,
        begin="BEGIN IMMEDIATE",
        timeout=lock_timeout_ms / 1000,
        home=home,
        threads=threads,
    )


def _configuring(settings: Sequence[str], patience_ms: int) -> Callable[[Any, Any], None]:
    def configure(connection: Any, _: Any) -> None:
        try:
            for setting in settings:
                _set(connection, setting, patience_ms)
        except BaseException:
            # Nobody else knows of it yet.
            connection.close()
            raise

    return configure


def _set(connection: Any, setting: str, patience_ms: int) -> None:
    """SQLite does not wait where two turn a new file into a WAL at once: one is refused."""
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


def _begin(connection: Connection) -> None:
    begin = connection.get_execution_options().get("sigmgr_begin")
    if begin:
        # Several commands in one message go only without parameters.
        connection.exec_driver_sql(begin, execution_options={"no_parameters": True})


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Turn errors of the database into ours, the original kept as ``__cause__``.

    A lost connection, a deadlock, a lock or a pool waited for in vain: StoreUnavailable. A
    missing table or column: NotMigrated. A broken constraint: ConflictError. An error in a
    statement itself is a bug and passes as it is.
    """
    try:
        yield
    except exc.SQLAlchemyError as error:
        ours = _ours(error)
        if ours is None:
            raise
        raise ours from error


def _ours(error: exc.SQLAlchemyError) -> errors.SigmgrError | None:
    if isinstance(error, exc.TimeoutError):
        return errors.StoreUnavailable("no connection to the database was free in time")
    if not isinstance(error, exc.DBAPIError):
        return None
    state = getattr(error.orig, "sqlstate", None) or ""
    said = str(error.orig)
    if setup := _setup_error(state, said):
        return setup
    if isinstance(error, exc.IntegrityError):
        return errors.ConflictError("the database refused this: another change was first")
    if isinstance(error, exc.OperationalError | exc.InterfaceError | exc.InternalError):
        label = " ".join(filter(None, (type(error.orig).__name__, state)))
        return errors.StoreUnavailable(f"the database does not answer ({label})")
    return None


def _setup_error(state: str, said: str) -> errors.SetupError | None:
    if state in _NOT_MIGRATED_STATES or any(text in said for text in _NOT_MIGRATED_TEXTS):
        return errors.NotMigrated()
    if "file is not a database" in said:
        return errors.BadSettings("the file that the database URL names is no SQLite database")
    return None


async def database_time(engine: Engine) -> float:
    """The database's clock in Unix seconds, for comparison with ours."""
    if engine.dialect is SQLITE:
        question = "SELECT (julianday('now') - 2440587.5) * 86400.0"
    else:
        question = "SELECT extract(epoch FROM clock_timestamp())::float8"
    async with engine.read() as connection:
        answer = await connection.exec_driver_sql(question)
        return float(answer.scalar_one())


async def run_sync(engine: Engine, work: Any, *arguments: Any) -> Any:
    """Call ``work(connection, ...)`` in one write transaction, for migrations."""
    async with engine.write() as connection:
        return await connection.run_sync(work, *arguments)
