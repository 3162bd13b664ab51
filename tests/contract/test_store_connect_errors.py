"""Errors of connecting to the database: by cause, with host and port, never the password."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
import threading
import time
import traceback
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import make_url

from sigmgr.model import errors
from sigmgr.store import connect_errors, migrate
from sigmgr.store.engine import database_time, open_engine
from tests.conftest import started
from tests.servers import PostgresServer, free_port

PASSWORD = "hunter2-is-secret"


@pytest.fixture(scope="module")
def server():
    """A server of its own, whose rules on who may come in can be changed."""
    server = started(PostgresServer)
    with psycopg.connect(server.url(driver="postgresql"), autocommit=True) as connection:
        for statement in (
            "CREATE ROLE bob LOGIN PASSWORD 'another'",
            "CREATE ROLE eve LOGIN",
            "CREATE ROLE full_up LOGIN CONNECTION LIMIT 0",
            "CREATE DATABASE closed",
            "REVOKE CONNECT ON DATABASE closed FROM public",
        ):
            connection.execute(statement)
        [path] = connection.execute("SHOW hba_file").fetchone()
        rules = Path(path)
        first = "host all bob all scram-sha-256\nhost postgres eve all reject\n"
        rules.write_text(first + rules.read_text())
        connection.execute("SELECT pg_reload_conf()")
        until = time.monotonic() + 20
        while connection.execute("SELECT count(*) FROM pg_hba_file_rules").fetchone()[0] < 3:
            assert time.monotonic() < until
    yield server
    server.close()


def url(server, **changes) -> str:
    changed = make_url(server.url()).set(**({"password": PASSWORD} | changes))
    return changed.render_as_string(hide_password=False)


async def refused(url: str, kind=errors.StoreUnavailable) -> errors.SigmgrError:
    """The error of a connection that cannot be made; it shows no password anywhere."""
    engine = open_engine(url, connect_timeout=2)
    try:
        with pytest.raises(kind) as caught:
            await database_time(engine)
    finally:
        await engine.close()
    error = caught.value
    output = [str(error), error.advice, getattr(error, "remedy", ""), repr(error)]
    output += traceback.format_exception(error)
    assert PASSWORD not in "".join(output)
    return error


REFUSALS = {
    "unknown database": ({"database": "nonesuch"}, "no database of that name", "createdb"),
    "wrong password": ({"username": "bob"}, "refuses the user or the password", "password"),
    "unknown role": ({"username": "nobody1"}, "refuses the user or the password", "user"),
    "no password": ({"username": "bob", "password": None}, "asks for a password", "password"),
    "not let in": ({"username": "eve"}, "does not let this user in", "pg_hba.conf"),
    "no privilege": (
        {"username": "eve", "database": "closed"}, "does not let this user in", "GRANT CONNECT",
    ),
    "full": ({"username": "full_up"}, "takes no more connections", "max_connections"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSALS)
async def test_a_server_that_refuses_has_an_error_of_its_own(server, name):
    changes, text, remedy = REFUSALS[name]
    error = await refused(url(server, **changes))
    assert text in error.text
    assert remedy in error.remedy
    wanted = {"username": "postgres", "database": "postgres"} | changes
    assert error.where == (
        f"at 127.0.0.1:{server.port}, database {wanted['database']}, user {wanted['username']}"
    )
    # What everybody may read names no place.
    for place in ("127.0.0.1", str(server.port), "nonesuch", "bob"):
        assert place not in error.text + error.advice
    assert str(error) == f"{error.text} ({error.where})"


async def test_an_option_that_is_none_is_a_setting(server):
    error = await refused(url(server) + "?ssslmode=require", errors.BadSettings)
    assert '"ssslmode"' in error.text


async def test_tls_that_the_server_does_not_speak(server):
    assert "do not agree on TLS" in (await refused(url(server) + "?sslmode=require")).text


async def test_nothing_listens():
    port = free_port()
    error = await refused(f"postgresql+psycopg://me:{PASSWORD}@127.0.0.1:{port}/sigs")
    assert error.text == "nothing listens at the database's port"
    assert error.where == f"at 127.0.0.1:{port}, database sigs, user me"
    assert "Start PostgreSQL there" in error.remedy


async def test_a_host_that_is_not_known():
    error = await refused(f"postgresql+psycopg://me:{PASSWORD}@db.invalid/sigs")
    assert error.text == "the database's host name is not known"
    assert error.where == "at db.invalid:5432, database sigs, user me"


async def test_a_socket_that_is_not_there(tmp_path):
    error = await refused(f"postgresql+psycopg://me:{PASSWORD}@/sigs?host={tmp_path}")
    assert error.text == "there is no socket of a database"
    assert str(tmp_path) in error.where


async def test_a_host_that_is_silent_and_one_that_speaks_something_else():
    with closing(socket.create_server(("127.0.0.1", 0))) as silent:
        address = f"postgresql+psycopg://me:{PASSWORD}@127.0.0.1:{silent.getsockname()[1]}/sigs"
        assert (await refused(address)).text == "the database's host does not answer"

        def answer() -> None:
            # What came before has long gone; the next is ours.
            while True:
                try:
                    peer, _ = silent.accept()
                except OSError:
                    return
                with peer:
                    peer.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        threading.Thread(target=answer, daemon=True).start()
        error = await refused(address)
        assert error.text == "what answers at the database's port is no PostgreSQL"


@pytest.mark.parametrize(
    ("output", "text"),
    [
        ('connection to server at "h", port 1 failed: No route to host', "no way to the database"),
        ('connection to server at "h", port 1 failed: Network is unreachable', "no way to"),
        ("FATAL:  the database system is starting up", "starting or stopping"),
        ("FATAL:  the database system is shutting down", "starting or stopping"),
        ("FATAL:  sorry, too many clients already", "no more connections"),
        ("FATAL:  remaining connection slots are reserved", "no more connections"),
        ('could not translate host name "h" to address', "host name is not known"),
        ("SSL error: certificate verify failed", "do not agree on TLS"),
    ],
)
def test_what_drivers_say(output, text):
    options = {"host": "h", "port": 1, "dbname": "d", "user": "u", "password": PASSWORD}
    why = connect_errors.not_connected(psycopg.OperationalError(output), options).why
    assert text in why.text
    assert why.where == "at h:1, database d, user u"


def test_what_nobody_knows_is_quoted_for_operators_without_the_password():
    output = f"FATAL:  Datenbank »d« existiert nicht, {PASSWORD}"
    why = connect_errors.not_connected(
        psycopg.OperationalError(output), {"host": "h", "dbname": "d", "password": PASSWORD}
    ).why
    assert why.text == "no connection to the database can be made"
    assert why.where == (
        "at h:5432, database d; it says: FATAL: Datenbank »d« existiert nicht, ***"
    )


@pytest.mark.parametrize(
    ("options", "where"),
    [
        ({"host": "2001:db8::1"}, "at [2001:db8::1]:5432"),
        ({"host": "::1", "port": 6000, "dbname": "d"}, "at [::1]:6000, database d"),
        ({"host": "/run/postgresql"}, "at /run/postgresql:5432"),
        ({"host": "a,b", "port": "1,2"}, "at a,b:1,2"),
    ],
)
def test_a_place_is_written_as_addresses_are(options, where):
    assert connect_errors.not_connected(
        psycopg.OperationalError("no"), options
    ).why.where.startswith(where)


@pytest.mark.parametrize(
    "output",
    [
        'connection to server at "2001:db8::1", port 5432 failed: Cannot assign requested address',
        'connection to server at "::1", port 1 failed: Address family not supported by protocol',
    ],
)
def test_a_host_that_this_machine_cannot_reach_has_no_paragraph_behind_it(output):
    output += "\n\tIs the server running on that host and accepting TCP/IP connections?"
    why = connect_errors.not_connected(
        psycopg.OperationalError(output), {"host": "2001:db8::1"}
    ).why
    assert why.text == "there is no way to the database's host"
    assert why.where == "at [2001:db8::1]:5432"


def test_of_what_nobody_knows_the_driver_s_advice_is_left_out():
    output = (
        'connection to server at "h" (10.0.0.1), port 5432 failed: Something new'
        "\n\tIs the server running on that host and accepting TCP/IP connections?"
    )
    for before in ("", "connection failed: "):
        why = connect_errors.not_connected(
            psycopg.OperationalError(before + output), {"host": "h"}
        ).why
        assert why.where == "at h:5432; it says: Something new"


def test_a_port_that_closes_connections_is_reported_without_a_paragraph():
    output = (
        'connection failed: connection to server at "2001:db8::1", port 5432 failed: server closed'
        " the connection unexpectedly\n\tThis probably means the server terminated abnormally"
    )
    why = connect_errors.not_connected(
        psycopg.OperationalError(output), {"host": "2001:db8::1"}
    ).why
    assert why.text == "what answers at the database's port closes the connection"
    assert why.where == "at [2001:db8::1]:5432"


@pytest.mark.parametrize(
    "place", ["Secret99@db/d", "Secr@et99@db/d", "x/Secret99@db/d", "Secret99?more@db/d"]
)
def test_a_password_with_a_bare_at_sign_is_reported_and_not_shown(place):
    with pytest.raises(errors.BadSettings) as caught:
        open_engine(f"postgresql+psycopg://u:{PASSWORD}@{place}")
    assert "an @ too many" in caught.value.text
    assert "%40" in caught.value.advice
    output = "".join(traceback.format_exception(caught.value)) + caught.value.advice
    assert "et99" not in output
    assert PASSWORD not in output


def test_what_cannot_be_read_reports_how_a_password_is_written():
    with pytest.raises(errors.BadSettings, match="cannot be read") as caught:
        open_engine(f"postgresql+psycopg://u:{PASSWORD}@se:cret@h/d")
    assert "%40" in caught.value.advice


# -- SQLite --------------------------------------------------------------------------------


async def test_a_directory_that_is_not_there(tmp_path):
    error = await refused(f"sqlite+aiosqlite:///{tmp_path}/none/x.db")
    assert error.text == "the directory of the database file does not exist"
    assert error.where == f"file {tmp_path}/none/x.db"


async def test_a_directory_in_the_place_of_the_file(tmp_path):
    error = await refused(f"sqlite+aiosqlite:///{tmp_path}")
    assert error.text == "the database file is a directory"


async def test_a_file_that_is_not_there_is_made_by_whom_may(tmp_path):
    engine = open_engine(f"sqlite+aiosqlite:///{tmp_path}/x.db", create=False)
    with pytest.raises(errors.NotMigrated, match=r"there is no database file .*/x.db"):
        await database_time(engine)
    await engine.close()
    assert list(tmp_path.iterdir()) == []
    engine = open_engine(f"sqlite+aiosqlite:///{tmp_path}/x.db")
    await database_time(engine)
    await engine.close()
    assert (tmp_path / "x.db").exists()
    engine = open_engine("sqlite+aiosqlite:///:memory:", create=False)
    assert await database_time(engine) > 0
    await engine.close()


def modes(directory) -> dict[str, str]:
    return {one.name: f"{stat.S_IMODE(one.stat().st_mode):04o}" for one in directory.iterdir()}


PRIVATE = {"x.db": "0600", "x.db-wal": "0600", "x.db-shm": "0600"}


@pytest.fixture
def wide_umask():
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.mark.parametrize("inline", [False, True])
async def test_a_database_is_for_its_owner_alone(tmp_path, wide_umask, inline):
    engine = open_engine(f"sqlite+aiosqlite:///{tmp_path}/x.db", inline=inline)
    await migrate.upgrade(engine)
    assert modes(tmp_path) == PRIVATE
    await engine.close()


async def test_a_database_behind_a_link_and_in_a_uri(tmp_path, wide_umask):
    (tmp_path / "below").mkdir()
    (tmp_path / "link.db").symlink_to(tmp_path / "below" / "x.db")
    engine = open_engine(f"sqlite+aiosqlite:///{tmp_path}/link.db")
    await migrate.upgrade(engine)
    assert modes(tmp_path / "below") == PRIVATE
    await engine.close()
    engine = open_engine(f"sqlite+aiosqlite:///file:{tmp_path}/u%20v.db?uri=true")
    await migrate.upgrade(engine)
    assert modes(tmp_path)["u v.db"] == "0600"
    await engine.close()


async def test_a_file_that_is_no_database_is_left_alone(tmp_path, wide_umask):
    (tmp_path / "text").write_text("this is no database, and stays what it is" * 20)
    engine = open_engine(f"sqlite+aiosqlite:///{tmp_path}/text")
    with pytest.raises(errors.BadSettings, match="no SQLite database"):
        await database_time(engine)
    await engine.close()
    assert modes(tmp_path) == {"text": "0666"}


async def test_a_database_that_is_too_wide_is_narrowed_and_that_is_reported_once(
    tmp_path, wide_umask, capfd
):
    address = f"sqlite+aiosqlite:///{tmp_path}/x.db"
    engine = open_engine(address)
    await migrate.upgrade(engine)
    for path in tmp_path.iterdir():
        path.chmod(0o664)
    async with engine.write() as connection:
        await connection.exec_driver_sql("DELETE FROM meta")
        another = open_engine(address)
        capfd.readouterr()
        await database_time(another)
        assert modes(tmp_path) == PRIVATE
        output = capfd.readouterr()
        assert (output.out + output.err).count("it is for its owner alone now") == 3
        # The locks of this process hold all the same.
        locked = subprocess.run(
            [sys.executable, "-c", _WRITES, str(tmp_path / "x.db")],
            capture_output=True,
            text=True,
            check=False,
        )
        assert "locked" in locked.stderr, locked
        await another.close()
    await engine.close()


_WRITES = """
import sqlite3, sys
sqlite3.connect(sys.argv[1], timeout=0.1).execute("DELETE FROM meta")
"""
