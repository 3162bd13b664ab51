"""Explains why a connection to the database cannot be opened, so that it can be repaired.

The drivers have one class and a text for all causes, such as a closed port, an unknown host or a
wrong password. The text is read where the connection is opened, since only there host and database
are known.

Rules:
1. The text is for everybody and names no host. Where it was tried and what to do is for operators:
   see :class:`errors.StoreUnavailable`.
2. Nothing contains a password or the database's URL.
3. An unknown error (a server may use any language) is quoted for operators.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
from sqlalchemy import URL

from sigmgr.model import errors
from sigmgr.model.shown import masked

_URL = "database.url (SIGMGR_DATABASE__URL)"


ESCAPES = "In a password write @ as %40, : as %3A, / as %2F, ? as %3F and % as %25."


class Why(NamedTuple):
    """``setup``: waiting does not help, and other processes have the same problem."""

    text: str
    where: str
    remedy: str
    setup: bool = False

    def error(self) -> errors.SigmgrError:
        """A new error, since one that is raised twice keeps the first traceback."""
        if self.setup:
            return errors.BadSettings(f"{self.text} ({self.where})", advice=self.remedy)
        return errors.StoreUnavailable(self.text, where=self.where, remedy=self.remedy)


class NotConnected(psycopg.OperationalError):
    """PostgreSQL could not be reached, or refused the connection."""

    def __init__(self, why: Why, sqlstate: str | None = None) -> None:
        self.why, self.sqlstate = why, sqlstate
        super().__init__(why.text)


class NotOpened(sqlite3.OperationalError):
    def __init__(self, why: Why) -> None:
        self.why = why
        super().__init__(why.text)


#: Texts of the driver or the server, what they mean, and what to do.
_POSTGRES = tuple(
    (re.compile(message, re.IGNORECASE), text, remedy)
    for message, text, remedy in (
        (r"failed to resolve host|could not translate host name|name or service not known",
         "the database's host name is not known",
         f"Correct the host in {_URL}, or see to the name service of this machine."),
        (r"no route|(network|host) is (unreachable|down)|assign requested|address family not",
         "there is no way to the database's host",
         f"See to the network and firewalls between here and there, or correct {_URL}."),
        (r"timeout expired|timed out", "the database's host does not answer",
         f"Is the machine up, is PostgreSQL overloaded or stopped, or is {_URL} wrong?"),
        (r"connection refused", "nothing listens at the database's port",
         f"Start PostgreSQL there, or correct host and port in {_URL}."),
        (r"on socket .*no such file", "there is no socket of a database",
         f"Start PostgreSQL on this machine, or name its host in {_URL}."),
        (r"database \".*\" does not exist|no such database",
         "the server has no database of that name",
         f"Make it (createdb NAME), or correct the name in {_URL}."),
        (r"authentication failed|role \".*\" does not exist",
         "the database refuses the user or the password",
         f"Correct user and password in {_URL}."),
        (r"no password supplied|password.* not provided",
         "the database asks for a password, and none is set",
         f"Put the password into {_URL}."),
        (r"permission denied for database|pg_hba\.conf|not permitted to log in",
         "the server does not let this user in",
         "Allow it there: GRANT CONNECT ON DATABASE, and a line in pg_hba.conf."),
        (r"too many (clients|connections)|remaining connection slots|no more connections",
         "the server takes no more connections",
         "Raise max_connections of PostgreSQL, or lower database.pool_size of the processes."),
        (r"starting up|shutting down|not yet accepting|recovery mode|not accepting connections",
         "the database is starting or stopping",
         "Wait a moment; if it stays so, see the log of PostgreSQL."),
        (r"invalid response|expected authentication request|unsupported frontend protocol",
         "what answers at the database's port is no PostgreSQL",
         f"Correct host and port in {_URL}."),
        (r"server closed the connection unexpectedly",
         "what answers at the database's port closes the connection",
         "Is it a proxy without a server behind it, or is PostgreSQL stopping? See its log."),
        (r"\bSSL\b|certificate", "this machine and the database do not agree on TLS",
         f"Correct sslmode and sslrootcert in {_URL}."),
    )
)  # fmt: skip


def check_password(url: URL, text: str) -> None:
    """Raises BadSettings where a password contains a bare @: what follows it would be taken, and
    shown, as a host or database."""
    behind = [url.host, url.database, text.partition("?")[2].partition("=")[0]]
    if url.password is not None and any("@" in (part or "") for part in behind):
        raise errors.BadSettings(
            "the database URL has an @ too many: one that belongs to the password is written %40",
            advice=f"{ESCAPES} Correct {_URL}.",
        )


def not_connected(error: psycopg.Error, options: Mapping[str, Any]) -> NotConnected:
    """The error to raise instead of one that opening a connection raised."""
    return NotConnected(_why(error, options), error.sqlstate)


def _why(error: psycopg.Error, options: Mapping[str, Any]) -> Why:
    message = " ".join(str(error).split())
    if isinstance(error, psycopg.ProgrammingError):
        text = "the database URL has an option that PostgreSQL does not take"
        return Why(text, _quoted(message, options), f"Correct {_URL}.", setup=True)
    where = _where(options)
    for form, text, remedy in _POSTGRES:
        if form.search(message):
            return Why(text, where, remedy)
    where = f"{where}; it says: {_quoted(_CONTEXT.sub('', message), options)}"
    return Why("no connection to the database can be made", where, f"See {_URL}.")


def _where(options: Mapping[str, Any]) -> str:
    host = str(options.get("host") or "")
    is_v6 = ":" in host and not host.startswith("/")
    host = masked(f"[{host}]" if is_v6 else host)
    at = f"{host}:{options.get('port') or 5432}" if host else "the local socket"
    names = (("dbname", "database"), ("user", "user"))
    named = [f"{name} {masked(str(options[key]))}" for key, name in names if options.get(key)]
    return ", ".join([f"at {at}", *named])


#: What the driver adds to the message of the server or system: where, and a question.
_CONTEXT = re.compile(
    r"^(connection failed: )?connection to server .*? failed: "
    r"|\s*(Is the server running|This probably means) .*$"
)


def _quoted(message: str, options: Mapping[str, Any]) -> str:
    """The driver's message. It contains no password; if it did, it would be masked."""
    password = str(options.get("password") or "")
    return masked(message.replace(password, "***") if password else message)


def not_opened(error: sqlite3.Error, path: str) -> NotOpened:
    file = Path(path)
    remedy = f"Correct {_URL}, or make the file one that this user may write to."
    if not file.parent.is_dir():
        text = "the directory of the database file does not exist"
        remedy = f"Make the directory, or correct {_URL}."
    elif file.is_dir():
        text = "the database file is a directory"
    else:
        text = f"the database file cannot be opened ({masked(str(error))})"
    return NotOpened(Why(text, f"file {masked(path)}", remedy))
