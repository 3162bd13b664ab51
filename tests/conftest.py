"""Fixtures that every test may use, and what holds for every test.

``postgres_url``    a fresh empty database on a real PostgreSQL
``redis_url``       a real Valkey or Redis, emptied before the test
``postgres_server`` ``redis_server``  the servers behind them, to stop, freeze and restart;
                    who stops one starts it again

A missing server skips its tests, and fails them where CI=true. A server of your own is used
for the two urls if SIGMGR_TEST_POSTGRES_URL (a superuser's or CREATEDB user's, any database)
or SIGMGR_TEST_REDIS_URL (its databases from 0 up are EMPTIED) is set.
"""

from __future__ import annotations

import gc
import inspect
import logging
import os
import re
from collections.abc import Callable, Iterator
from typing import NoReturn, TypeVar

import pytest
import structlog
from hypothesis import HealthCheck, settings

# A developer's own settings must not leak into tests. The two addresses move to other names,
# because xdist's workers start with what the scrub leaves.
for _name in [name for name in os.environ if name.startswith("SIGMGR_")]:
    _value = os.environ.pop(_name)
    if _name in {"SIGMGR_TEST_POSTGRES_URL", "SIGMGR_TEST_REDIS_URL"}:
        os.environ[_name.removeprefix("SIGMGR_")] = _value
TEST_POSTGRES_URL = os.environ.get("TEST_POSTGRES_URL", "")
TEST_REDIS_URL = os.environ.get("TEST_REDIS_URL", "")

from tests.schema import migrated  # noqa: E402 - after the scrub
from tests.servers import (  # noqa: E402
    LocalServer,
    PostgresServer,
    RedisServer,
    ServerMissing,
    create_database,
    drop_database,
)

Server = TypeVar("Server", bound=LocalServer)

IN_CI = os.environ.get("CI") == "true"

# Two cores shared by many: a deadline would measure the neighbours.
settings.register_profile(
    "ci",
    max_examples=100,
    deadline=None,
    derandomize=False,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile(
    "dev",
    max_examples=40,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("ci" if IN_CI else "dev")


def pytest_collection_finish() -> None:
    """Modules stay; without them a collection after each async test takes a millisecond."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def no_leftovers(request: pytest.FixtureRequest) -> Iterator[None]:
    """What an async test leaves unawaited or unclosed warns in that test, not in a later one."""
    yield
    if inspect.iscoroutinefunction(getattr(request, "function", None)):
        gc.collect()


@pytest.fixture(autouse=True)
def logs_as_before() -> Iterator[None]:
    """A command that runs inside a test sends this process's logs its own way. The next test's
    ``capture_logs`` found nothing then, depending on the order in which tests ran."""
    root = logging.getLogger()
    before = root.handlers[:], root.level, structlog.get_config()
    yield
    root.handlers[:], level, config = before
    root.setLevel(level)
    structlog.configure(**config)


def started(make: Callable[[], Server]) -> Server:
    """A running server, or the verdict on a machine that has none."""
    try:
        server = make()
        server.start()
    except ServerMissing as missing:
        lacking(missing)
    return server


def lacking(missing: ServerMissing) -> NoReturn:
    """The verdict on a machine that has not what a test needs."""
    if IN_CI:
        pytest.fail(f"{missing} (CI=true forbids skipping)", pytrace=False)
    pytest.skip(str(missing))


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    server = started(PostgresServer)
    yield server
    server.close()


@pytest.fixture(scope="session")
def postgres_admin(request: pytest.FixtureRequest) -> str:
    """The URL under which databases are made."""
    return TEST_POSTGRES_URL or request.getfixturevalue("postgres_server").url()


def url_of_database(admin: str, name: str) -> str:
    return re.sub(r"^\w+(?:\+\w+)?(://[^/]+)[^?]*", rf"postgresql+psycopg\1/{name}", admin)


@pytest.fixture
def postgres_url(postgres_admin: str) -> Iterator[str]:
    """``postgresql+psycopg://`` of a database that is empty, and gone after the test."""
    name = create_database(postgres_admin)
    yield url_of_database(postgres_admin, name)
    drop_database(postgres_admin, name)


@pytest.fixture(scope="session")
def schema_template(postgres_admin: str) -> Iterator[str]:
    """The name of a database with the schema."""
    name = create_database(postgres_admin)
    migrated(url_of_database(postgres_admin, name))
    yield name
    drop_database(postgres_admin, name)


@pytest.fixture
def schema_url(postgres_admin: str, schema_template: str) -> Iterator[str]:
    """As ``postgres_url``, with the schema in it."""
    name = create_database(postgres_admin, template=schema_template)
    yield url_of_database(postgres_admin, name)
    drop_database(postgres_admin, name)


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    server = started(RedisServer)
    yield server
    server.close()


@pytest.fixture
def redis_url(request: pytest.FixtureRequest) -> str:
    """``redis://`` of a server with nothing in it."""
    if TEST_REDIS_URL:
        return _emptied(TEST_REDIS_URL)
    server: RedisServer = request.getfixturevalue("redis_server")
    server.wipe()
    return server.url


def _emptied(url: str) -> str:
    """The given server, a database of it per xdist worker."""
    from redis import Redis

    worker = re.sub(r"\D", "", os.environ.get("PYTEST_XDIST_WORKER", "")) or "0"
    own = re.sub(r"^(\w+://[^/?]+)(/\d*)?", rf"\1/{worker}", url)
    with Redis.from_url(own) as client:
        client.flushdb()
    return own
