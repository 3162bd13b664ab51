"""Upgrades the schema with alembic, without an ini file.

Rules:
1. One migration is one transaction that takes a lock, so that two processes that start at once do
   every step once. The lock belongs to the transaction, because a lock of the session would be lost
   or leaked behind PgBouncer.
2. A statement may take ten minutes, whatever the limits of requests. For others' locks it waits a
   few seconds and no longer: behind a waiting ALTER all queries of the table queue up.

What this module does not do: define the schema (``tables``, ``alembic/versions``).
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect, text

import sigmgr
from alembic import command
from sigmgr.model import errors
from sigmgr.store.engine import Engine, Patience

#: Any number that no other program uses in this database.
_LOCK = 0x5167_6D67_7200
#: Seconds: for a statement, and for another migration to end.
_PATIENCE = Patience(read=600.0, write=600.0, lock=60.0)
_LOCK_TIMEOUT_MS = 5_000


class SchemaUnknown(errors.NotMigrated):
    """The database was migrated by a version of sigmgr that this one does not know."""

    code = "schema-unknown"
    advice = "Run that version or a newer one; only it can take the schema back."


class BadRevision(errors.InputError):
    """The schema cannot be taken back to this revision."""

    code = "bad-revision"
    advice = "See 'sigmgr db current'; name a revision before that one, or base."


def heads() -> list[str]:
    """The newest revision of this version."""
    return list(_scripts().get_heads())


def revisions() -> list[str]:
    """Every revision that this version knows, newest first."""
    return [str(script.revision) for script in _scripts().walk_revisions()]


async def current(engine: Engine) -> str:
    """The revision of the database; empty where it has none."""
    return await engine.reading(lambda connection: connection.run_sync(_current))


async def check(engine: Engine) -> None:
    """Raises NotMigrated, which names both, where the database is at another revision, and
    SchemaUnknown where this version does not know that one."""
    found, wanted = await current(engine), heads()
    if [found] != wanted:
        _line(found)  # a schema that we do not know is no case for 'db upgrade'
        raise errors.NotMigrated(
            f"the database is at revision {found or 'none'}; this version needs {', '.join(wanted)}"
        )


async def upgrade(engine: Engine, revision: str = "head") -> list[str]:
    """Up to a revision; answers those that were applied. Raises SchemaUnknown."""
    return await _walk(engine, _step_up, revision)


async def downgrade(engine: Engine, revision: str) -> list[str]:
    """Down to a revision or ``base``; answers those that were undone. Raises SchemaUnknown, and
    BadRevision, with nothing undone, where that revision is not below the present one."""
    return await _walk(engine, _step_down, revision)


async def way_down(engine: Engine, revision: str) -> list[str]:
    """What :func:`downgrade` would undo, newest first. Raises the same."""
    return _way_down(await current(engine), revision)


async def _walk(engine: Engine, step: Any, revision: str) -> list[str]:
    done: list[str] = []
    patient = engine.with_patience(_PATIENCE)
    while True:
        async with patient.write() as connection:
            moved = await connection.run_sync(step, revision)
        if not moved:
            return done
        done.append(moved)


def _step_up(connection: Connection, revision: str) -> str:
    _alone(connection)
    found = _current(connection)
    _line(found)
    steps = list(_scripts().iterate_revisions(revision, found or "base"))
    if not steps or steps[0].revision == found:
        return ""
    following = steps[-1] if steps[-1].revision != found else steps[-2]
    command.upgrade(_config(_location(), connection), following.revision)
    return str(following.revision)


def _step_down(connection: Connection, revision: str) -> str:
    _alone(connection)
    found = _current(connection)
    if not _way_down(found, revision):
        return ""
    command.downgrade(_config(_location(), connection), "-1")
    return found


def _way_down(found: str, revision: str) -> list[str]:
    """The revisions from ``found`` down to the one before ``revision``. Raises BadRevision."""
    line = _line(found)
    if revision == "base":
        return line
    if revision not in line:
        at = f"revision {found}" if found else "no revision"
        raise BadRevision(f"the database is at {at}, and {revision} is not among those before it")
    return line[: line.index(revision)]


def _line(found: str) -> list[str]:
    """A revision and those before it, newest first; empty for none. Raises SchemaUnknown."""
    if not found:
        return []
    if found not in revisions():
        raise SchemaUnknown(
            f"the database is at revision {found}, which this version does not know"
        )
    return [str(script.revision) for script in _scripts().iterate_revisions(found, "base")]


def _alone(connection: Connection) -> None:
    """Wait for other migrations, then limit the wait for everything else. SQLite's write
    transactions are exclusive already."""
    if connection.dialect.name != "postgresql":
        return
    connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
    connection.execute(text(f"SET LOCAL lock_timeout = {_LOCK_TIMEOUT_MS}"))


def _current(connection: Connection) -> str:
    if not inspect(connection).has_table("alembic_version"):
        return ""
    return MigrationContext.configure(connection).get_current_revision() or ""


def _location() -> Path:
    """Beside the package in the source tree, inside it where it is installed."""
    package = Path(sigmgr.__file__).parent
    installed = package / "_alembic"
    return installed if installed.is_dir() else package.parent / "alembic"


def _config(location: Path, connection: Connection | None = None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(location).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config


def _scripts() -> ScriptDirectory:
    return _scripts_in(_location())


@cache
def _scripts_in(location: Path) -> ScriptDirectory:
    """Read once: every question would load all revisions again."""
    return ScriptDirectory.from_config(_config(location))
