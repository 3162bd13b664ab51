"""Which second it is where clocks disagree, and whether ordinary sigs may be signed now.

A sig issued at a wrong second cannot be taken back: the cloud compares seconds, and of two
sigs the later issued wins everywhere. So a clock that moves is not believed at once.

Three clocks. The *wall* is this machine's, and may be set by anybody. The *monotonic* one
never jumps and has no date. The *database's* is the one that all processes share; with SQLite
there is none, and the wall takes its place as the one that is followed.

Rules:
1. Monotonic time carries the date between looks at the other two.
2. The shared clock (the database's; without one, the wall) is trusted where it stands. Where
   it has jumped, time goes on by the monotonic clock as if it had not, until it has stood at
   its new place for ``accept`` seconds, or has come back. A process trusts its first word.
3. It is trusted at once where it jumps to agree with a wall that has stood for ``accept``: two
   clocks against what one of them said before.
4. The wall is used while it is within ``tolerance`` of what is trusted; small drift is thereby
   followed. Else it is the trusted clock's second, carried by the monotonic one.
5. Ordinary signing is held while the wall is not used, or the shared clock is in doubt. What
   is near its expiry is signed all the same, at the second that these rules say.

So of one clock that jumps and returns within ``accept``, nobody notices more than that
ordinary sigs were made later; the date moves by no more than ``tolerance``. When a jump is
believed, the date jumps: what that means to others is theirs to know (the next sig of a holder
is always later than its last).

Everything is kept as an offset to monotonic time, in seconds. Nothing here reads a clock.
"""

from __future__ import annotations

from typing import Final, NamedTuple

#: Seconds that ``clock.tolerance`` may be at most: what is written for others (a revocation of
#: all users, a look back into SQL, a client's claim) reckons with it.
TOLERANCE: Final = 5.0
#: Two processes that both sign may be this far apart: one ahead of the database, one behind.
APART: Final = round(2 * TOLERANCE)
#: A wall that moved further than this against monotonic time between two readings has jumped.
JUMP: Final = 1.0
#: What was held for being too far away is let go a little before the tolerance, so that a
#: clock at its edge does not come and go.
_LEAVE: Final = 0.9
_NEVER: Final = float("-inf")
_THEIRS: Final = "the database's"


class Rules(NamedTuple):
    """``tolerance`` and ``accept`` in seconds; ``shared``: the database has its own clock."""

    tolerance: float = TOLERANCE
    accept: float = 60.0
    shared: bool = True


class ClockReading(NamedTuple):
    """Two clocks at one moment: Unix seconds of the wall, and monotonic seconds."""

    wall: float
    monotonic: float

    @property
    def offset(self) -> float:
        return self.wall - self.monotonic


class Reference(NamedTuple):
    """What is known of the clocks. Each method answers the next state.

    ``wall`` and ``trusted`` are offsets (``trusted`` None: the database was not heard yet),
    ``jumped_at`` is when the wall jumped last. ``doubt`` is the offset where the shared
    clock stands since ``doubt_since`` without being believed. ``follows``: the wall is used.
    ``jumps`` counts those of the wall.
    """

    rules: Rules
    wall: float
    trusted: float | None = None
    jumped_at: float = _NEVER
    doubt: float | None = None
    doubt_since: float = _NEVER
    follows: bool = True
    jumps: int = 0

    @classmethod
    def start(cls, rules: Rules, now: ClockReading) -> Reference:
        """Nothing is known but this machine's own clock."""
        return cls(rules, now.offset, None if rules.shared else now.offset)

    # -- what is seen --------------------------------------------------------------------

    def read(self, now: ClockReading) -> Reference:
        """A look at this machine's own clocks; a few each second."""
        jumped = abs(now.offset - self.wall) > JUMP
        seen = self._replace(wall=now.offset)
        if jumped:
            seen = seen._replace(jumped_at=now.monotonic, jumps=self.jumps + 1)
        if not self.rules.shared:
            seen = seen._observed(now.offset, JUMP, now.monotonic)
        return seen._judged()

    def observe(self, database_at: float, now: ClockReading, took: float = 0.0) -> Reference:
        """The database said this second, at some moment of the last ``took`` seconds."""
        seen = self.read(now)
        if not self.rules.shared or (seen.trusted is not None and took > self.rules.tolerance):
            return seen
        # Of the seconds that it may be by now, the one nearest to ours.
        earliest = database_at - now.monotonic
        offset = min(max(seen.wall, earliest), earliest + took)
        return seen._observed(offset, self.rules.tolerance, now.monotonic)._judged()

    def _observed(self, offset: float, tolerance: float, at: float) -> Reference:
        """Rules 2 and 3: is the shared clock believed to stand there?"""
        steady = self.trusted is None or abs(offset - self.trusted) <= tolerance
        if steady or self._vouched(offset, at):
            return self._replace(trusted=offset, doubt=None)
        if self.doubt is None or abs(offset - self.doubt) > tolerance:
            return self._replace(doubt=offset, doubt_since=at)
        if at - self.doubt_since >= self.rules.accept:
            return self._replace(trusted=offset, doubt=None)
        return self._replace(doubt=offset)

    def _vouched(self, offset: float, at: float) -> bool:
        stood = at - self.jumped_at >= self.rules.accept
        return self.rules.shared and stood and abs(offset - self.wall) <= self.rules.tolerance

    def _judged(self) -> Reference:
        """Rule 4."""
        if self.trusted is None:
            return self._replace(follows=True)
        reach = self.rules.tolerance if self.rules.shared else JUMP
        if not self.follows:
            reach *= _LEAVE
        return self._replace(follows=abs(self.wall - self.trusted) <= reach)

    # -- what it means -------------------------------------------------------------------

    @property
    def line(self) -> float:
        """The date is this and monotonic time."""
        return self.wall if self.follows or self.trusted is None else self.trusted

    @property
    def ordinary(self) -> bool:
        """Sigs may be signed whose time has not run out yet."""
        return self.follows and self.doubt is None

    @property
    def apart(self) -> float:
        """Seconds by which this machine's clock is ahead of the shared one as it was last
        seen; without one, of where it was before it jumped."""
        if self.rules.shared and self.doubt is not None:
            return self.wall - self.doubt
        return 0.0 if self.trusted is None else self.wall - self.trusted

    def why(self) -> str:
        """A sentence where ordinary signing is held, else nothing."""
        if self.ordinary:
            return ""
        if self.doubt is None or self.trusted is None:
            return f"this machine's clock is {duration_text(self.apart)} {_THEIRS}"
        jumped = f"jumped {duration_text(self.doubt - self.trusted)} where {{}} stood"
        believed = f"believed after {self.rules.accept:g} s"
        if not self.rules.shared:
            return f"this machine's clock has {jumped.format('it')}; it is {believed}"
        if abs(self.wall - self.doubt) <= self.rules.tolerance:
            both = "this machine's clock and the database's have"
            return f"{both} {jumped.format('they')}; they are {believed}"
        return f"the database's clock has {jumped.format('it')}; it is {believed}"


def duration_text(seconds: float) -> str:
    """How far, and to which side: "1 d 2 h ahead of", "3 s behind"."""
    whole = round(abs(seconds))
    units = ((whole // 86400, "d"), (whole // 3600 % 24, "h"), (whole // 60 % 60, "min"))
    parts = [f"{count} {unit}" for count, unit in (*units, (whole % 60, "s")) if count]
    return f"{' '.join(parts[:2]) or '0 s'} {'ahead of' if seconds > 0 else 'behind'}"
