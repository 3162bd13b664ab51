"""How many connections this process may hold: what its descriptor limit leaves for them.

Each is an open file. Without a limit of their own, connections would take the files that the
database, Redis and the log need, and nobody could connect any more; the system says nothing.
"""

from __future__ import annotations

import resource
from typing import NamedTuple

from sigmgr.http.protocol import ConnectionLimits
from sigmgr.settings import Settings
from sigmgr.telemetry import get_logger

log = get_logger("sigmgr.serve")

#: Listening, the event loop, the log, files that are read for a moment.
_OWN = 40
#: A SQLite connection has the file, its log and its index open.
_FILES_OF_SQLITE = 3
#: A process may have no limit; so many connections would need its memory several times over.
_BOUNDLESS = 1_000_000


class Capacity(NamedTuple):
    """What connections may take, and how many of them may be streams or polls: a tenth is left
    for acks, for those who come, and for ``/livez``."""

    limits: ConnectionLimits
    streams: int


def capacity_for(settings: Settings) -> Capacity:
    """What the settings ask for, and never more than descriptors allow; says how many."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    files = _BOUNDLESS if soft == resource.RLIM_INFINITY else min(soft, _BOUNDLESS)
    others = _kept_for_others(settings)
    # Where next to nothing is left, the pools are larger than they ever get.
    most = max(files // 4, files - others)
    connections = min(most, settings.http.max_connections or most)
    streams = min(settings.gateway.max_streams, max(1, connections * 9 // 10))
    log.info(
        "connections are limited; ulimit -n or LimitNOFILE= allow more",
        action="connections",
        connections=connections,
        streams=streams,
        descriptors=files,
        kept_for_others=others,
    )
    limits = ConnectionLimits(connections=connections, keep_alive=settings.http.keep_alive)
    return Capacity(limits, streams)


def _kept_for_others(settings: Settings) -> int:
    """Descriptors that the pools may take at most, and some more."""
    database = settings.database.pool_size + 8
    if settings.database.url.get_secret_value().startswith("sqlite"):
        database *= _FILES_OF_SQLITE
    return database + 2 * settings.redis.pool_size + _OWN
