"""New databases with the schema already in them: to make one takes longer than most tests.

SQLite: a copy of a file. PostgreSQL: a database from a template, see ``schema_url`` in conftest.
"""

from __future__ import annotations

import asyncio
import threading
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from sqlalchemy import make_url

from sigmgr.store import migrate
from sigmgr.store.engine import open_engine


def migrated(url: str) -> None:
    """Migrate an empty database, from any thread, inside a running loop too."""

    async def upgrade() -> None:
        engine = open_engine(url)
        try:
            await migrate.upgrade(engine)
        finally:
            await engine.close()

    thread = threading.Thread(target=lambda: asyncio.run(upgrade()))
    thread.start()
    thread.join()


def put_sqlite(url: str) -> None:
    """Where this URL names a SQLite file that is not there yet, it is there now."""
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite" or parsed.database in (None, "", ":memory:"):
        return
    file = Path(parsed.database or "")
    if not file.exists():
        file.touch(0o600)
        file.write_bytes(_sqlite())


@cache
def _sqlite() -> bytes:
    with TemporaryDirectory() as folder:
        file = Path(folder) / "schema.db"
        migrated(f"sqlite+aiosqlite:///{file}")
        assert not file.with_name("schema.db-wal").exists(), "all of it is in the file"
        return file.read_bytes()
