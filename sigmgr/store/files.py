"""The file of a SQLite database: its permissions and its creation.

Rules:
1. It is readable by its owner only (mode 0600) from its first byte. SQLite gives the files beside
   it (``-wal``, ``-shm``, ``-journal``) the mode of the database.
2. A file that others can read, made by an earlier version or copied, is restricted, which is logged
   once. Where that is not possible, because of another owner, that is logged.
3. A database is made only on request; otherwise a missing file is an error. An empty file under a
   mistyped name would look like a database that lost everything.
4. An open database file is never opened here a second time: closing it would release the locks that
   this process holds on it.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path
from urllib.parse import unquote, urlsplit

from sigmgr.model import errors
from sigmgr.telemetry import get_logger

_OWNER_ONLY = 0o600
_OTHERS = 0o077
_BESIDE = ("", "-wal", "-shm", "-journal")

log = get_logger("sigmgr.database")


def prepare(database: str, *, uri: bool, create: bool) -> None:
    """Before a connection is opened. Raises NotMigrated where there is no such file and none is to
    be made. A missing directory is left to the database's own error."""
    path = _path(database, uri=uri)
    if not path or os.path.lexists(path):
        return
    if create:
        with suppress(OSError):  # the database reports it better
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _OWNER_ONLY))
    elif Path(path).parent.is_dir():
        raise errors.NotMigrated(
            f"there is no database file {database}",
            advice="Run 'sigmgr db upgrade', which makes it, or correct database.url"
            " (SIGMGR_DATABASE__URL).",
        )


def narrow(path: str) -> None:
    """Once the file is open, and so known to be a database: restrict it and the files beside it to
    the owner."""
    for end in _BESIDE:
        _narrow(path + end)


def _path(database: str, *, uri: bool) -> str:
    """The driver's path; empty where a URI says how the file is opened (``mode=ro``,
    ``mode=memory``)."""
    if uri:
        parts = urlsplit(database)
        if "mode=" in parts.query:
            return ""
        database = unquote(parts.path)
    # The target of a link; the file may not exist yet.
    return os.path.realpath(database)


def _narrow(path: str) -> None:
    try:
        found = Path(path).stat()
    except OSError:
        return
    mode = stat.S_IMODE(found.st_mode)
    if not stat.S_ISREG(found.st_mode) or not mode & _OTHERS:
        return
    try:
        Path(path).chmod(mode & ~_OTHERS)
    except OSError as error:
        log.warning(
            "others may read or write the database file, and it cannot be narrowed",
            action="file-mode",
            file=path,
            mode=f"{mode:04o}",
            why=error.strerror,
            advice="Make it mode 0600, owned by the user that sigmgr runs as.",
        )
    else:
        log.warning(
            "others could read the database file; it is for its owner alone now",
            action="file-mode",
            file=path,
            mode=f"{mode:04o}",
        )
