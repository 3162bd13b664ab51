"""What a process knows of revocations, and how long cached sigs are served by it."""

from __future__ import annotations

import pytest

from sigmgr.flow.revocations import Revocations
from sigmgr.model.revocation import Revocation
from sigmgr.model.sig import Current
from tests.flow.world import ALICE, APP, NOW

GRACE = 60


class Here:
    """One process, by a monotonic clock that is moved by hand."""

    def __init__(self) -> None:
        self.seconds = 500.0
        self.revocations = Revocations(lambda: self.seconds, grace=GRACE)

    def serves(self, issued_at: int) -> bool:
        return self.revocations.serves(sig(issued_at), NOW)


def sig(issued_at: int) -> Current:
    return Current(ALICE, "v2", 1, issued_at, issued_at + 999, issued_at + 600, "x")


@pytest.fixture
def here() -> Here:
    return Here()


def test_before_the_first_look_nothing_is_served(here: Here) -> None:
    assert here.revocations.age == float("inf")
    assert not here.revocations.fresh
    assert not any(map(here.serves, (NOW - 1000, NOW - 1, NOW)))


def test_after_a_look_all_that_is_not_revoked_is_served_for_the_grace(here: Here) -> None:
    here.revocations.looked(500.0)
    for waited, served in ((0, True), (GRACE, True), (GRACE + 0.5, False)):
        here.seconds = 500.0 + waited
        assert here.revocations.age == waited
        assert here.revocations.fresh is served
        assert here.serves(NOW - 1000) is served


def test_afterwards_only_what_was_issued_less_than_the_grace_ago(here: Here) -> None:
    """Whoever issued it saw SQL then; a second that is still to come proves nothing."""
    here.revocations.looked(500.0)
    here.seconds += GRACE + 1
    for ago, served in ((-1, False), (0, True), (1, True), (GRACE - 1, True), (GRACE, False)):
        assert here.serves(NOW - ago) is served


def test_an_earlier_look_that_ends_later_takes_nothing_back(here: Here) -> None:
    here.revocations.looked(490.0)
    here.revocations.looked(480.0)
    assert here.revocations.age == 10.0


def test_what_is_revoked_is_never_served(here: Here) -> None:
    here.revocations.looked(500.0)
    here.revocations.learn([Revocation(APP, "alice", NOW - 10, NOW + 999)])
    assert not here.serves(NOW - 10)
    assert here.serves(NOW - 9)
    assert here.revocations.killed(sig(NOW - 10))
    assert not here.revocations.killed(sig(NOW - 9))
    assert not here.revocations.stands(ALICE, NOW - 10)
    assert here.revocations.stands(ALICE, NOW - 9)


def test_each_new_revocation_reaches_every_listener_once(here: Here) -> None:
    heard: list[tuple[str, int]] = []

    class Ear:
        def __init__(self, name: str) -> None:
            self.name = name

        def revoked(self, revocation: Revocation) -> None:
            heard.append((self.name, revocation.until))

    for name in ("a", "b"):
        here.revocations.add(Ear(name))
    for until in (5, 5, 4, 9):
        here.revocations.learn([Revocation(APP, "alice", until, NOW)])
    assert heard == [("a", 5), ("b", 5), ("a", 9), ("b", 9)]


def test_what_is_past_is_forgotten(here: Here) -> None:
    here.revocations.learn([Revocation(APP, "alice", NOW - 10, NOW)])
    for _ in range(3):
        here.revocations.forget(NOW + 1)
    assert here.revocations.until(APP, "alice") == 0
