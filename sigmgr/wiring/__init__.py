"""The composition root: settings in, running parts out. Only here the clock is read.

Three sizes of the same thing, each a context manager that closes what it opened:
``open_base`` (database, keys, apps) for commands that manage, ``open_desk`` (and the flows)
for commands that issue, and ``open_service`` (and gateway, jobs, HTTP) for ``serve``.

Names are loaded when they are used: ``sigmgr sig sign`` needs the clock and nothing else.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sigmgr.wiring.base import Base, open_base, open_database
    from sigmgr.wiring.clock import wall_clock
    from sigmgr.wiring.desk import Desk, open_desk
    from sigmgr.wiring.memory import settle
    from sigmgr.wiring.months import open_months
    from sigmgr.wiring.service import Service, open_service

_HOMES = {
    "Base": "base",
    "open_base": "base",
    "open_database": "base",
    "wall_clock": "clock",
    "Desk": "desk",
    "open_desk": "desk",
    "open_months": "months",
    "settle": "memory",
    "Service": "service",
    "open_service": "service",
}

__all__ = [
    "Base",
    "Desk",
    "Service",
    "open_base",
    "open_database",
    "open_desk",
    "open_months",
    "open_service",
    "settle",
    "wall_clock",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(name)
    return getattr(import_module(f"{__name__}.{home}"), name)
