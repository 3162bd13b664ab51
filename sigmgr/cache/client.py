"""Clients for every kind of Redis URL, with explicit limits.

Rules:
1. Nothing connects on opening: a dead Redis does not stop the service from starting.
2. A command ends within ``total_timeout``, including pool and reconnection; there is one quick
   retry, for connections that a restarted server has closed.
3. At most ``max_connections`` commands run; more wait. So no pool, of Cluster and Sentinel neither,
   runs empty with an error.
4. After a connection failure all commands fail at once for ``cooldown`` seconds, then one is a
   probe (``Breaker``).
5. Pub/sub has connections of its own that never reconnect by themselves, since an unnoticed
   reconnection is a gap that is not repaired.
6. Every failure is raised as CacheUnavailable, with a text that contains no argument of the
   command.

What this module does not do: know keys or values.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, NamedTuple, TypeVar
from weakref import WeakValueDictionary

from fakeredis import FakeServer
from fakeredis.aioredis import FakeAsyncRedisConnection
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.client import PubSub
from redis.asyncio.cluster import ClusterNode, RedisCluster
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisClusterException, RedisError, ResponseError
from redis.maint_notifications import MaintNotificationsConfig

from sigmgr.cache.breaker import Breaker
from sigmgr.cache.urls import Address, parse
from sigmgr.model import errors

T = TypeVar("T")

#: Open pub/sub connections: one in use, one being replaced, two spare.
_PUBSUB_CONNECTIONS: Final = 4
#: In process there is no network; a busy machine must not look like an outage.
_MEMORY_TIMEOUT: Final = 60.0

#: redis-py's cluster exceptions are no RedisErrors.
_FAILURES: Final = (RedisError, RedisClusterException, OSError)

_servers: WeakValueDictionary[str, FakeServer] = WeakValueDictionary()


class RedisLimits(NamedTuple):
    """The limits of a socket's read or write, a connection, a whole command; seconds."""

    socket_timeout: float
    connect_timeout: float
    total_timeout: float
    max_connections: int


class RedisParts:
    """An open Redis. ``run`` executes commands, ``pubsub`` listens. ``others``: what else is to be
    closed."""

    def __init__(
        self,
        *,
        client: Redis | RedisCluster,
        listening: Redis | RedisCluster,
        others: Sequence[Any],
        limits: RedisLimits,
        breaker: Breaker,
        server: FakeServer | None = None,
    ) -> None:
        self.cluster = isinstance(client, RedisCluster)
        self.breaker = breaker
        #: The in-process server, for tests that switch it off.
        self.server = server
        self._client: Any = client
        self._listening: Any = listening
        self._to_close = (listening, client, *others)
        self._total = limits.total_timeout
        self._turn = asyncio.Semaphore(limits.max_connections)

    async def run(self, call: Callable[[Any], Awaitable[T]]) -> T:
        """Await ``call(client)`` under the limits. Raises CacheUnavailable only."""
        if self.breaker.refuses():
            raise errors.CacheUnavailable("Redis did not answer a moment ago")
        started = False
        try:
            async with asyncio.timeout(self._total), self._turn:
                # Again: calls that waited before us may have found it dead.
                self._enter()
                started = True
                answer = await call(self._client)
        except _FAILURES as error:
            if started and isinstance(error, ResponseError):
                # Any answer, even a refusal, closes the breaker; anything else opens it.
                self.breaker.succeeded()
            elif started:
                self.breaker.failed()
            raise errors.CacheUnavailable(f"Redis: {type(error).__name__}") from error
        except BaseException:
            if started:
                self.breaker.gave_up()
            raise
        self.breaker.succeeded()
        return answer

    async def time(self) -> float:
        """Redis's own Unix time, to compare clocks. Raises CacheUnavailable."""
        seconds, micros = await self.run(lambda client: client.time())
        return float(seconds) + float(micros) / 1e6

    def _enter(self) -> None:
        if not self.breaker.enter():
            raise errors.CacheUnavailable("Redis did not answer a moment ago")

    async def pubsub(self) -> PubSub:
        """A new pub/sub object, not yet connected; the caller closes it. Raises CacheUnavailable
        where the nodes of a cluster cannot be read."""
        if self.cluster:
            # Read each time: the node of the last connection may be gone.
            try:
                async with asyncio.timeout(self._total):
                    await self._listening.aclose()
                    await self._listening.initialize()
            except _FAILURES as error:
                raise errors.CacheUnavailable(f"Redis: {type(error).__name__}") from error
        pubsub: PubSub = self._listening.pubsub()
        return pubsub

    async def aclose(self) -> None:
        for client in self._to_close:
            await client.aclose()


