"""What a look asks for, and what it passes on to the other parts of its process."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from sigmgr.flow.look import PART
from sigmgr.model import errors
from sigmgr.model.revocation import Revocation
from sigmgr.ports import LookResult
from tests.flow.test_look import Here, fails
from tests.flow.world import APP, NOW, World


@pytest.fixture
def here(world: World) -> Here:
    return Here(world)


async def test_each_look_goes_back_twenty_seconds_before_the_last(world: World, here: Here) -> None:
    """By the database's clock: a revocation may become visible ten seconds after its own second,
    and that clock may step by the tolerance."""
    since, second = [], [1000.9, 1001.2, 1017.0, 1040.0]
    real = world.looks.look

    async def look(at: int) -> LookResult:
        since.append(at)
        return (await real(at))._replace(second=second.pop(0))

    world.looks.look = look  # type: ignore[method-assign]
    for _ in range(4):
        await here.look.once(NOW)
    assert since[1:] == [980, 981, 997]
    assert since[0] > NOW, "what the load reads need not be looked for"


async def test_tokens_and_the_second_are_passed_on_with_the_time_that_it_took(
    world: World, here: Here
) -> None:
    answered: list[tuple[float, float]] = []
    tokens: list[tuple[float, bool]] = []
    real, marks = world.looks.look, ["a", "a", "b"]

    async def look(at: int) -> LookResult:
        here.seconds += 0.25
        return (await real(at))._replace(tokens=marks.pop(0), second=1234.5)

    world.looks.look = look  # type: ignore[method-assign]
    here.look.answered = lambda second, took: answered.append((second, took))
    here.look.tokens = lambda began, changed: tokens.append((began, changed))
    for _ in range(3):
        await here.look.once(NOW)
    assert answered == [(1234.5, 0.25)] * 3
    assert tokens == [(500.0, True), (500.25, False), (500.5, True)]
    assert here.learned == [1234.5] * 3


async def test_what_is_past_is_forgotten(world: World, here: Here) -> None:
    await here.look.load(NOW)
    here.revocations.learn([Revocation(APP, "bob", NOW, NOW + 10)])
    for now, until in ((NOW + 9, NOW), (NOW + 11, 0)):
        for _ in range(3):
            await here.look.once(now)
        assert here.revocations.until(APP, "bob") == until


async def test_a_look_that_is_five_seconds_late_is_no_trouble_yet(world: World, here: Here) -> None:
    await here.look.load(NOW)
    world.plan.fail = fails("looks.look")
    for waited, text_ in [(5, "ok"), (6, "degraded")]:
        here.seconds = 500.0 + waited
        with pytest.raises(errors.StoreUnavailable):
            await here.look.once(NOW)
        assert here.health.checks()[PART].startswith(text_)


async def test_a_key_that_does_not_open_is_reported_and_ends_no_look(
    world: World, here: Here
) -> None:
    await here.look.load(NOW)
    await world.add_key(APP)

    class Ring:
        async def refresh(self) -> None:
            raise errors.WrongMasterKey

    here.look.signer = Ring()  # type: ignore[assignment]
    with capture_logs() as logs:
        for _ in range(2):
            await here.look.once(NOW)
    assert [(one["action"], one["code"]) for one in logs] == [
        ("keys-not-loaded", errors.WrongMasterKey().code)
    ]
    assert here.changes == 1
