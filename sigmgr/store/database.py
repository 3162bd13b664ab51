"""An open database: reads and writes that keep nobody waiting beyond his limit.

Rules:
1. A write is one transaction; a read is one statement and needs none.
2. Nobody waits longer than the limit he was given, whatever the database does, and nobody
   queues behind one that does not answer: see :attr:`Engine.answers`.
3. A connection that died costs nobody anything: a read, and a transaction of which nothing
   can have been committed, go over a fresh one. A restart is waited for within the limit.
4. Those who wait for locks do not take every connection: readers keep some.
5. In one process the writers of a SQLite file queue here, in order. The file's own lock is
   polled and knows no order; it remains for other processes.

What this module does not do: statements, open a database (``engine``), and what differs
between the two kinds (``postgres``, ``sqlite``).
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, Final, NamedTuple, TypeVar

from sqlalchemy import exc
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from sigmgr.model import errors
from sigmgr.store import postgres
from sigmgr.store.dialect import SQLITE, Dialect
from sigmgr.store.translation import is_lost, ours, translated

T = TypeVar("T")

Work = Callable[[AsyncConnection], Awaitable[T]]

#: Seconds between two tries to connect.
_PAUSE: Final = 0.05
#: Seconds for which a look that failed is believed: looks may cease, and refusals must not
#: outlive them.
_BELIEVED: Final = 5.0
#: A loop that is so many seconds late stood still itself.
_STOOD_STILL: Final = 0.25


class Patience(NamedTuple):
    """How long the database may keep somebody waiting, in seconds.

    ``read``: a read, with all that comes before it. ``write``: the beginning of a write
    transaction, and each answer within it; as a whole it has four times that. ``lock``: a row
    that another transaction holds.
    """

    read: float
    write: float
    lock: float

    @classmethod
    def of_requests(cls, seconds: float) -> Patience:
        """Who waited for a lock in vain has time left to be answered in another way."""
        return cls(seconds, seconds, 0.7 * seconds)


class _Use:
    """One use of the database. ``limit``: seconds for a read, or until a transaction has begun
    and then for each of its answers."""

    def __init__(self, limit: float, *, begin: bool = False) -> None:
        self.limit = limit
        self.begin = begin
        self.connected = False
        #: Why it could not connect so far.
        self.refused: exc.DBAPIError | None = None
        self._until = asyncio.get_running_loop().time() + limit
        self.timer = asyncio.timeout_at(self._until)

    @property
    def seconds(self) -> float:
        """What it may take as a whole, as far as it has come."""
        return 4 * self.limit if self.begin and self.connected else self.limit

    def has_begun(self) -> None:
        self.connected = True
        if self.begin:
            self.timer.reschedule(self._until + 3 * self.limit)


class Kind(NamedTuple):
    """What an :class:`Engine` needs to know of its kind of database.

    ``open_pool(size)``: a pool of so many connections. ``begin(statement, lock)``: what begins
    a write transaction. ``writers``: how many of them at once. ``be_patient(connection,
    seconds)``: so long may each answer take. ``close``: what is to be closed after the pools.
    """

    dialect: Dialect
    open_pool: Callable[[int], AsyncEngine]
    begin: Callable[[float, float], str]
    writers: int
    be_patient: Callable[[AsyncConnection, float | None], None]
    close: Callable[[], Awaitable[None]]


class _State:
    """What is known of the database, by all who use it."""

    def __init__(self) -> None:
        self.was_connected = False
        self.silent_at: float | None = None


class Engine:
    """An open database. Close it with :meth:`close`. ``patience`` is of those who give no
    limits of their own; see :meth:`with_patience`."""

    def __init__(self, kind: Kind, *, size: int, patience: Patience) -> None:
        self.dialect = kind.dialect
        self.patience = patience
        self._kind = kind
        self._size = size
        self._engine = kind.open_pool(size)
        # Looks have a connection of their own: a pool that is full is no silent database.
        self._looker = kind.open_pool(1)
        self._writers: dict[tuple[float, float], AsyncEngine] = {}
        self._turns = asyncio.Semaphore(kind.writers)
        self._relay_turn = asyncio.Lock()
        self._state = _State()

    def with_patience(self, patience: Patience) -> Engine:
        """The same database, its connections and all, for who may be kept waiting otherwise."""
        other = copy.copy(self)
        other.patience = patience
        return other

    # -- reading and writing -----------------------------------------------------------------

    async def reading(self, work: Work[T], *, limit: float | None = None) -> T:
        """``work(connection)``, which reads, each statement one state of the data. Once more
        where the connection was lost. ``limit``: seconds for all of it."""
        self._refuse_if_silent()
        async with self._using(_Use(limit or self.patience.read)) as use:
            try:
                async with self._connection(self._engine, use) as connection:
                    return await work(connection)
            except exc.DBAPIError as error:
                if not is_lost(error):
                    raise
            async with self._connection(self._engine, use) as connection:
                return await work(connection)

    async def rows(
        self, statement: Any, values: Any = None, *, limit: float | None = None
    ) -> Sequence[Any]:
        """All rows of one statement that reads."""

        async def fetch(connection: AsyncConnection) -> Sequence[Any]:
            return (await connection.execute(statement, values)).all()

        return await self.reading(fetch, limit=limit)

    @contextlib.asynccontextmanager
    async def read(self, *, limit: float | None = None) -> AsyncIterator[AsyncConnection]:
        """As :meth:`reading` for who cannot say it as a function. Raises ConnectionLost."""
        self._refuse_if_silent()
        async with (
            self._using(_Use(limit or self.patience.read)) as use,
            self._connection(self._engine, use) as connection,
        ):
            yield connection

    async def writing(
        self, work: Work[T], *, limit: float | None = None, lock: float | None = None
    ) -> T:
        """``work(connection)`` as one write transaction; once more where the connection was
        lost and nothing can have been committed."""
        with contextlib.suppress(errors.ConnectionLost):
            async with self.write(limit=limit, lock=lock) as connection:
                return await work(connection)
        async with self.write(limit=limit, lock=lock) as connection:
            return await work(connection)

    @contextlib.asynccontextmanager
    async def write(
        self, *, limit: float | None = None, lock: float | None = None
    ) -> AsyncIterator[AsyncConnection]:
        """One write transaction: committed at the end, rolled back by an exception.

        ``limit``: seconds for its beginning and for each answer, with four times that for all
        of it; ``lock``: for what another transaction holds. Raises ConnectionLost where
        nothing can have been committed, so that all of it may be tried once more; where the
        connection was lost in the commit itself, StoreUnavailable.
        """
        self._refuse_if_silent()
        limit, lock = limit or self.patience.write, lock or self.patience.lock
        async with (
            self._using(_Use(limit, begin=True)) as use,
            self._turns,
            self._connection(self._writer(limit, lock), use) as connection,
        ):
            try:
                yield connection
            except BaseException:
                await _undo(connection, use)
                raise
            await _commit(connection)

    # -- whether it answers ------------------------------------------------------------------

    async def looking(self, work: Work[T], *, limit: float = 1.0) -> T:
        """``work(connection)``, a trivial read over a connection of its own, within so many
        seconds: what comes back tells whether the database :attr:`answers`.

        Raises StoreUnavailable.
        """
        loop = asyncio.get_running_loop()
        due = loop.time() + limit
        try:
            try:
                answer = await self._look(work, limit)
            except errors.StoreUnavailable:
                if loop.time() - due < _STOOD_STILL:
                    raise
                # It was this process that stood still, not the database.
                answer = await self._look(work, limit)
        except errors.PoolFull:
            raise
        except errors.StoreUnavailable:
            self._state.silent_at = loop.time()
            raise
        except errors.SigmgrError:
            self._state.silent_at = None
            raise
        self._state.silent_at = None
        return answer

    @property
    def answers(self) -> bool:
        """False from the moment a look came back with nothing until one succeeds: so long
        reads and writes are refused at once. Always true where nobody looks."""
        if self._state.silent_at is None:
            return True
        return asyncio.get_running_loop().time() - self._state.silent_at > _BELIEVED

    async def _look(self, work: Work[T], limit: float) -> T:
        async with self._using(_Use(limit)) as use:
            try:
                async with self._connection(self._looker, use, insist=False) as connection:
                    return await work(connection)
            except exc.DBAPIError as error:
                if not isinstance(ours(error), errors.StoreUnavailable):
                    raise
            # One more connection cannot be had; that says nothing of those that are there.
            async with self._connection(self._engine, use) as connection:
                return await work(connection)

    def _refuse_if_silent(self) -> None:
        if not self.answers:
            raise errors.StoreUnavailable("the database did not answer a moment ago")

    # -- the rest ----------------------------------------------------------------------------

    @property
    def relay_turn(self) -> asyncio.Lock:
        """Where rows cannot be locked one by one, relays of one process take turns."""
        return self._relay_turn

    @property
    def has_clock(self) -> bool:
        """The database has a clock of its own, and not this machine's."""
        return self.dialect is not SQLITE

    def clock_jumped(self) -> None:
        """This machine's clock was set. A pool notes by it when connections were lost: set
        back, every connection made since would look older than that, and be made anew each
        time it is taken."""
        for engine in (self._engine, self._looker):
            engine.sync_engine.pool._invalidate_time = 0.0

    async def close(self) -> None:
        """Close every connection. Nothing of the driver works on when this returns."""
        await self._engine.dispose()
        await self._looker.dispose()
        await self._kind.close()

    def _writer(self, limit: float, lock: float) -> AsyncEngine:
        """The pool, with what begins a transaction of these limits."""
        known = self._writers.get((limit, lock))
        if known is None:
            begin = self._kind.begin(limit, lock)
            known = self._engine.execution_options(sigmgr_begin=begin)
            self._writers[limit, lock] = known
        return known

    @contextlib.asynccontextmanager
    async def _using(self, use: _Use) -> AsyncIterator[_Use]:
        """Limited in time, and with errors that are ours."""
        with translated():
            try:
                async with use.timer:
                    yield use
            except TimeoutError as error:
                if not use.timer.expired():
                    raise
                raise self._too_late(use) from error

    def _too_late(self, use: _Use) -> errors.StoreUnavailable:
        seconds = f"{use.seconds:g} s"
        if use.connected:
            return errors.StoreUnavailable(f"no answer of the database within {seconds}")
        if use.refused is not None and (why := ours(use.refused)) is not None:
            return errors.StoreUnavailable(why.text)
        if self.dialect is SQLITE and use.begin:
            return errors.StoreUnavailable(
                f"another write transaction held the database for {seconds}"
            )
        pool: Any = self._engine.sync_engine.pool
        if (use.begin and self._turns.locked()) or pool.checkedout() >= self._size:
            return errors.PoolFull(
                f"the {self._size} connections of this process to the database were all in use"
                f" for {seconds}"
            )
        return errors.StoreUnavailable(f"no connection to the database within {seconds}")

    @contextlib.asynccontextmanager
    async def _connection(
        self, pool: AsyncEngine, use: _Use, *, insist: bool = True
    ) -> AsyncIterator[AsyncConnection]:
        """A connection of the pool, its transaction begun where that is its use.

        Who had one before tries again while there is none to be had: it may be a restart. Not
        so where the caller does not ``insist``.
        """
        async with contextlib.AsyncExitStack() as stack:
            while True:
                try:
                    connection = await self._opened(stack, pool, use)
                    break
                except exc.DBAPIError as error:
                    insist = insist and self._state.was_connected and self.answers
                    if not (insist and postgres.may_come_back(error)):
                        raise
                    use.refused = error
                await asyncio.sleep(_PAUSE)
            self._state.was_connected = True
            use.has_begun()
            yield connection

    async def _opened(
        self, stack: contextlib.AsyncExitStack, pool: AsyncEngine, use: _Use
    ) -> AsyncConnection:
        async with contextlib.AsyncExitStack() as own:
            connection = await own.enter_async_context(pool.connect())
            self._kind.be_patient(connection, use.limit if use.begin else None)
            if use.begin:
                await connection.begin()
            stack.push_async_exit(own.pop_all())
        return connection


async def _undo(connection: AsyncConnection, use: _Use) -> None:
    """Roll back; where the time is over without another word."""
    if connection.invalidated:
        return
    with contextlib.suppress(exc.SQLAlchemyError):
        if use.timer.expired():
            await connection.invalidate()
        else:
            await connection.rollback()


async def _commit(connection: AsyncConnection) -> None:
    try:
        await connection.commit()
    except exc.DBAPIError as error:
        if error.connection_invalidated and not isinstance(error.orig, postgres.NotSent):
            raise errors.StoreUnavailable(
                "the connection was lost in the commit, which may have been done"
            ) from error
        raise
