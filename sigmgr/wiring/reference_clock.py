"""The clock of a process: which second counts, and whether it may sign by it.

``model/reference`` decides both where clocks differ; here the clocks are read, and changes are
reported.

What this module does not do: ask the database, except at the start; callers of ``observe`` do.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from sigmgr.model.reference import JUMP, ClockReading, Reference, Rules
from sigmgr.settings import Settings
from sigmgr.store.engine import Engine, database_time
from sigmgr.telemetry import CLOCK_APART, CLOCK_HELD, CLOCK_JUMPS, get_logger
from sigmgr.wiring.clock import monotonic_seconds, wall_seconds

log = get_logger("sigmgr.clock")

#: Seconds between two readings of this machine's own clocks, while anybody asks for the time.
GLANCE: Final = 0.25
#: Two clocks read within so many seconds count as read at once.
_MOMENT: Final = 0.1
#: Added to the reason where ordinary signing is held.
_HELD: Final = "only sigs near their expiry are signed"


class ReferenceClock:
    """Fulfils ``ports.Clock``: whole Unix seconds, UTC. Cheap; called for every request."""

    def __init__(
        self,
        rules: Rules,
        *,
        wall: Callable[[], float] | None = None,
        monotonic: Callable[[], float] | None = None,
    ) -> None:
        self._wall = wall or wall_seconds
        self._monotonic = monotonic or monotonic_seconds()
        self._state = Reference.start(rules, self._reading())
        self._on_jump: list[Callable[[], None]] = []
        self._on_new_date: list[Callable[[], None]] = []
        self._redis_note = ""
        self._reason = ""
        self._reason_for = self._state
        #: Changes whenever the wall clock jumps, and when ordinary signing is held or resumed.
        self.turns = 0
        self._set_state(self._state)

    def __call__(self) -> int:
        wall, monotonic = self._wall(), self._monotonic()
        if monotonic >= self._until or not self._low < wall - monotonic < self._high:
            wall, monotonic = reading = self._reading()
            self._see(self._state.read(reading))
        return int(wall if self._follows else self._line + monotonic)

    def glance(self) -> int:
        """Read the clocks now; answers ``turns``."""
        self._see(self._state.read(self._reading()))
        return self.turns

    def observe(self, database_at: float, took: float = 0.0) -> None:
        """A reading of the database's clock, taken within the last ``took`` seconds."""
        self._see(self._state.observe(database_at, self._reading(), took))
        CLOCK_APART.set(self._state.apart)

    def compare_with_redis(self, redis_at: float | None) -> None:
        """A reading of Redis's clock (None: none), for the sentence of :meth:`health` only."""
        state, self._redis_note = self._state, ""
        if redis_at is None or not state.rules.shared or not self.apart:
            return
        redis = redis_at - self._monotonic()
        if abs(redis - state.wall) <= state.rules.tolerance:
            self._redis_note = "Redis agrees with this machine: the database's clock differs"
        elif abs(redis - state.wall + self.apart) <= state.rules.tolerance:
            self._redis_note = "Redis agrees with the database: this machine's clock differs"

    def ordinary(self) -> bool:
        self()
        return self._state.ordinary

    @property
    def apart(self) -> float:
        """Seconds by which this machine is ahead of the database; 0 while they agree."""
        return 0.0 if self._state.ordinary else self._state.apart

    def health(self) -> str:
        why = self._why()
        return (
            f"degraded: {'; '.join(filter(None, (why, self._redis_note, _HELD)))}" if why else "ok"
        )

    def _why(self) -> str:
        """The reason; the same one until the difference changes by more than a little."""
        now, then = self._state, self._reason_for
        same = (now.ordinary, now.doubt is None) == (then.ordinary, then.doubt is None)
        if not same or abs(now.apart - then.apart) > max(2.0, abs(then.apart) / 10):
            self._reason, self._reason_for = now.why(), now
        return self._reason

    def on_jump(self, listener: Callable[[], None]) -> None:
        """Call this after a jump of this machine's clock: for parts that read that clock
        directly."""
        self._on_jump.append(listener)

    def on_new_date(self, listener: Callable[[], None]) -> None:
        """Call this after a jump of the date: for parts that keep seconds of this clock."""
        self._on_new_date.append(listener)

    # -- small parts ---------------------------------------------------------------------

    def _reading(self) -> ClockReading:
        """Both clocks at one moment; a process that was stopped in between reads again."""
        before = self._monotonic()
        while True:
            wall, after = self._wall(), self._monotonic()
            if after - before < _MOMENT:
                return ClockReading(wall, after)
            before = after

    def _see(self, state: Reference) -> None:
        before = self._state
        self._set_state(state)
        if state.jumps != before.jumps:
            self.turns += 1
            CLOCK_JUMPS.inc()
            by = round(state.wall - before.wall, 1)
            log.warning("this machine's clock has jumped", action="clock-jumped", seconds=by)
            for listener in self._on_jump:
                listener()
        if state.ordinary != before.ordinary:
            self.turns += 1
        if abs(state.line - before.line) > JUMP:
            by = round(state.line - before.line, 1)
            log.warning("the date has jumped", action="date-jumped", seconds=by)
            for listener in self._on_new_date:
                listener()

    def _set_state(self, state: Reference) -> None:
        self._state = state
        self._follows, self._line = state.follows, state.line
        # Until then, and between these, a call need not look closer.
        self._until = self._monotonic() + GLANCE
        self._low, self._high = state.wall - JUMP, state.wall + JUMP
        CLOCK_HELD.set(not state.ordinary)


async def open_clock(settings: Settings, engine: Engine) -> ReferenceClock:
    """A clock that has observed the database once, before anything is signed. Raises
    StoreUnavailable."""
    rules = Rules(settings.clock.tolerance, settings.clock.accept, shared=engine.has_clock)
    clock = ReferenceClock(rules)
    clock.on_jump(engine.clock_jumped)
    if engine.has_clock:
        began = time.monotonic()
        clock.observe(await database_time(engine), time.monotonic() - began)
    return clock
