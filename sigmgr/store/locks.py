"""A fair queue for changes of keys, by advisory locks of PostgreSQL.

New share locks on a row overtake a waiting update, so a key that signs all the time could never be
tainted. Advisory locks are first come, first served. SQLite's writers take turns anyway.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from sigmgr.store.dialect import Dialect

#: The class of our advisory locks, apart from other users of the database.
_KEYS = 0x5167

_SHARED = text("SELECT pg_advisory_xact_lock_shared(:class, :id)")
_ALONE = text("SELECT pg_advisory_xact_lock(:class, :id)")


async def queue_for_keys(
    connection: AsyncConnection, dialect: Dialect, key_ids: Sequence[int], *, shared: bool
) -> None:
    """Wait for these keys, in the order given; held until the transaction ends."""
    if dialect.name != "postgresql":
        return
    for key_id in key_ids:
        await connection.execute(_SHARED if shared else _ALONE, {"class": _KEYS, "id": key_id})
