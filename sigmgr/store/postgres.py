"""Connections to PostgreSQL that can be abandoned at once, and are known to be dead when they are.

Rules:
1. A caller that stops waiting returns at once: the connection is given up, and the server is asked
   in the background to cancel the statement. The driver would first wait for the server's reply,
   ten seconds and more where the server hangs.
2. A rollback has a moment only; closing the connection rolls back as well.
3. A connection is checked before use, without asking the server: an idle one with something to read
   is dead or about to end. Before a commit it is checked, too; that COMMIT was never sent.
4. When one is lost, none that was opened before is used again: a restart or failover took the
   others, too. Losses are counted; SQLAlchemy's pool would compare wall clock times and, after a
   step back, replace every connection at every use.

What this module does not do: decide how long a caller waits, or retry (``engine``).
"""

from __future__ import annotations

import asyncio
import select
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final

import psycopg
from psycopg import pq, waiting
from psycopg.abc import PQGen
from sqlalchemy import URL, Connection, event, exc
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from sigmgr.store import connect_errors

#: Seconds for a rollback, and for the request to cancel a statement.
_MOMENT: Final = 1.0
#: Statements being cancelled in the background at once; beyond them connections are just closed,
#: and the server notices when it answers.
_MOST_CANCELLATIONS: Final = 16
#: The server ends the connection with these: shut down, crashed, shutting down or not yet up; idle
#: for too long, within a transaction or not. Uncommitted work is lost.
_ENDED: Final = frozenset({"57P01", "57P02", "57P03", "57P05", "25P03", "25P04"})


class TooLong(psycopg.OperationalError):
    """The server did not answer in the time that was set."""


class NotSent(psycopg.OperationalError):
    """The connection was lost before the COMMIT was sent."""


class PoolState:
    """The state that the connections of one pool share."""

    def __init__(self) -> None:
        self.lost = 0
        self._cancellations: set[asyncio.Task[None]] = set()

    def cancel_in_background(self, connection: PgConnection) -> bool:
        """Have the server cancel this connection's statement, in the background, and close it.
        False where too many are being cancelled already."""
        if len(self._cancellations) >= _MOST_CANCELLATIONS:
            return False
        task = asyncio.get_running_loop().create_task(connection.cancel_and_close())
        self._cancellations.add(task)
        task.add_done_callback(self._cancellations.discard)
        return True

    async def ended(self) -> None:
        """Returns when all background cancellations are over; they do not take long."""
        if self._cancellations:
            await asyncio.wait(list(self._cancellations))


class PgConnection(psycopg.AsyncConnection[Any]):
    #: The limit of one answer of the server in seconds; None: no limit.
    patience: float | None = None
    _pool_state: PoolState
    _opened_at_loss: int = 0
    _unused = True
    _cancelling = False

    @classmethod
    def opener(cls, state: PoolState) -> Callable[..., Any]:
        """A function that opens connections of this pool."""

        async def open_one(*arguments: Any, **options: Any) -> PgConnection:
            lost = state.lost
            try:
                connection = await cls.connect(*arguments, **options)
            except psycopg.Error as error:
                raise connect_errors.not_connected(error, options) from error
            connection._pool_state, connection._opened_at_loss = state, lost
            return connection

        return open_one

    @property
    def broken(self) -> bool:
        return self._cancelling or super().broken

    def is_sound(self) -> bool:
        """Whether it may be used. Asks the operating system only."""
        if self._unused:
            # A new one may still have the end of its opening to read; and where connections are
            # lost all the time, none would ever be new enough for the pool.
            self._unused = False
            return True
        return (
            not self._cancelling
            and self._opened_at_loss == self._pool_state.lost
            and self.pgconn.transaction_status == pq.TransactionStatus.IDLE
            and not self._has_news()
        )

    def _has_news(self) -> bool:
        """Something came although nothing was asked; probably the end."""
        ready = select.poll()
        ready.register(self.pgconn.socket, select.POLLIN)
        return bool(ready.poll(0))

    async def wait(
        self,
        gen: PQGen[Any],
        interval: float = 0.1,
        timeout: float | None = None,  # noqa: ASYNC109  the driver's signature
    ) -> Any:
        """As the driver waits, but an interrupted caller returns at once (rule 1)."""
        try:
            return await waiting.wait_async(
                gen, self.pgconn.socket, interval=interval, timeout=timeout or self.patience
            )
        except psycopg.errors._WaitTimeout:
            self._leave()
            raise TooLong(f"no answer within {timeout or self.patience:g} s") from None
        except (asyncio.CancelledError, KeyboardInterrupt, SystemExit):
            self._leave()
            raise

    def _leave(self) -> None:
        active = self.pgconn.transaction_status == pq.TransactionStatus.ACTIVE
        # An old libpq would wait for the server in a thread, without any limit.
        if active and psycopg.capabilities.has_cancel_safe():
            self._cancelling = self._pool_state.cancel_in_background(self)
        if not self._cancelling:
            self.pgconn.finish()

    async def cancel_and_close(self) -> None:
        try:
            await self.cancel_safe(timeout=_MOMENT)
        except (psycopg.Error, OSError):
            pass  # it ends when the server comes to answer
        finally:
            self.pgconn.finish()

    async def close(self) -> None:
        """Close it; where a cancellation runs, that closes it."""
        if not self._cancelling:
            await super().close()

    async def commit(self) -> None:
        """Raises NotSent where the connection is known to be lost."""
        if self.pgconn.transaction_status != pq.TransactionStatus.IDLE and self._has_news():
            self.pgconn.finish()
            raise NotSent("the connection was lost before the COMMIT")
        await super().commit()

    async def rollback(self) -> None:
        """Raises TooLong, with the connection given up, where a moment is not enough."""
        if self.pgconn.transaction_status == pq.TransactionStatus.IDLE:
            return
        before, self.patience = self.patience, min(_MOMENT, self.patience or _MOMENT)
        try:
            await super().rollback()
        finally:
            self.patience = before


