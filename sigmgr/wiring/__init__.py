"""The composition root: settings in, running parts out. Only here the clock is read.

Three context managers: ``open_base`` (database, keys, apps) for commands that manage,
``open_parts`` (and the flows) for commands that issue, and ``open_service`` (and gateway, jobs,
HTTP) for ``serve``.

Names are loaded when they are used: ``sigmgr sig sign`` needs the clock and nothing else.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sigmgr.wiring.base import Base, open_base, open_database
    from sigmgr.wiring.clock import wall_clock
    from sigmgr.wiring.gc_tuning import tune_gc
    from sigmgr.wiring.parts import Parts, open_parts
    from sigmgr.wiring.service import Service, open_service
    from sigmgr.wiring.simulation import open_simulation

_HOMES = {
    "Base": "base",
    "open_base": "base",
    "open_database": "base",
    "wall_clock": "clock",
    "Parts": "parts",
    "open_parts": "parts",
    "open_simulation": "simulation",
    "tune_gc": "gc_tuning",
    "Service": "service",
    "open_service": "service",
}

__all__ = [
    "Base",
    "Parts",
    "Service",
    "open_base",
    "open_database",
    "open_parts",
    "open_service",
    "open_simulation",
    "tune_gc",
    "wall_clock",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(name)
    return getattr(import_module(f"{__name__}.{home}"), name)
