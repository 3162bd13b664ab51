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
    relay = Relay(ports.patient, ports.outbox, ports.announcer, ports.cache, ports.signer)
    publisher = Publisher(relay)
    seen = Seen(ports.patient, ports.registry)
    derive = _derive(ports)
    newcomers = Newcomers(ports.registry, ports.patient)
    reissuer = _reissuer(ports, ports.store, publisher)
    issue = _issue(ports, derive, reissuer, seen, newcomers=newcomers, limits=limits)
    restored = _restored(ports, derive, reissuer, limits=limits)
    return Flows(
        issue=issue,
        room_keys=_room_keys(ports, derive, reissuer, newcomers),
        newcomers=newcomers,
        renew=_renew(ports, derive, publisher, batch=batch, lanes=lanes),
        warn=Warn(registry=ports.registry, store=ports.patient, publisher=publisher, limit=batch),
        relay=relay,
        publisher=publisher,
        verify=Verify(signer=ports.signer, looks=ports.looks, revocations=ports.revocations),
        revoke=_revoke(ports, publisher),
        deliver=_deliver(
            ports,
            derive,
            _openings(ports, issue, derive, restored, seen, limits=limits),
            _acks(ports, publisher, restored, limits=limits, gather_for=gather_acks_for),
            limits=limits,
        ),
        reconcile=_reconcile(ports, derive),
        seen=seen,
    )


def _derive(ports: Ports) -> Derive:
    return Derive(
        registry=ports.registry,
        cache=ports.cache,
        signer=ports.signer,
        revocations=ports.revocations,
    )


def _revoke(ports: Ports, publisher: Publisher) -> Revoke:
    return Revoke(
        registry=ports.registry,
        store=ports.store,
        looks=ports.looks,
        revocations=ports.revocations,
        publisher=publisher,
    )


def _deliver(
    ports: Ports, derive: Derive, openings: Openings, acks: Acks, *, limits: WaitLimits
) -> Deliver:
    return Deliver(
        openings=openings,
        acks=acks,
        derive=derive,
        revocations=ports.revocations,
        store=ports.store,
        cache=ports.cache,
        limits=limits,
    )


def _acks(
    ports: Ports, publisher: Publisher, restored: Restored, *, limits: WaitLimits, gather_for: float
) -> Acks:
    return Acks(
        store=ports.store,
        publisher=publisher,
        restored=restored,
        limits=limits,
        gather_for=gather_for,
    )


def _restored(ports: Ports, derive: Derive, reissuer: Reissuer, *, limits: WaitLimits) -> Restored:
    return Restored(registry=ports.registry, derive=derive, reissuer=reissuer, limits=limits)


def _openings(
    ports: Ports,
    issue: Issue,
    derive: Derive,
    restored: Restored,
    seen: Seen,
    *,
    limits: WaitLimits,
) -> Openings:
    return Openings(
        registry=ports.registry,
        store=ports.store,
        cache=ports.cache,
        derive=derive,
        better=issue.better,
        restored=restored,
        revocations=ports.revocations,
        seen=seen,
        limits=limits,
    )


def _reconcile(ports: Ports, derive: Derive) -> Reconcile:
    return Reconcile(
        derive=derive,
        store=ports.patient,
        looks=ports.looks,
        cache=ports.cache,
        janitor=ports.janitor,
    )


def _issue(
    ports: Ports,
    derive: Derive,
    reissuer: Reissuer,
    seen: Seen,
    *,
    newcomers: Newcomers,
    limits: WaitLimits,
) -> Issue:
    return Issue(
        registry=ports.registry,
        store=ports.store,
        cache=ports.cache,
        derive=derive,
        reissuer=reissuer,
        seen=seen,
        newcomers=newcomers,
        limits=limits,
    )


def _room_keys(ports: Ports, derive: Derive, reissuer: Reissuer, newcomers: Newcomers) -> RoomKeys:
    return RoomKeys(registry=ports.registry, derive=derive, reissuer=reissuer, newcomers=newcomers)


def _renew(ports: Ports, derive: Derive, publisher: Publisher, *, batch: int, lanes: int) -> Renew:
    return Renew(
        registry=ports.registry,
        store=ports.patient,
        derive=derive,
        reissuer=_reissuer(ports, ports.patient, publisher),
        publisher=publisher,
        ordinary=ports.ordinary,
        limit=batch,
        lanes=lanes,
    )


def _reissuer(ports: Ports, store: Store, publisher: Publisher) -> Reissuer:
    return Reissuer(
        store=store,
        signer=ports.signer,
        draw=ports.draw,
        publisher=publisher,
        ordinary=ports.ordinary,
    )
