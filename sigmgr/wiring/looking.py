"""Builds the look of a serving process, and connects it with what depends on it."""

from __future__ import annotations

import math

from sigmgr.cache.near import NearCache
from sigmgr.flow.look import PART, Look
from sigmgr.health import Health
from sigmgr.http.auth import Auth
from sigmgr.wiring.clock import monotonic_seconds
from sigmgr.wiring.parts import Parts


def look_of(
    parts: Parts, health: Health, near: NearCache[bytes] | None, tokens: Auth, *, vital: bool
) -> Look:
    """``vital``: this process serves callers who must not get what was revoked."""
    base, settings = parts.base, parts.base.settings
    grace = math.ceil(settings.revocation.grace)

    def trust(_: float) -> None:
        if near is not None:
            near.trust(base.clock() + grace)

    def forget_answers() -> None:
        if near is not None:
            near.resync(0)

    health.expect(PART, silent_after=5 * settings.scheduler.look_every + 5, vital=vital)
    return Look(
        looks=base.looks,
        revocations=base.revocations,
        signer=base.ring,
        monotonic=monotonic_seconds(),
        answered=base.clock.observe,
        tokens=tokens.looked,
        learned=trust,
        keys_changed=forget_answers,
        health=health,
    )
