"""Turns that PostgreSQL's row locks do not give: first come, first served.

Share locks on a row overtake an update that waits, so with workers signing all the time a
key could never be tainted. Advisory locks queue. SQLite's writers take turns anyway.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from sigmgr.store.dialect import Dialect

#: The class of our advisory locks, so that other users of the database keep theirs.
_KEYS = 0x5167

_SHARED = text("SELECT pg_advisory_xact_lock_shared(:class, :id)")
_ALONE = text("SELECT pg_advisory_xact_lock(:class, :id)")


async def queue_for_keys(
    connection: AsyncConnection, dialect: Dialect, key_ids: Sequence[int], *, shared: bool
) -> None:
    """Wait for the turn with these keys, in the order given; held until the transaction ends."""
    if dialect.name != "postgresql":
        return
    for key_id in key_ids:
        await connection.execute(_SHARED if shared else _ALONE, {"class": _KEYS, "id": key_id})
