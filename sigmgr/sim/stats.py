"""The counts of the emulated clients."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass(slots=True)
class Stats:
    clients: int = 0
    #: Clients signed in at the cloud now.
    online: int = 0
    #: Event streams open now.
    streams: int = 0
    #: Logins at the cloud, the first of each client and every one with a newer sig.
    logins: int = 0
    #: Newer sigs received over a stream, verified and kept.
    renewed: int = 0
    #: Of those, how many the service has confirmed to know about.
    acked: int = 0
    #: Renewals not yet acked that arrived in the last two seconds of the run.
    in_flight: int = 0
    #: Clients kicked because their session's sig expired. Should be 0.
    kicked: int = 0
    #: Streams opened again after one was lost or ended by ``bye``.
    reconnects: int = 0
    #: Times a client was offered a sig older than its own. It never takes it.
    went_back: int = 0
    #: Sigs that the independent verifier refused.
    bad_sigs: int = 0
    #: Sigs received with less than ``min_remaining`` seconds to live.
    short_remaining: int = 0
    #: The second in which the next session ends if its client does nothing.
    next_expiry: int | None = None
    #: Refusals and failures by code: the service's, the cloud's (70001 ...), or a word.
    errors: Counter[str] = field(default_factory=Counter)
