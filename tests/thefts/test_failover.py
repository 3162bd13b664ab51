"""What a failover to a replica that lagged behind takes back, and the setting that keeps it."""

from __future__ import annotations

import subprocess
import time
from base64 import b64encode
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import psycopg
import pytest

from sigmgr.http.auth import digest_of
from sigmgr.model import errors
from sigmgr.model.holder import Holder
from sigmgr.model.sig import KeyState
from sigmgr.settings import Settings
from sigmgr.store import migrate
from sigmgr.wiring.base import open_base, open_database
from sigmgr.wiring.parts import Parts, open_parts
from tests.conftest import started
from tests.servers import PostgresServer, ServerFailed, run_as

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

APP = 1400000001
ALICE = Holder(APP, "alice")
SECRET = b"0123456789abcdef" * 4


class Replica(PostgresServer):
    """A copy of a server that follows it, until it has to take over."""

    def __init__(self, of: PostgresServer) -> None:
        super().__init__()
        self._of = of

    def _prepare(self, directory: Path) -> None:
        command = [str(self.binaries / "pg_basebackup"), "-D", str(directory / "data"), "-R"]
        command += ["-h", "127.0.0.1", "-p", str(self._of.port), "-U", "postgres"]
        command += ["--no-sync", "--checkpoint=fast"]
        done = subprocess.run(
            run_as(self._user(), command),
            cwd=directory,
            env=self._environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise ServerFailed(f"pg_basebackup failed:\n{done.stdout}{done.stderr}")

    def take_over(self) -> None:
        with psycopg.connect(self.url(driver="postgresql"), autocommit=True) as connection:
            connection.execute("SELECT pg_promote()")


@pytest.fixture
def primary() -> Iterator[PostgresServer]:
    server = started(lambda: PostgresServer(durable=True))
    with server:
        yield server


@pytest.fixture
def replica(primary: PostgresServer) -> Iterator[Replica]:
    """Follows from the moment it is started; it begins empty of what comes later."""
    with Replica(primary) as server:
        server.stop()
        yield server


def settings_for(server: PostgresServer) -> Settings:
    return Settings.model_validate(
        {
            "database": {"url": server.url(), "statement_timeout": 1.5},
            "master_key": b64encode(bytes(range(32))).decode(),
        }
    )


@asynccontextmanager
async def parts_on(server: PostgresServer) -> AsyncIterator[Parts]:
    async with open_parts(settings_for(server)) as parts:
        yield parts


async def furnish(server: PostgresServer) -> str:
    """An app, its key, alice with a sig, and a backend's token, which it answers."""
    engine = open_database(settings_for(server))
    try:
        await migrate.upgrade(engine)
    finally:
        await engine.close()
    async with open_base(settings_for(server)) as base:
        await base.catalog.add_app(APP, now=base.clock())
        await base.add_key(APP, "v2", SECRET, activate=True)
        token, _ = await base.add_token("backend", sdkappid=APP, name="shop")
    async with parts_on(server) as parts:
        await parts.flows.issue.current(ALICE, parts.base.clock())
    return token


async def end_all(parts: Parts) -> None:
    """What must not be taken back: of a user, of a token, of a key."""
    base = parts.base
    [key] = await base.catalog.list_keys(APP)
    [token] = await base.catalog.list_tokens()
    await parts.flows.revoke.user(*ALICE[:2], base.clock())
    await base.catalog.revoke_token(token.token_id, base.clock())
    await base.catalog.set_key_state(APP, key.key_id, KeyState.TAINTED, now=base.clock())


async def standing(server: PostgresServer, token: str) -> tuple[bool, bool, bool]:
    """Whether alice's sig, the token and the key are good after all."""
    async with parts_on(server) as parts:
        base = parts.base
        [record] = await base.store.find([ALICE])
        assert record is not None
        digest = digest_of(base.master.derive("tokens"), token)
        [key] = await base.catalog.list_keys(APP)
        return (
            record.alive(base.clock()),
            await base.token_of(digest) is not None,
            key.state is KeyState.ACTIVE,
        )


def follow(primary: PostgresServer, replica: Replica) -> None:
    """Start it, and wait until it has all that the primary has."""
    replica.start()
    behind = "SELECT count(*) FROM pg_stat_replication WHERE replay_lsn = pg_current_wal_lsn()"
    with psycopg.connect(primary.url(driver="postgresql"), autocommit=True) as connection:
        for _ in range(600):
            if connection.execute(behind).fetchone() == (1,):
                return
            time.sleep(0.05)
    raise ServerFailed("the replica does not catch up")


async def test_a_replica_that_lagged_takes_back_what_it_had_not_received(
    primary: PostgresServer, replica: Replica
) -> None:
    token = await furnish(primary)
    follow(primary, replica)
    replica.stop()
    async with parts_on(primary) as parts:
        await end_all(parts)
    assert await standing(primary, token) == (False, False, False)
    primary.stop("immediate")
    replica.start()
    replica.take_over()
    assert await standing(replica, token) == (True, True, True)


async def test_with_a_synchronous_one_nothing_is_answered_that_could_be_taken_back(
    primary: PostgresServer, replica: Replica
) -> None:
    token = await furnish(primary)
    follow(primary, replica)
    with psycopg.connect(primary.url(driver="postgresql"), autocommit=True) as connection:
        connection.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
        connection.execute("SELECT pg_reload_conf()")
    replica.stop()
    async with parts_on(primary) as parts:
        with pytest.raises(errors.StoreUnavailable):
            await end_all(parts)
        replica.start()
        await end_all(parts)
    primary.stop("immediate")
    replica.take_over()
    assert await standing(replica, token) == (False, False, False)
