"""Who was seen: written when it is worth a write, and never more in memory than allowed."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from sigmgr.flow.seen import Seen
from sigmgr.model import errors
from sigmgr.model.app import App
from sigmgr.model.holder import Holder
from sigmgr.model.policy import Policy
from tests.flow.world import APP, NOW

POLICY = Policy()
EVERY = POLICY.durations(POLICY.ttl).mark_seen_every
USERS = [Holder(APP, f"u{n}") for n in range(5)]


class Known:
    """One app, and a store that keeps what is written, or is away."""

    def __init__(self) -> None:
        self.writes: list[list[tuple[Holder, int]]] = []
        self.away = False
        self.meanwhile: Callable[[], None] = lambda: None

    def apps(self) -> Sequence[App]:
        return [App(APP, "", POLICY)]

    async def mark_seen(self, seen: Sequence[tuple[Holder, int]]) -> None:
        self.meanwhile()
        if self.away:
            raise errors.StoreUnavailable
        self.writes.append(list(seen))


@pytest.fixture
def known() -> Known:
    return Known()


def seen_by(known: Known, most: int = 100) -> Seen:
    return Seen(known, known, most=most)  # type: ignore[arg-type]


async def test_a_user_is_written_once_in_an_interval(known: Known) -> None:
    seen = seen_by(known)
    times = [NOW, NOW + 1, NOW + EVERY - 1, NOW + EVERY]
    written = []
    for now in times:
        seen.note(USERS[0], now)
        written.append(await seen.flush(now))
    assert written == [1, 0, 0, 1]
    assert known.writes == [[(USERS[0], NOW)], [(USERS[0], NOW + EVERY)]]


async def test_a_sighting_that_is_worth_a_write_is_written_at_once(known: Known) -> None:
    seen = seen_by(known)
    for sure in (False, True, False):
        seen.note(USERS[0], NOW, sure=sure)
        await seen.flush(NOW)
    assert len(known.writes) == 2


async def test_what_could_not_be_written_waits_with_the_newest_time(known: Known) -> None:
    seen = seen_by(known)
    for user in USERS[:2]:
        seen.note(user, NOW)
    known.away, known.meanwhile = True, lambda: seen.note(USERS[0], NOW + 9)
    with pytest.raises(errors.StoreUnavailable):
        await seen.flush(NOW)
    known.away, known.meanwhile = False, lambda: None
    assert await seen.flush(NOW + 9) == 2
    assert sorted(known.writes[0]) == [(USERS[0], NOW + 9), (USERS[1], NOW)]


async def test_no_more_wait_than_allowed_and_those_who_do_are_seen_on(known: Known) -> None:
    seen = seen_by(known, most=2)
    for user in USERS:
        seen.note(user, NOW)
    seen.note(USERS[1], NOW + 5)
    assert await seen.flush(NOW) == 2
    assert known.writes == [[(USERS[0], NOW), (USERS[1], NOW + 5)]]
    seen.note(USERS[4], NOW)
    assert await seen.flush(NOW) == 1
    assert len(seen._written) <= 2


async def test_many_are_written_in_parts(known: Known) -> None:
    seen = seen_by(known, most=10_000)
    for n in range(2500):
        seen.note(Holder(APP, f"user{n}"), NOW)
    assert await seen.flush(NOW) == 2500
    assert [len(part) for part in known.writes] == [1000, 1000, 500]
