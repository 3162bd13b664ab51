"""An open database: reads and writes with limits on their time.

Rules:
1. A write is one transaction; a read is one statement without one.
2. Nobody waits longer than the given limit, whatever the database does, and nobody queues for a
   database that does not answer: see :meth:`Engine.looking`.
3. A dead connection costs no error: a read, and a transaction that cannot have committed, run again
   over a new one. A restart is waited for within the limit.

What this module does not do: statements, opening (``engine``), what differs between the two kinds
(``postgres``, ``sqlite``), and the waits themselves (``pool``, ``looker``).
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeVar

from sqlalchemy import exc
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from sigmgr.model import errors
from sigmgr.store.dialect import SQLITE, Dialect
from sigmgr.store.looker import Looker, Work
from sigmgr.store.pool import Pool, Silence, Use, commit, undo
from sigmgr.store.translation import is_lost

T = TypeVar("T")


class Patience(NamedTuple):
    """How long a caller waits for the database, in seconds.

    ``read``: a whole read. ``write``: the beginning of a write transaction, and each answer within
    it; four times that for all of it. ``lock``: a row that another transaction holds.
    """

    read: float
    write: float
    lock: float

    @classmethod
    def of_requests(cls, seconds: float) -> Patience:
        """A caller that waits for a lock in vain has time left for another answer."""
        return cls(seconds, seconds, 0.7 * seconds)


class Kind(NamedTuple):
    """What an :class:`Engine` needs of its kind of database.

    ``open_pool(size)``: a pool of so many connections. ``begin(statement, lock, durable)``: the
    text that begins a write transaction. ``writers``: how many at once.
    ``be_patient(connection, seconds)``: the limit of each answer. ``close``: closes the rest after
    the pools.
    """

    dialect: Dialect
    open_pool: Callable[[int], AsyncEngine]
    begin: Callable[[float, float, bool], str]
    writers: int
    be_patient: Callable[[AsyncConnection, float | None], None]
    close: Callable[[], Awaitable[None]]


class Engine:
    """An open database; end it with :meth:`close`. ``patience``: the limits of callers that give
    none; see :meth:`with_patience`."""

    def __init__(self, kind: Kind, *, size: int, patience: Patience) -> None:
        self.dialect = kind.dialect
        self.patience = patience
        self._kind = kind
        self._silence = Silence()
        self._pool, self._own = (
            Pool(
                kind.open_pool(some),
                self._silence,
                kind.be_patient,
                size=some,
                writers=kind.writers,
                alone=kind.dialect is SQLITE,
            )
            for some in (size, 1)
        )
        self._looker = Looker(self._own, self._pool, self._silence)
        #: Where rows cannot be locked one by one, relays of one process take turns.
        self.relay_turn = asyncio.Lock()

    def with_patience(self, patience: Patience) -> Engine:
        other = copy.copy(self)
        other.patience = patience
        return other

    # -- reading and writing -----------------------------------------------------------------

    async def reading(self, work: Work[T], *, limit: float | None = None) -> T:
        """Run ``work(connection)``, which reads, each statement at one state of the data; once more
        where the connection was lost. ``limit``: seconds for all of it."""
        self._refuse_if_silent()
        async with self._pool.using(Use(limit or self.patience.read)) as use:
            try:
                async with self._pool.connection(use) as connection:
                    return await work(connection)
            except exc.DBAPIError as error:
                if not is_lost(error):
                    raise
            async with self._pool.connection(use) as connection:
                return await work(connection)

    async def rows(
        self, statement: Any, values: Any = None, *, limit: float | None = None
    ) -> Sequence[Any]:
        async def fetch(connection: AsyncConnection) -> Sequence[Any]:
            return (await connection.execute(statement, values)).all()

        return await self.reading(fetch, limit=limit)

    @contextlib.asynccontextmanager
    async def read(self, *, limit: float | None = None) -> AsyncIterator[AsyncConnection]:
        """As :meth:`reading`, for callers that cannot pass a function. Raises ConnectionLost."""
        self._refuse_if_silent()
        async with (
            self._pool.using(Use(limit or self.patience.read)) as use,
            self._pool.connection(use) as connection,
        ):
            yield connection

    async def writing(
        self,
        work: Work[T],
        *,
        limit: float | None = None,
        lock: float | None = None,
        durable: bool = True,
    ) -> T:
        """Run ``work(connection)`` as one write transaction; once more where the connection was
        lost and nothing can have been committed."""
        write = partial(self.write, limit=limit, lock=lock, durable=durable)
        with contextlib.suppress(errors.ConnectionLost):
            async with write() as connection:
                return await work(connection)
        async with write() as connection:
            return await work(connection)

    async def changed(self, statement: Any, values: Any) -> int:
        """Write by one statement; answers how many rows it changed."""

        async def execute(connection: AsyncConnection) -> int:
            return (await connection.execute(statement, values)).rowcount

        return await self.writing(execute)

    @contextlib.asynccontextmanager
    async def write(
        self, *, limit: float | None = None, lock: float | None = None, durable: bool = True
    ) -> AsyncIterator[AsyncConnection]:
        """One write transaction: committed at the end, rolled back by an exception. ``limit`` and
        ``lock`` as in :class:`Patience`. ``durable`` False does not wait for the disk: a machine
        that dies may lose the commits of its last second. Raises ConnectionLost where nothing can
        have been committed, so that it may be tried again; CommitUnknown where the connection was
        lost in the commit."""
        self._refuse_if_silent()
        limit, lock = limit or self.patience.write, lock or self.patience.lock
        async with (
            self._pool.using(Use(limit, self._kind.begin(limit, lock, durable))) as use,
            self._pool.connection(use) as connection,
        ):
            try:
                yield connection
            except BaseException:
                await undo(connection, use)
                raise
            await commit(connection)

    # -- whether it answers ------------------------------------------------------------------

    async def looking(self, work: Work[T], *, limit: float = 1.0) -> T:
        """Run ``work(connection)``, a trivial read over a connection of its own, within ``limit``.
        After one without an answer, long reads and writes are refused at once until the database is
        back. Raises StoreUnavailable."""
        return await self._looker.look(work, limit)

    def _refuse_if_silent(self) -> None:
        if self._silence:
            raise errors.StoreUnavailable("the database did not answer a moment ago")

    # -- the rest ----------------------------------------------------------------------------

    @property
    def has_clock(self) -> bool:
        """The database's clock is not this machine's."""
        return self.dialect is not SQLITE

    def clock_jumped(self) -> None:
        """This machine's clock was set. The pool compares the times of connections with that of the
        last loss; after a step back every new connection would look lost at each use."""
        for pool in (self._pool, self._own):
            pool.engine.sync_engine.pool._invalidate_time = 0.0

    async def close(self) -> None:
        """Close every connection, and wait for the driver's threads and tasks."""
        await self._looker.aclose()
        for pool in (self._pool, self._own):
            await pool.engine.dispose()
        await self._kind.close()
