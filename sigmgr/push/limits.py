"""The numbers of a gateway."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayLimits:
    """``shards``: of how many; ``heartbeat``: seconds between signs of life on a quiet stream;
    ``wide``: streams concerned within about a second from which on a wave is spread;
    ``patience``: seconds after which a client that takes nothing is cut; ``batch``: holders of a
    lookup; ``lookup_timeout``: its seconds; ``max_per_user``, ``max_streams``: streams and polls
    in this process; ``reconnect_within``: seconds over which clients sent elsewhere come back.
    """

    shards: int = 64
    heartbeat: int = 20
    wide: int = 1000
    patience: int = 60
    batch: int = 500
    lookup_timeout: float = 10.0
    max_per_user: int = 20
    max_streams: int = 100_000
    reconnect_within: int = 10
