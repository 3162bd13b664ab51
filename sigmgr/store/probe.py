"""Tests whether the database reads and writes, with a row without meaning.

A replica, a full disk or a missing right lets every read through and no write. The row is inserted
and deleted in one transaction, so that none is left; it is committed, since some failures come only
then.

What this module does not do: schedule itself.
"""

from __future__ import annotations

import uuid
from typing import Final

from sqlalchemy import delete, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from sigmgr.model import errors
from sigmgr.store.engine import Engine
from sigmgr.store.tables import meta

#: What a process does while the database takes no writes.
WITHOUT: Final = "nothing new is issued, sigs at hand are served"
#: Seconds for the read, and for each step of the write.
_LIMIT: Final = 2.0


async def probe(engine: Engine) -> str:
    """What is wrong, in a few words; empty where nothing is: ``does not answer``, ``read-only``,
    ``full``, ``refuses writes (CODE)``, ``does not write`` (in time, though it reads), or the
    missing part of the set-up."""
    name = f"probe/{uuid.uuid4().hex}"

    async def write(connection: AsyncConnection) -> None:
        await connection.execute(insert(meta).values(name=name, value=b""))
        await connection.execute(delete(meta).where(meta.c.name == name))

    try:
        await engine.rows(select(meta.c.name).where(meta.c.name == name), limit=_LIMIT)
    except errors.SigmgrError as error:
        return _described(error, "does not answer")
    try:
        await engine.writing(write, limit=_LIMIT, lock=_LIMIT)
    except errors.SigmgrError as error:
        return _described(error, "does not write")
    return ""


def _described(error: errors.SigmgrError, silent: str) -> str:
    if isinstance(error, errors.StoreRefuses):
        return error.why
    if isinstance(error, errors.PoolFull):
        return "all connections of this process are in use"
    return silent if isinstance(error, errors.StoreUnavailable) else error.text.rstrip(".")
