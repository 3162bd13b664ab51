"""Questions that wait, each once, and one holder that cannot be looked up among many."""

from __future__ import annotations

import math

import pytest

from sigmgr.model.delivery import Ask, MarkSeen, Renew
from sigmgr.push.lookup import Lookups, Wanted
from tests.push.fakes import NOW, FakeStates, sig, user

ANN, BOB, CAT, DAN = map(user, ("ann", "bob", "cat", "dan"))


@pytest.mark.parametrize("first", [True, False])
def test_who_is_asked_for_twice_is_looked_up_once_and_urgently(first):
    wanted = Wanted(10)
    wanted.add(Ask(BOB, urgent=False))
    wanted.add(Ask(ANN, urgent=first))
    wanted.add(Ask(ANN, urgent=not first))
    assert wanted.looks() == [ANN, BOB]
    assert wanted.looks() == []
    assert not wanted


def test_a_batch_holds_so_many_with_the_urgent_ones_first():
    wanted = Wanted(3)
    for holder in (ANN, BOB, CAT):
        wanted.add(Ask(holder, urgent=False))
    wanted.add(Ask(DAN, urgent=True))
    assert wanted.looks() == [DAN, ANN, BOB]
    assert wanted
    assert wanted.looks() == [CAT]
    for holder in (ANN, BOB, CAT, DAN):
        wanted.add(Ask(holder, urgent=True))
    wanted.add(Ask(user("eve"), urgent=False))
    assert wanted.looks() == [ANN, BOB, CAT]
    assert wanted.looks() == [DAN, user("eve")]


def test_each_kind_of_question_wakes_who_asks_it():
    wanted = Wanted(10)
    wanted.add(Renew(ANN, NOW))
    assert [e.is_set() for e in (wanted.looked, wanted.renewed, wanted.marked)] == [0, 1, 0]
    wanted.add(MarkSeen(ANN))
    wanted.add(MarkSeen(ANN))
    assert [e.is_set() for e in (wanted.looked, wanted.renewed, wanted.marked)] == [0, 1, 1]
    wanted.add(Ask(ANN, urgent=False))
    assert wanted.looked.is_set()
    assert wanted
    assert (wanted.renewals(), wanted.renewals()) == ({ANN: NOW}, {})
    assert wanted
    assert wanted.looks() == [ANN]
    assert wanted
    assert (wanted.seen(), wanted.seen()) == ([ANN], [])
    assert not wanted


@pytest.mark.parametrize("count", [1, 2, 3, 5, 16])
async def test_whoever_cannot_be_looked_up_the_others_are_with_few_questions(count):
    holders = [user(f"u{n}") for n in range(count)]
    for bad in holders:
        states = FakeStates()
        states.put(*map(sig, holders))
        states.bad = {bad}
        answers = await Lookups(states, 1.0).latest(holders, NOW)
        assert list(answers.failed) == [bad]
        assert list(answers.found) == [(one, sig(one)) for one in holders if one != bad]
        assert len(states.lookups) <= 1 + 2 * math.ceil(math.log2(count))
