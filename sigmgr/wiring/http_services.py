"""Builds the services of the HTTP app."""

from __future__ import annotations

import random
import time

from sigmgr.cache.near import NearCache
from sigmgr.health import Health
from sigmgr.http import auth
from sigmgr.http.credentials import Credentials
from sigmgr.http.peers import Peers
from sigmgr.http.services import Services
from sigmgr.model.ticket import Tickets
from sigmgr.push.gateway import Gateway
from sigmgr.push.poll import Polls
from sigmgr.push.sse import SseStreams
from sigmgr.wiring.base import Base
from sigmgr.wiring.clock import monotonic_seconds
from sigmgr.wiring.parts import Parts


def credentials_of(base: Base) -> Credentials:
    key, grace = base.master.derive("tokens"), base.settings.revocation.grace
    tokens = auth.Auth(base.token_of, key, monotonic_seconds(), grace=grace)
    tickets = Tickets(base.master.derive("tickets"))
    peers = Peers(base.settings.http.trusted_proxies)
    return Credentials(tokens, tickets, peers, time.monotonic)


def http_services_of(
    parts: Parts,
    roles: frozenset[str],
    credentials: Credentials,
    *,
    near: NearCache[bytes] | None,
    gateway: Gateway | None,
    health: Health,
) -> Services:
    base, http = parts.base, parts.base.settings.http
    assert parts.redis is not None
    stream = polls = None
    if gateway is not None:
        stream = SseStreams(gateway, random.random)
        polls = Polls(gateway, parts.flows.deliver, credentials.tickets, base.clock)

    return Services(
        clock=base.clock,
        apps=base.apps,
        issue=parts.flows.issue,
        room_keys=parts.flows.room_keys,
        revoke=parts.flows.revoke,
        deliver=parts.flows.deliver,
        find=base.store.of_user,
        verify=parts.flows.verify.sig,
        tickets=credentials.tickets,
        credentials=credentials,
        stream_url=http.stream_url,
        roles=roles,
        gateway=stream,
        polls=polls,
        near=near,
        near_ttl=http.near_ttl,
        allowed_origins=http.allowed_origins,
        health=health,
    )
