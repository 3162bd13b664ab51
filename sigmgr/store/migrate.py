"""Brings the schema up to date: alembic, driven from here, without an ini file.

Rules:
1. One migration is one transaction, and a lock is taken in each: two processes that start
   at once do every step once. The lock lives in the transaction, because a lock of the
   session would be lost or leaked behind PgBouncer.
2. A migration waits a few seconds for others' locks and no longer: behind a waiting ALTER
   every query of the table queues up.

What this module does not do: say what the schema is (``tables``, ``alembic/versions``).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect, text

import sigmgr
from alembic import command
from sigmgr.model import errors
from sigmgr.store.engine import Engine

#: Any number that no other program uses in this database.
_LOCK = 0x5167_6D67_7200
_WAIT_FOR_LOCK_MS = 60_000
_LOCK_TIMEOUT_MS = 5_000
_STATEMENT_TIMEOUT_MS = 600_000


def heads() -> list[str]:
    """The revisions that this version wants; one."""
    return list(_scripts().get_heads())


def revisions() -> list[str]:
    """Every revision that this version knows, newest first."""
    return [str(script.revision) for script in _scripts().walk_revisions()]


async def current(engine: Engine) -> str:
    """The revision that the database is at; empty where it has none."""
    async with engine.read() as connection:
        return await connection.run_sync(_current)


async def check(engine: Engine) -> None:
    """Raises NotMigrated, which names both, where the database is at another revision."""
    found, wanted = await current(engine), heads()
    if [found] != wanted:
        raise errors.NotMigrated(
            f"the database is at revision {found or 'none'}; this version needs {', '.join(wanted)}"
        )


async def upgrade(engine: Engine, revision: str = "head") -> list[str]:
    """Up to a revision; answers those that were applied, none where nothing was to do."""
    return await _walk(engine, _step_up, revision)


async def downgrade(engine: Engine, revision: str) -> list[str]:
    """Down to a revision or ``base``; answers those that were taken back."""
    return await _walk(engine, _step_down, revision)


async def _walk(engine: Engine, step: Any, revision: str) -> list[str]:
    done: list[str] = []
    while True:
        async with engine.write() as connection:
            moved = await connection.run_sync(step, revision)
        if not moved:
            return done
        done.append(moved)


def _step_up(connection: Connection, revision: str) -> str:
    _alone(connection)
    found = _current(connection)
    steps = list(_scripts().iterate_revisions(revision, found or "base"))
    if not steps or steps[0].revision == found:
        return ""
    following = steps[-1] if steps[-1].revision != found else steps[-2]
    command.upgrade(_config(connection), following.revision)
    return str(following.revision)


def _step_down(connection: Connection, revision: str) -> str:
    _alone(connection)
    found = _current(connection)
    target = _scripts().get_revision(revision) if revision != "base" else None
    if not found or (target is not None and target.revision == found):
        return ""
    command.downgrade(_config(connection), "-1")
    return found


def _alone(connection: Connection) -> None:
    """Wait for other migrations, then limit the wait for everything else. SQLite's write
    transaction is alone already."""
    if connection.dialect.name != "postgresql":
        return
    connection.execute(text(f"SET LOCAL lock_timeout = {_WAIT_FOR_LOCK_MS}"))
    connection.execute(text(f"SET LOCAL statement_timeout = {_WAIT_FOR_LOCK_MS}"))
    connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
    connection.execute(text(f"SET LOCAL lock_timeout = {_LOCK_TIMEOUT_MS}"))
    connection.execute(text(f"SET LOCAL statement_timeout = {_STATEMENT_TIMEOUT_MS}"))


def _current(connection: Connection) -> str:
    if not inspect(connection).has_table("alembic_version"):
        return ""
    return MigrationContext.configure(connection).get_current_revision() or ""


def _location() -> Path:
    """Beside the package in the source tree, inside it where it was installed."""
    package = Path(sigmgr.__file__).parent
    installed = package / "_alembic"
    return installed if installed.is_dir() else package.parent / "alembic"


def _config(connection: Connection | None = None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(_location()).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config


def _scripts() -> ScriptDirectory:
    return ScriptDirectory.from_config(_config())
