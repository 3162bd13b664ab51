"""The file of a SQLite database: who may read it, and who makes it.

Rules:
1. It is for its owner alone (mode 0600) from its first byte. SQLite gives the files beside it
   (``-wal``, ``-shm``, ``-journal``) the mode that it finds on the database.
2. A file that others could read, made by an earlier version or copied, is narrowed, and that
   is said once. Where it cannot be narrowed, since it is somebody else's, that is said.
3. Only who was told to makes a database; everybody else says that there is none. An empty
   file under a mistyped name would look like a database that lost everything.
4. An open database file is never opened here a second time: closing it would drop the locks
   that this process holds on it.
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
    """Before a connection is opened. Raises NotMigrated where there is no such file and none
    is to be made. A directory that does not exist is left to the database to tell."""
    path = _path(database, uri=uri)
    if not path or os.path.lexists(path):
        return
    if create:
        with suppress(OSError):  # the database says it better
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _OWNER_ONLY))
    elif Path(path).parent.is_dir():
        raise errors.NotMigrated(
            f"there is no database file {database}",
            advice="Run 'sigmgr db upgrade', which makes it, or correct database.url"
            " (SIGMGR_DATABASE__URL).",
        )


def narrow(path: str) -> None:
    """Once it is open, and thereby known to be a database: for its owner alone, with the files
    beside it."""
    for end in _BESIDE:
        _narrow(path + end)


def _path(database: str, *, uri: bool) -> str:
    """What the driver is given as a path; empty where a URI says itself how the file is opened
    (``mode=ro``, ``mode=memory``)."""
    if uri:
        parts = urlsplit(database)
        if "mode=" in parts.query:
            return ""
        database = unquote(parts.path)
    # What a link leads to; the file may not be there yet.
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
