"""Apps: known ones cost no wait, unknown ones a short one, and a dead database hides none."""

from __future__ import annotations

import asyncio
import time

import pytest

from sigmgr.flow.registry import Apps
from sigmgr.model import errors
from sigmgr.model.app import App
from sigmgr.model.policy import Policy


class Shelf:
    """A database of apps that answers, fails or hangs, and the registry over it."""

    def __init__(self, *known: int) -> None:
        self.kept = {number: App(number, "", Policy()) for number in known}
        self.seconds = 0.0
        self.loads = 0
        self.error: BaseException | None = None
        self.hangs: asyncio.Event | None = None
        self.apps = Apps(self._load, lambda: self.seconds, patience=0.05)

    async def _load(self) -> list[App]:
        self.loads += 1
        if self.hangs is not None:
            await self.hangs.wait()
        if self.error is not None:
            raise self.error
        return list(self.kept.values())


async def test_an_unknown_app_is_looked_up_once_a_second_for_all_who_ask() -> None:
    shelf = Shelf(1)
    assert (await shelf.apps.app(1)).sdkappid == 1
    answers = await asyncio.gather(*(shelf.apps.app(2) for _ in range(20)), return_exceptions=True)
    assert {type(answer) for answer in answers} == {errors.AppUnknown}
    assert shelf.loads == 1
    shelf.kept[2] = App(2, "", Policy())
    shelf.seconds = 1.0
    assert all([await asyncio.gather(*(shelf.apps.app(2) for _ in range(20)))])
    assert shelf.loads == 2


async def test_a_known_app_costs_no_look() -> None:
    shelf = Shelf(1)
    await shelf.apps.refresh()
    shelf.seconds = 99.0
    assert await shelf.apps.app(1) is shelf.apps.known(1) is shelf.kept[1]
    assert shelf.apps.known(2) is None
    assert shelf.loads == 1


@pytest.mark.parametrize(
    "error",
    [
        errors.StoreUnavailable("away", where="at db:5432", remedy="Start it."),
        errors.StoreRefuses("full"),
        errors.NotMigrated("old"),
    ],
)
async def test_where_the_look_fails_nobody_learns_that_there_is_no_such_app(
    error: errors.SigmgrError,
) -> None:
    shelf = Shelf(1)
    await shelf.apps.refresh()
    shelf.error, shelf.seconds = error, 5.0
    for _ in range(3):
        with pytest.raises(type(error), match=error.text) as raised:
            await shelf.apps.app(2)
        assert raised.value is not error
        assert vars(raised.value) == vars(error)
    assert shelf.loads == 2
    assert (await shelf.apps.app(1)).sdkappid == 1
    shelf.error, shelf.seconds = None, 6.0
    with pytest.raises(errors.AppUnknown):
        await shelf.apps.app(2)


async def test_a_look_that_hangs_keeps_nobody_waiting_for_long() -> None:
    shelf = Shelf(1)
    await shelf.apps.refresh()
    shelf.hangs = asyncio.Event()
    began = time.monotonic()
    for second in range(1, 100):
        shelf.seconds = float(second)
        with pytest.raises(errors.StoreUnavailable) as refused:
            await shelf.apps.app(2)
        assert refused.value.retry_after == 1
    assert time.monotonic() - began < 5
    assert shelf.loads == 2, "one call hangs, and no other is sent after it"
    shelf.hangs.set()
    await asyncio.sleep(0.01)
    shelf.kept[2] = App(2, "", Policy())
    shelf.seconds = 200.0
    assert (await shelf.apps.app(2)).sdkappid == 2


async def test_soon_after_all_were_read_an_unknown_app_is_unknown() -> None:
    shelf = Shelf(1)
    shelf.seconds = 10.0
    await shelf.apps.refresh()
    shelf.kept[2] = App(2, "", Policy())
    shelf.seconds = 10.9
    with pytest.raises(errors.AppUnknown, match="app 2 "):
        await shelf.apps.app(2)
    assert shelf.loads == 1
    shelf.seconds = 11.0
    assert (await shelf.apps.app(2)).sdkappid == 2
    assert shelf.loads == 2


async def test_an_app_that_is_gone_is_known_no_longer() -> None:
    shelf = Shelf(1, 2)
    await shelf.apps.refresh()
    del shelf.kept[1]
    shelf.error = errors.StoreUnavailable("away")
    with pytest.raises(errors.StoreUnavailable):
        await shelf.apps.refresh()
    assert [app.sdkappid for app in shelf.apps.apps()] == [1, 2]
    shelf.error = None
    await shelf.apps.refresh()
    assert [app.sdkappid for app in shelf.apps.apps()] == [2]


async def test_a_refresh_that_succeeds_ends_the_error_of_a_look() -> None:
    shelf = Shelf(1)
    shelf.error = errors.StoreUnavailable("away")
    with pytest.raises(errors.StoreUnavailable):
        await shelf.apps.app(2)
    shelf.error = None
    await shelf.apps.refresh()
    with pytest.raises(errors.AppUnknown):
        await shelf.apps.app(2)
    assert shelf.loads == 2
