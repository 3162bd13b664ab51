"""A house with scripted doors, and the app over it."""

from __future__ import annotations

import functools
from typing import Any

import pytest

from sigmgr.http.app import create_app
from tests.http.scripted import House


@functools.cache
def shared() -> tuple[House, Any]:
    house = House()
    return house, create_app(house.doors)


@pytest.fixture
def house():
    house, _ = shared()
    house.reset()
    return house


@pytest.fixture
def app(house):
    return shared()[1]
