"""Helpers for tests, shipped: a manual clock, faults around any port.

clock = ManualClock(1_900_000_000)
store = Faulty(real_store, plan)      # plan decides before and after every await
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any


class ManualClock:
    """Whole Unix seconds that move only when set."""

    def __init__(self, now: int) -> None:
        self.now = now

    def __call__(self) -> int:
        return self.now

    def advance(self, seconds: int) -> int:
        self.now += seconds
        return self.now


#: Called as plan(name, moment) with moment "before" or "after"; raises to inject a fault. A raise
#: "after" is a lost answer: the call took effect. An awaitable answer is awaited, so the call hangs
#: for so long.
Plan = Callable[[str, str], Awaitable[object] | None]


class Faulty:
    """Any port with faults: calls ``plan`` before and after each of its async methods.

    Transactions and other async context managers are wrapped too: their async methods, their
    entry, and their end ("commit"), where "before" is a rollback and "after" a lost answer.
    """

    def __init__(self, target: Any, plan: Plan, label: str = "") -> None:
        self._target = target
        self._plan = plan
        self._label = label or type(target).__name__

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._target, name)
        if not callable(attribute):
            return attribute
        label = f"{self._label}.{name}"

        if inspect.iscoroutinefunction(attribute):

            async def call(*args: Any, **kwargs: Any) -> Any:
                await self._follow(label, "before")
                answer = await attribute(*args, **kwargs)
                await self._follow(label, "after")
                return answer

            return call

        def enter(*args: Any, **kwargs: Any) -> Any:
            answer = attribute(*args, **kwargs)
            if hasattr(answer, "__aenter__"):
                return self._block(label, answer)
            return answer

        return enter

    @asynccontextmanager
    async def _block(self, label: str, block: Any) -> AsyncIterator[Any]:
        await self._follow(label, "before")
        async with block as inner:
            wrapped = inner if isinstance(inner, list) else Faulty(inner, self._plan, label)
            yield wrapped
            await self._follow(f"{label}.commit", "before")
        await self._follow(f"{label}.commit", "after")

    async def _follow(self, label: str, moment: str) -> None:
        hangs = self._plan(label, moment)
        if hangs is not None:
            await hangs