def open_postgres(
    url: URL, state: PoolState, pool_size: int, *, connect_timeout: float
) -> AsyncEngine:
    engine = create_async_engine(
        url.set(drivername="postgresql+psycopg"),
        pool_size=pool_size,
        max_overflow=0,
        # Callers have limits of their own.
        pool_timeout=None,
        pool_recycle=1800,
        pool_use_lifo=True,
        # The caller ends its transaction; is_sound() checks that.
        pool_reset_on_return=None,
        hide_parameters=True,
        # hstore would be looked up on every first connection.
        use_native_hstore=False,
        connect_args={
            "async_creator_fn": PgConnection.opener(state),
            "autocommit": True,
            "prepare_threshold": None,
            "connect_timeout": max(2, int(connect_timeout)),
            "keepalives_idle": 30,
            "keepalives_interval": 10,
            "keepalives_count": 3,
            "application_name": "sigmgr",
        },
    )
    event.listen(engine.sync_engine, "begin", begin)
    event.listen(engine.sync_engine, "checkout", _look_at)
    event.listen(engine.sync_engine, "handle_error", _judge(state))
    return engine


def begin(connection: Connection) -> None:
    """Send the message of :func:`begin_message` from the connection's options."""
    message = connection.get_execution_options().get("sigmgr_begin")
    if message:
        # Several commands in one message are possible only without parameters.
        connection.exec_driver_sql(message, execution_options={"no_parameters": True})


@lru_cache
def begin_message(statement: float, lock: float, idle: float, *, durable: bool) -> str:
    """The message that opens a write transaction, with its limits in seconds and its planner
    settings."""
    return (
        "BEGIN;"
        f"SET LOCAL statement_timeout={_ms(statement)};"
        f"SET LOCAL lock_timeout={_ms(lock)};"
        f"SET LOCAL idle_in_transaction_session_timeout={_ms(idle)};"
        # Compiling costs more than any statement here takes.
        "SET LOCAL jit=off;"
        # Every write finds its rows by an index, mostly a few and in the index's order. With old
        # statistics the planner would read a whole table, or sort a whole index.
        "SET LOCAL enable_seqscan=off;"
        "SET LOCAL enable_bitmapscan=off" + ("" if durable else ";SET LOCAL synchronous_commit=off")
    )


def _ms(seconds: float) -> int:
    # 0 would be no limit.
    return max(1, round(seconds * 1000))


def driver_of(pooled: Any) -> PgConnection:
    driver = pooled.driver_connection
    assert isinstance(driver, PgConnection)
    return driver


def _look_at(_: Any, entry: Any, __: Any) -> None:
    """Before each use; the pool replaces the connection where this raises."""
    if not driver_of(entry).is_sound():
        raise exc.DisconnectionError


def _judge(state: PoolState) -> Callable[[ExceptionContext], None]:
    def judge(context: ExceptionContext) -> None:
        error = context.original_exception
        if getattr(error, "sqlstate", None) in _ENDED and context.connection is not None:
            # The driver sees the connection's end only at its next use.
            context.is_disconnect = True
        context.invalidate_pool_on_disconnect = False
        if context.is_disconnect and is_loss(error):
            state.lost += 1

    return judge


def is_loss(error: BaseException | None) -> bool:
    """The server or the network ended the connection, not we."""
    return isinstance(error, psycopg.Error) and not isinstance(error, TooLong)


def may_come_back(error: exc.DBAPIError) -> bool:
    """A connection was refused, or lost as soon as it was used."""
    return is_loss(error.orig) and (error.connection_invalidated or error.statement is None)