async def open_redis(
    url: str,
    *,
    monotonic: Callable[[], float],
    protocol: int = 3,
    max_connections: int = 50,
    socket_timeout: float = 0.5,
    connect_timeout: float = 0.3,
    total_timeout: float = 0.9,
    cooldown: float = 1.0,
) -> RedisParts:
    """Connects at the first command. Raises BadSettings for an unreadable URL."""
    address = parse(url)
    limits = RedisLimits(socket_timeout, connect_timeout, total_timeout, max_connections)
    if address.form == "memory":
        limits = limits._replace(total_timeout=_MEMORY_TIMEOUT)
    options = _options(limits, protocol=protocol)
    try:
        make, others = _MAKERS[address.form](address, options, limits)
        client = make(options, limits.max_connections)
        listening = make(_quiet(options), _PUBSUB_CONNECTIONS)
    except (ValueError, *_FAILURES) as error:
        raise errors.BadSettings(f"the Redis URL: {type(error).__name__}") from None
    return RedisParts(
        client=client,
        listening=listening,
        others=others,
        limits=limits,
        breaker=Breaker(cooldown, monotonic),
        server=options.get("server"),
    )


#: Makes a client of options and so many connections; and what else is to be closed. Who gives it
#: changes the options where its form of URL demands it, for all clients.
_Make = tuple[Callable[[dict[str, Any], int], Any], Sequence[Any]]


def _retry(times: int) -> Retry:
    """For broken connections only: a retry after a time-out would time out again."""
    return Retry(NoBackoff(), times, supported_errors=(RedisConnectionError,))


def _options(limits: RedisLimits, *, protocol: int) -> dict[str, Any]:
    return {
        "protocol": protocol,
        "socket_timeout": limits.socket_timeout,
        "socket_connect_timeout": limits.connect_timeout,
        "socket_keepalive": True,
        "health_check_interval": 30.0,
        "client_name": "sigmgr",
        "decode_responses": False,
        "retry": _retry(1),
        # A feature of one vendor that costs every new connection a command.
        "maint_notifications_config": MaintNotificationsConfig(enabled=False),
    }


def _quiet(options: dict[str, Any]) -> dict[str, Any]:
    """Options of listening connections: no retries, and always RESP2. With RESP3 redis-py formats a
    debug line of every message, sigs in plain text, even if nobody logs it."""
    return {**options, "retry": _retry(0), "health_check_interval": 0, "protocol": 2}


def _plain(address: Address, options: dict[str, Any], limits: RedisLimits) -> _Make:
    if address.url.startswith("unix"):
        del options["socket_keepalive"]

    def make(options: dict[str, Any], connections: int) -> Redis:
        more: dict[str, Any] = {"max_connections": connections, "timeout": limits.total_timeout}
        return Redis.from_pool(BlockingConnectionPool.from_url(address.url, **options, **more))

    return make, ()


def _memory(address: Address, options: dict[str, Any], limits: RedisLimits) -> _Make:
    server = _servers.get(address.name) if address.name else None
    if server is None:
        server = FakeServer(version=(7, 0))
    if address.name:
        _servers[address.name] = server
    options |= {"connection_class": FakeAsyncRedisConnection, "server": server}
    # The fake answers a health check during its handshake with silence; it needs none.
    options["health_check_interval"] = 0

    def make(options: dict[str, Any], connections: int) -> Redis:
        more: dict[str, Any] = {"max_connections": connections, "timeout": limits.total_timeout}
        return Redis.from_pool(BlockingConnectionPool(**options, **more))

    return make, ()


def _cluster(address: Address, _: dict[str, Any], limits: RedisLimits) -> _Make:
    def make(options: dict[str, Any], connections: int) -> RedisCluster:
        return RedisCluster(
            startup_nodes=[ClusterNode(host, port) for host, port in address.hosts],
            username=address.username,
            password=address.password,
            ssl=address.tls,
            max_connections=connections,
            **options,
        )

    return make, ()


def _sentinel(address: Address, options: dict[str, Any], limits: RedisLimits) -> _Make:
    own = {
        **options,
        # Every new connection to the master asks a sentinel first, all at once if necessary.
        "max_connections": limits.max_connections + _PUBSUB_CONNECTIONS,
        "username": address.sentinel_username,
        "password": address.sentinel_password,
        "ssl": address.tls,
    }
    sentinel = Sentinel(list(address.hosts), sentinel_kwargs=own)  # type: ignore[no-untyped-call]

    def make(options: dict[str, Any], connections: int) -> Any:
        return sentinel.master_for(
            address.service,
            **options,
            db=address.db,
            username=address.username,
            password=address.password,
            ssl=address.tls,
            max_connections=connections,
        )

    return make, sentinel.sentinels


_MAKERS: Final[dict[str, Callable[[Address, dict[str, Any], RedisLimits], _Make]]] = {
    "memory": _memory,
    "plain": _plain,
    "cluster": _cluster,
    "sentinel": _sentinel,
}
