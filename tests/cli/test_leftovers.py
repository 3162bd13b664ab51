"""A command leaves nothing running: no thread of the driver that would report to nobody."""

from __future__ import annotations

import asyncio
import threading
import time

import aiosqlite.core
import pytest

from sigmgr.model import errors
from sigmgr.store.engine import open_engine
from tests.process.processes import new_master_key


class _Late:
    """A driver's queue whose work ends late, as on a machine with other things to do."""

    def __init__(self, queue) -> None:
        self._queue = queue

    def get(self):
        future, function = self._queue.get()

        def late():
            try:
                return function()
            finally:
                time.sleep(0.03)

        return future, late


@pytest.fixture
def slow_driver(monkeypatch) -> list[threading.Thread]:
    """Every thread that the driver starts, each slow to say that it is done."""
    threads: list[threading.Thread] = []
    work = aiosqlite.core._connection_worker_thread

    def slow(queue) -> None:
        threads.append(threading.current_thread())
        work(_Late(queue))

    monkeypatch.setattr(aiosqlite.core, "_connection_worker_thread", slow)
    return threads


def alive(threads: list[threading.Thread]) -> list[threading.Thread]:
    return [thread for thread in threads if thread.is_alive()]


@pytest.mark.parametrize("words", [("db", "current"), ("app", "list"), ("doctor",)], ids=" ".join)
@pytest.mark.parametrize("place", ["", "no/such/directory/"])
def test_a_command_ends_with_its_connections(
    shell, slow_driver, monkeypatch, tmp_path, place, words
):
    monkeypatch.setenv("SIGMGR_DATABASE__URL", f"sqlite+aiosqlite:///{tmp_path}/{place}x.db")
    monkeypatch.setenv("SIGMGR_MASTER_KEY", new_master_key())
    if not place:
        (tmp_path / "x.db").touch()  # else no connection is opened at all
    assert shell(*words).status != 0  # nothing is migrated
    assert slow_driver
    assert alive(slow_driver) == []


# The driver drops what was opened for somebody who has gone; newer Pythons warn of that.
@pytest.mark.filterwarnings("ignore:unclosed database:ResourceWarning")
async def test_a_closed_engine_has_ended_what_was_given_up_half_way(slow_driver, tmp_path):
    engine = open_engine(f"sqlite+aiosqlite:///{tmp_path}/x.db")

    async def read() -> None:
        async with engine.read() as connection:
            await connection.exec_driver_sql("SELECT 1")

    for moment in (0.0, 0.02, 0.08, 0.2, 0.3):  # while it opens, is made ready, and answers
        reading = asyncio.create_task(read())
        await asyncio.sleep(moment)
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
    await engine.close()
    assert len(slow_driver) > 1
    assert alive(slow_driver) == []


async def test_an_engine_that_never_opened_closes_too(slow_driver, tmp_path):
    engine = open_engine(f"sqlite+aiosqlite:///{tmp_path}/none/x.db")
    with pytest.raises(errors.StoreUnavailable):
        async with engine.read():
            pass
    await engine.close()
    assert alive(slow_driver) == []
