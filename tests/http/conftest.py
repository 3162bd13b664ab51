"""A house with scripted services, and the app over it."""

from __future__ import annotations

import asyncio
import functools
from typing import Any

import pytest
import uvloop

from sigmgr.http.app import App
from tests.http.scripted import House


def pytest_asyncio_loop_factories(config, item):
    """Connections are tried on the loop that the service runs on too; their ends differ."""
    del config
    loops = {"asyncio": asyncio.new_event_loop}
    return loops | ({"uvloop": uvloop.new_event_loop} if "test_protocol" in item.nodeid else {})


@functools.cache
def shared() -> tuple[House, Any]:
    house = House()
    return house, App(house.services)


@pytest.fixture
def house():
    house, _ = shared()
    house.reset()
    return house


@pytest.fixture
def app(house):
    return shared()[1]
