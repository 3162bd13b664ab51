"""Builds all flows over one set of ports, for the service, the simulation and tests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sigmgr.flow.acks import Acks
from sigmgr.flow.deliver import Deliver
from sigmgr.flow.derive import Derive
from sigmgr.flow.issue import Issue
from sigmgr.flow.limits import PROMPT, WaitLimits
from sigmgr.flow.newcomers import Newcomers
from sigmgr.flow.openings import Openings
from sigmgr.flow.reconcile import Reconcile
from sigmgr.flow.reissuer import Reissuer
from sigmgr.flow.relay import Publisher, Relay
from sigmgr.flow.renew import Renew
from sigmgr.flow.restored import Restored
from sigmgr.flow.revocations import Revocations
from sigmgr.flow.revoke import Revoke
from sigmgr.flow.room_keys import RoomKeys
from sigmgr.flow.seen import Seen
from sigmgr.flow.verify import Verify
from sigmgr.flow.warn import Warn
from sigmgr.ports import Announcer, Draw, Janitor, Looks, Outbox, Registry, SigCache, Signer, Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """What the flows need, and the revocations known to this process. ``jobs_store``: the store of
    jobs, where it is another. ``ordinary``: whether sigs not near expiry may be signed now."""

    registry: Registry
    store: Store
    jobs_store: Store | None = None
    looks: Looks
    outbox: Outbox
    janitor: Janitor
    cache: SigCache
    announcer: Announcer
    signer: Signer
    draw: Draw
    revocations: Revocations
    ordinary: Callable[[], bool] = lambda: True

    @property
    def patient(self) -> Store:
        """The store for work that no request waits for."""
        return self.store if self.jobs_store is None else self.jobs_store


@dataclass(frozen=True, slots=True, kw_only=True)
class Flows:
    issue: Issue
    room_keys: RoomKeys
    newcomers: Newcomers
    renew: Renew
    warn: Warn
    relay: Relay
    publisher: Publisher
    revoke: Revoke
    verify: Verify
    deliver: Deliver
    reconcile: Reconcile
    seen: Seen


def assemble(
    ports: Ports,
    *,
    batch: int = 1000,
    lanes: int = 1,
    gather_acks_for: float = 0.02,
    limits: WaitLimits = PROMPT,
) -> Flows:
    """Build them. ``batch`` and ``lanes`` bound a renewal round, ``gather_acks_for`` is in seconds,
    ``limits`` are for requests."""
    p, patient = ports, ports.patient
    relay = Relay(patient, p.outbox, p.announcer, p.cache, p.signer)
    publisher = Publisher(relay)
    seen = Seen(patient, p.registry)
    derive = Derive(p.registry, p.cache, p.signer, p.revocations)
    newcomers = Newcomers(p.registry, patient)
    prompt = Reissuer(p.store, p.signer, p.draw, publisher, p.ordinary)
    later = Reissuer(patient, p.signer, p.draw, publisher, p.ordinary)
    issue = Issue(
        p.registry, p.store, derive, prompt, seen=seen, newcomers=newcomers, limits=limits
    )
    restored = Restored(p.registry, derive, prompt, limits)
    openings = Openings(
        p.registry, p.store, p.cache, derive, issue.better,
        restored=restored, revocations=p.revocations, seen=seen, limits=limits,
    )  # fmt: skip
    renew = Renew(
        p.registry, patient, derive, later, publisher, ordinary=p.ordinary, limit=batch, lanes=lanes
    )
    acks = Acks(p.store, publisher, restored, limits, gather_acks_for)
    return Flows(
        issue=issue, newcomers=newcomers, renew=renew, relay=relay, publisher=publisher, seen=seen,
        room_keys=RoomKeys(p.registry, derive, prompt, newcomers),
        warn=Warn(p.registry, patient, publisher, batch),
        revoke=Revoke(p.registry, p.store, p.looks, p.revocations, publisher),
        verify=Verify(p.signer, p.looks, p.revocations),
        deliver=Deliver(openings, acks, derive, p.revocations, p.store, limits),
        reconcile=Reconcile(derive, patient, p.looks, p.cache, p.janitor),
    )  # fmt: skip
