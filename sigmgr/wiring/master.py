"""The master key, from the environment or from a protected file.

Rules:
1. It comes from one source. If a variable and a file are both set, neither is used, since it is not
   known which of them sealed the keys.
2. A file that others can read is refused. This includes the group, except for files of root, as
   secrets are mounted for a service (the rule of libpq for TLS keys). With SQLite, on a laptop, it
   is a warning only.
3. The key in place of its file name is a likely mistake. It is not repeated.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import NamedTuple

from sigmgr.keys.sealing import MasterKey
from sigmgr.model import errors
from sigmgr.model.shown import credential
from sigmgr.model.usersig.likeness import without_mark
from sigmgr.settings import Settings
from sigmgr.telemetry import get_logger

_VARIABLE = "SIGMGR_MASTER_KEY"
_OTHERS = 0o077
_OTHERS_THAN_THE_GROUP = 0o037
_MOST_BYTES = 4096
_FILE = f"master_key_file ({_VARIABLE}_FILE)"

log = get_logger("sigmgr.master_key")


class Found(NamedTuple):
    """``source`` names the variable or file. ``concern``: a warning, or empty."""

    key: MasterKey
    source: str
    concern: str = ""


def open_master(settings: Settings) -> MasterKey:
    """Warnings are logged. Raises MasterKeyMissing, BadSettings."""
    found = find_master(settings)
    if found.concern:
        log.warning(found.concern, action="master-key-readable", advice=narrowing(settings))
    return found.key


def find_master(settings: Settings) -> Found:
    """The same, and its source. Raises as above."""
    given, path = settings.master_key.get_secret_value(), settings.master_key_file
    if given and path:
        raise errors.BadSettings(
            f"the master key is set twice: as master_key ({_VARIABLE}) and as {_FILE}",
            advice="Unset the one that did not seal the keys of this database.",
        )
    if path:
        text, concern = _read(path, strict=not settings.database.is_sqlite)
        return Found(MasterKey.from_base64(text), f"the file {path}", concern)
    if not given:
        raise errors.MasterKeyMissing
    return Found(MasterKey.from_base64(given), f"master_key ({_VARIABLE})")


def narrowing(settings: Settings) -> str:
    return (
        f"chmod 600 {settings.master_key_file}, and let the user that sigmgr runs as own it. A"
        " file of root's may be read by its group, too (0640)."
    )


def _read(path: str, *, strict: bool) -> tuple[str, str]:
    try:
        with Path(path).open("rb") as file:
            concern = _readable(path, os.fstat(file.fileno()))
            text = without_mark(file.read(_MOST_BYTES)).decode("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no ASCII text"
        problem = f"the master key file {path} cannot be read: {why}"
        advice = f"Name a file that the user which sigmgr runs as may read, in {_FILE}."
        if kind := credential(path):
            problem = f"{_FILE} takes the name of a file; what is given looks like {kind}"
            advice = f"Put the key into a file of mode 0600 and name that, or set {_VARIABLE}."
        raise errors.BadSettings(problem, advice=advice) from None
    if concern and strict:
        raise errors.BadSettings(
            concern,
            advice=f"chmod 600 {path}; a file of root's may be read by its group, too (0640)."
            " Who could read it meanwhile may have the key.",
        )
    return text, concern


def _readable(path: str, found: os.stat_result) -> str:
    """A sentence where others than the owner can read the file; not for a pipe."""
    wide = _OTHERS_THAN_THE_GROUP if found.st_uid == 0 else _OTHERS
    mode = stat.S_IMODE(found.st_mode)
    if not stat.S_ISREG(found.st_mode) or not mode & wide:
        return ""
    return f"others can read the master key file {path} (mode {mode:04o})"
