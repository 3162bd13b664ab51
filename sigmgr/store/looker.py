"""Whether the database answers, tested over a connection of its own.

Rules:
1. The database counts as silent only after a look without an answer: one trivial read, without
   locks, within a second. A slow statement, a full pool, or a server without free connections is
   not silence.
2. While it is silent nobody queues for it, except one probe that waits all the time and so notices
   at once when it is back.

What this module does not do: know what is read, or refuse anybody.
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

#: If the event loop is so many seconds late, this process itself was stopped.
_STOOD_STILL: Final = 0.25
#: Seconds between two probes of a server that refuses, and the wait of one for a server that hangs.
_PROBE_EVERY: Final = 0.1
_PROBE: Final = 30.0


class Looker:
    """``own``: a pool of one connection; ``others``: the pool of all other callers."""

    def __init__(self, own: Pool, others: Pool, silence: Silence) -> None:
        self._own = own
        self._others = others
        self._silence = silence
        self._probe: asyncio.Task[None] | None = None

    async def look(self, work: Work[T], limit: float) -> T:
        """Run ``work(connection)`` within ``limit`` seconds. Raises StoreUnavailable."""
        loop = asyncio.get_running_loop()
        due = loop.time() + limit
        try:
            try:
                answer = await self._look(work, limit)
            except errors.StoreUnavailable:
                if loop.time() - due < _STOOD_STILL:
                    raise
                # This process was stopped, not the database.
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
            # No further connection is available; the existing ones may still work.
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
