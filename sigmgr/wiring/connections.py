"""The number of connections of this process, from its limit of file descriptors.

Without a limit of their own, connections would take the descriptors that the database, Redis and
the log need, and nobody could connect any more.
"""

from __future__ import annotations

import resource
from typing import NamedTuple

from sigmgr.http.protocol import ConnectionLimits
from sigmgr.settings import Settings
from sigmgr.telemetry import get_logger

log = get_logger("sigmgr.serve")

#: For listening, the event loop, the log, and files that are read for a moment.
_OWN = 40
#: A SQLite connection opens the file, its log and its index.
_FILES_OF_SQLITE = 3
#: For a process without a limit; more connections would not fit into its memory.
_BOUNDLESS = 1_000_000


class Capacity(NamedTuple):
    """The limits of connections, and how many of them may be streams or polls: a tenth is left for
    acks, new requests, and ``/livez``."""

    limits: ConnectionLimits
    streams: int


def capacity_for(settings: Settings) -> Capacity:
    """What the settings ask for, within the descriptor limit; logged."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    files = _BOUNDLESS if soft == resource.RLIM_INFINITY else min(soft, _BOUNDLESS)
    others = _kept_for_others(settings)
    # At a very low limit the pools are assumed never to be full.
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
    database = settings.database.pool_size + 8
    if settings.database.url.get_secret_value().startswith("sqlite"):
        database *= _FILES_OF_SQLITE
    return database + 2 * settings.redis.pool_size + _OWN
