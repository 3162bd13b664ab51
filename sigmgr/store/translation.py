"""Translates errors of the database into ours. No error of the driver leaves the store."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Final

from sqlalchemy import exc

from sigmgr.model import errors
from sigmgr.store import connect_errors, postgres

#: PostgreSQL: undefined table, undefined column, schema that does not exist.
_NOT_MIGRATED_STATES = frozenset({"42P01", "42703", "3F000"})
_NOT_MIGRATED_TEXTS = ("no such table", "no such column", "has no column named")
#: PostgreSQL: a read-only transaction, a full disk. SQLite: the beginning of the code's name.
_WHY: Final = {
    "25006": "read-only",
    "53100": "full",
    "SQLITE_READONLY": "read-only",
    "SQLITE_FULL": "full",
}
#: PostgreSQL: missing rights, out of memory or numbers, errors of the operating system, damaged
#: data; SQLite the same.
_REFUSALS: Final = frozenset({
    "42501", "53000", "53200", "53400", "54000", "58000", "58030", "XX001", "XX002",
    "SQLITE_AUTH", "SQLITE_CORRUPT", "SQLITE_IOERR", "SQLITE_NOMEM", "SQLITE_PERM",
})  # fmt: skip


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Turn errors of the database into ours, the original kept as ``__cause__``.

    A lost connection: ConnectionLost. A deadlock, a lock waited for in vain: StoreUnavailable. A
    database that reads but does not write: StoreRefuses. A missing table or column: NotMigrated. A
    violated constraint: ConflictError. An error in a statement is a bug and passes as it is.
    """
    try:
        yield
    except exc.SQLAlchemyError as error:
        found = ours(error)
        if found is None:
            raise
        if isinstance(error, exc.DBAPIError) and is_lost(error):
            found = errors.ConnectionLost(found.text)
        raise found from error


def is_lost(error: exc.DBAPIError) -> bool:
    """The connection was lost; nobody here gave it up."""
    return error.connection_invalidated and postgres.is_loss(error.orig)


def ours(error: exc.SQLAlchemyError) -> errors.SigmgrError | None:
    if not isinstance(error, exc.DBAPIError):
        return None
    if isinstance(error.orig, connect_errors.NotConnected | connect_errors.NotOpened):
        return error.orig.why.error()
    state = _code_of(error)
    if found := _setup_error(state, str(error.orig)) or _refusal(state):
        return found
    if isinstance(error, exc.IntegrityError):
        return errors.ConflictError("the database refused this: another change was first")
    if isinstance(error, exc.OperationalError | exc.InterfaceError | exc.InternalError):
        label = " ".join(filter(None, (type(error.orig).__name__, state)))
        return errors.StoreUnavailable(f"the database does not answer ({label})")
    return None


def _code_of(error: exc.DBAPIError) -> str:
    """The database's code: an SQLSTATE, or the name of SQLite's code; empty for none."""
    origin = error.orig
    return getattr(origin, "sqlstate", None) or getattr(origin, "sqlite_errorname", None) or ""


def _refusal(code: str) -> errors.StoreRefuses | None:
    # SQLite adds details after the second underscore: SQLITE_READONLY_DBMOVED.
    name = "_".join(code.split("_")[:2])
    if name not in _WHY and name not in _REFUSALS:
        return None
    return errors.StoreRefuses(_WHY.get(name, f"refuses writes ({code})"))


def _setup_error(state: str, message: str) -> errors.SetupError | None:
    if state in _NOT_MIGRATED_STATES or any(text in message for text in _NOT_MIGRATED_TEXTS):
        return errors.NotMigrated()
    if "file is not a database" in message:
        return errors.BadSettings("the file that the database URL names is no SQLite database")
    return None
