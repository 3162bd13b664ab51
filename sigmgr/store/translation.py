"""Errors of the database as errors of ours. Nothing of the driver leaves the store."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from sqlalchemy import exc

from sigmgr.model import errors
from sigmgr.store import postgres, told

#: PostgreSQL: undefined table, undefined column, schema that does not exist.
_NOT_MIGRATED_STATES = frozenset({"42P01", "42703", "3F000"})
_NOT_MIGRATED_TEXTS = ("no such table", "no such column", "has no column named")


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Turn errors of the database into ours, the original kept as ``__cause__``.

    A lost connection: ConnectionLost. A deadlock, a lock waited for in vain: StoreUnavailable.
    A missing table or column: NotMigrated. A broken constraint: ConflictError. An error in a
    statement itself is a bug and passes as it is.
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
    """None for an error in a statement."""
    if not isinstance(error, exc.DBAPIError):
        return None
    if isinstance(error.orig, told.NotConnected | told.NotOpened):
        return error.orig.why.error()
    state = getattr(error.orig, "sqlstate", None) or ""
    said = str(error.orig)
    if setup := _setup_error(state, said):
        return setup
    if isinstance(error, exc.IntegrityError):
        return errors.ConflictError("the database refused this: another change was first")
    if isinstance(error, exc.OperationalError | exc.InterfaceError | exc.InternalError):
        label = " ".join(filter(None, (type(error.orig).__name__, state)))
        return errors.StoreUnavailable(f"the database does not answer ({label})")
    return None


def _setup_error(state: str, said: str) -> errors.SetupError | None:
    if state in _NOT_MIGRATED_STATES or any(text in said for text in _NOT_MIGRATED_TEXTS):
        return errors.NotMigrated()
    if "file is not a database" in said:
        return errors.BadSettings("the file that the database URL names is no SQLite database")
    return None
