"""Whether the database answers: looked at over a connection of its own.

Rules:
1. Only a look that came back with nothing says that it does not: one trivial read, of no lock
   and hardly a row, within a second. A database that is slow with other things is not refused,
   and a pool that is full, or a server that has no connection to spare, is no silent database.
2. While it does not, nobody is to queue behind it, but for one probe that waits all the time.
   So it is known to be back in the moment in which it is.

What this module does not do: know what is looked for, or refuse anybody.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from sqlalchemy import exc, text
from sqlalchemy.ext.asyncio import AsyncConnection

from sigmgr.model import errors
from sigmgr.store.pool import Pool, Silence, Use
from sigmgr.store.translation import ours

T = TypeVar("T")

Work = Callable[[AsyncConnection], Awaitable[T]]

#: A loop that is so many seconds late stood still itself.
_STOOD_STILL: Final = 0.25
#: Seconds between two probes of a server that refuses, and for which one of a server that
#: hangs waits.
_PROBE_EVERY: Final = 0.1
_PROBE: Final = 30.0


class Looker:
    """``own``: a pool of one connection; ``others``: the pool of everybody else."""

    def __init__(self, own: Pool, others: Pool, silence: Silence) -> None:
        self._own = own
        self._others = others
        self._silence = silence
        self._probe: asyncio.Task[None] | None = None

    async def look(self, work: Work[T], limit: float) -> T:
        """``work(connection)`` within so many seconds. Raises StoreUnavailable."""
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
            self._silence.notice()
            if self._probe is None or self._probe.done():
                self._probe = loop.create_task(self._until_it_answers(), name="probe")
            raise
        except errors.SigmgrError:
            self._silence.end()
            raise
        self._silence.end()
        return answer

    async def aclose(self) -> None:
        if self._probe is not None:
            self._probe.cancel()
            await asyncio.gather(self._probe, return_exceptions=True)

    async def _look(self, work: Work[T], limit: float) -> T:
        async with self._own.using(Use(limit)) as use:
            try:
                async with self._own.connection(use, insist=False) as connection:
                    return await work(connection)
            except exc.DBAPIError as error:
                if not isinstance(ours(error), errors.StoreUnavailable):
                    raise
            # One more connection cannot be had; that says nothing of those that are there.
            async with self._others.connection(use) as connection:
                return await work(connection)

    async def _until_it_answers(self) -> None:
        while self._silence:
            with contextlib.suppress(errors.SigmgrError):
                async with (
                    self._own.using(Use(_PROBE)) as use,
                    self._own.connection(use, insist=False) as connection,
                ):
                    await connection.execute(text("SELECT 1"))
                    self._silence.end()
            await asyncio.sleep(_PROBE_EVERY)
