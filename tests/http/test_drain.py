"""A stop leaves the drain enough of its time, whatever is set."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from sigmgr.settings import Gateway, Http, Settings
from sigmgr.wiring.service import Service


@pytest.mark.parametrize(
    ("drain", "graceful", "seconds"),
    [(2.0, 5.0, 2.0), (1.0, 60.0, 1.0), (30.0, 5.0, 2.0), (2.0, 1.0, 0.4)],
)
async def test_a_drain_ends_before_the_server_cuts_it(drain, graceful, seconds):
    drained: list[float] = []

    class Streams:
        async def drain(self, within: float) -> None:
            drained.append(within)

    settings = Settings(http=Http(graceful=graceful), gateway=Gateway(drain=drain))
    service = Service(
        parts=SimpleNamespace(base=SimpleNamespace(settings=settings)),
        services=None,
        ticker=None,
        gateway=Streams(),
        channels=None,
        connections=None,
    )
    await service._drain()
    assert drained == [pytest.approx(seconds)]
    assert drained[0] < graceful / 2
