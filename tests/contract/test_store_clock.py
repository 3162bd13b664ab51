"""Connections outlive a clock that is set back: the pool does not make each one anew."""

from __future__ import annotations

import asyncio
import time

import psycopg
import time_machine

from sigmgr.model import errors
from sigmgr.store.engine import Engine, open_engine

DAY = 86400


async def backend(engine: Engine) -> int:
    """The process of the database's that serves us."""
    async with engine.read() as connection:
        found = await connection.exec_driver_sql("SELECT pg_backend_pid(), pg_sleep(0.1)")
        return int(found.one()[0])


async def test_a_clock_set_back_after_a_lost_connection(postgres_url: str) -> None:
    engine = open_engine(postgres_url)
    try:
        with time_machine.travel(time.time() + DAY, tick=True) as machine:
            terminate(postgres_url, await backend(engine))
            try:
                await backend(engine)
            except errors.StoreUnavailable:
                await backend(engine)
            machine.shift(-DAY)
            engine.clock_jumped()
            # The second of them is made only now, by the older date.
            both = await asyncio.gather(backend(engine), backend(engine))
            for _ in range(3):
                again = await asyncio.gather(backend(engine), backend(engine))
                assert set(again) == set(both)
    finally:
        await engine.close()


def terminate(url: str, pid: int) -> None:
    plain = url.replace("postgresql+psycopg://", "postgresql://")
    with psycopg.connect(plain, autocommit=True) as connection:
        connection.execute("SELECT pg_terminate_backend(%s)", [pid])
