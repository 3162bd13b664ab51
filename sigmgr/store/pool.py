"""Connections in use, each use limited in time.

Rules:
1. Nobody waits longer than the given limit. The error names the cause: our own full pool is no dead
   database.
2. A caller that had a connection before and gets none now tries again within its limit, since it
   may be a restart.
3. In one process the writers of a SQLite file queue here, in order. The file's own lock is polled
   without an order; it remains for other processes.

What this module does not do: open pools, or repeat what was lost in use (``database``).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

from sqlalchemy import exc
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from sigmgr.model import errors
from sigmgr.store import postgres
from sigmgr.store.translation import ours, translated

#: Seconds between two tries to connect.
_PAUSE: Final = 0.05
#: Seconds for which a look without an answer counts.
_BELIEVED: Final = 5.0


class Use:
    """One use of the database. ``limit``: seconds for a read. For a transaction, which ``begin``
    opens: seconds until it has begun, and then for each answer, with four times that for all of it.
    """

    def __init__(self, limit: float, begin: str = "") -> None:
        self.limit = limit
        self.begin = begin
        self.connected = False
        #: The last reason why no connection was possible.
        self.refused: exc.DBAPIError | None = None
        self._until = asyncio.get_running_loop().time() + limit
        self.timer = asyncio.timeout_at(self._until)

    @property
    def seconds(self) -> float:
        """The seconds that it may take as a whole, at its present stage."""
        return 4 * self.limit if self.begin and self.connected else self.limit

    def has_begun(self) -> None:
        self.connected = True
        if self.begin:
            self.timer.reschedule(self._until + 3 * self.limit)


class Silence:
    """Whether the last look got no answer. That counts for some seconds only, since looks may
    stop."""

    def __init__(self) -> None:
        self._noticed_at: float | None = None

    def __bool__(self) -> bool:
        if self._noticed_at is None:
            return False
        return asyncio.get_running_loop().time() - self._noticed_at <= _BELIEVED

    def notice(self) -> None:
        self._noticed_at = asyncio.get_running_loop().time()

    def end(self) -> None:
        self._noticed_at = None


class Pool:
    """Up to ``size`` connections, of which ``writers`` may be in transactions, so that waiting for
    locks leaves some to readers. ``alone``: writers wait for each other, not for connections.
    ``be_patient(connection, seconds)``: the limit of each answer."""

    def __init__(
        self,
        engine: AsyncEngine,
        silence: Silence,
        be_patient: Callable[[AsyncConnection, float | None], None],
        *,
        size: int,
        writers: int,
        alone: bool = False,
    ) -> None:
        self.engine = engine
        self._silence = silence
        self._be_patient = be_patient
        self._size = size
        self._alone = alone
        self._turns = asyncio.Semaphore(writers)
        self._begun_by: dict[str, AsyncEngine] = {"": engine}
        self._was_connected = False

    @contextlib.asynccontextmanager
    async def using(self, use: Use) -> AsyncIterator[Use]:
        """Limited in time; errors are translated."""
        with translated():
            try:
                async with use.timer:
                    yield use
            except TimeoutError as error:
                if not use.timer.expired():
                    raise
                raise self._too_late(use) from error

    @contextlib.asynccontextmanager
    async def connection(self, use: Use, *, insist: bool = True) -> AsyncIterator[AsyncConnection]:
        """A connection, with its transaction begun where the use has one. Without ``insist`` there
        is one try only."""
        async with contextlib.AsyncExitStack() as stack:
            if use.begin:
                await stack.enter_async_context(self._turns)
            while True:
                try:
                    connection = await self._opened(stack, use)
                    break
                except exc.DBAPIError as error:
                    again = insist and self._was_connected and not self._silence
                    if not (again and postgres.may_come_back(error)):
                        raise
                    use.refused = error
                await asyncio.sleep(_PAUSE)
            self._was_connected = True
            use.has_begun()
            yield connection

    async def _opened(self, stack: contextlib.AsyncExitStack, use: Use) -> AsyncConnection:
        engine = self._begun_by.get(use.begin)
        if engine is None:
            engine = self.engine.execution_options(sigmgr_begin=use.begin)
            self._begun_by[use.begin] = engine
        async with contextlib.AsyncExitStack() as own:
            connection = await own.enter_async_context(engine.connect())
            self._be_patient(connection, use.limit if use.begin else None)
            if use.begin:
                await connection.begin()
            stack.push_async_exit(own.pop_all())
        return connection

    def _too_late(self, use: Use) -> errors.StoreUnavailable:
        seconds = f"{use.seconds:g} s"
        if use.connected:
            return errors.StoreUnavailable(f"no answer of the database within {seconds}")
        why = None if use.refused is None else ours(use.refused)
        if isinstance(why, errors.StoreUnavailable):
            return why
        waiting = use.begin and self._turns.locked()
        if waiting and self._alone:
            return errors.StoreUnavailable(
                f"another write transaction held the database for {seconds}"
            )
        pool: Any = self.engine.sync_engine.pool
        if waiting or pool.checkedout() >= self._size:
            return errors.PoolFull(
                f"the {self._size} connections of this process to the database were all in use"
                f" for {seconds}"
            )
        return errors.StoreUnavailable(f"no connection to the database within {seconds}")


async def undo(connection: AsyncConnection, use: Use) -> None:
    """Roll back; after the time is over, close without it."""
    if connection.invalidated:
        return
    with contextlib.suppress(exc.SQLAlchemyError):
        if use.timer.expired():
            await connection.invalidate()
        else:
            await connection.rollback()


async def commit(connection: AsyncConnection) -> None:
    """Raises CommitUnknown where the connection was lost after COMMIT was sent, and
    StoreUnavailable where the server did not answer it; both may have committed."""
    try:
        await connection.commit()
    except exc.DBAPIError as error:
        if not error.connection_invalidated or isinstance(error.orig, postgres.NotSent):
            raise
        if postgres.is_loss(error.orig):
            raise errors.CommitUnknown from error
        raise errors.StoreUnavailable(
            "the database did not answer the commit, which may have been done"
        ) from error
