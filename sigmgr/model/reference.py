"""The reference clock: which second counts where clocks differ, and whether ordinary signing goes
on.

A sig issued at a wrong second cannot be taken back: the cloud compares seconds, and of two sigs the
later issued wins everywhere. So a clock that jumps is not trusted at once.

There are three clocks. The *wall* clock is this machine's, and anybody may set it. The *monotonic*
clock never jumps and has no date. The *database's* clock is shared by all processes; with SQLite
there is none, and the wall clock is the shared one.

Rules:
1. Between two readings of the other clocks, monotonic time carries the date.
2. The shared clock is trusted. After it jumps, time goes on by the monotonic clock as before, until
   the shared clock has stood at its new time for ``accept`` seconds, or is back. The first reading
   of a process is trusted.
3. A jump to the time of a wall clock that has stood for ``accept`` seconds is trusted at once: two
   clocks agree against an earlier reading of one.
4. The wall clock is used while it is within ``tolerance`` of the trusted time, so small drift is
   followed. Otherwise the trusted second counts, carried by the monotonic clock.
5. Ordinary signing is held while the wall clock is not used, or the shared clock is in doubt. A sig
   near its expiry is still signed, at the second that these rules give.

If one clock jumps and returns within ``accept``, ordinary sigs are made later, and the date moves
by at most ``tolerance``. When a jump is trusted, the date jumps; others have to cope with that (the
next sig of a holder is always later than its last).

All times are kept as offsets to monotonic time, in seconds. Nothing here reads a clock.
"""

from __future__ import annotations

from typing import Final, NamedTuple

#: The largest ``clock.tolerance`` in seconds; the margins of revocations of all users, of looks
#: into SQL and of clients' claims are derived from it.
TOLERANCE: Final = 5.0
#: The largest difference of two signing processes: one ahead of the database, one behind.
APART: Final = round(2 * TOLERANCE)
#: The wall clock has jumped if it moved by more than this against monotonic time.
JUMP: Final = 1.0
#: Ordinary signing resumes a little within the tolerance, so that a clock at its edge does not
#: toggle it.
_LEAVE: Final = 0.9
_NEVER: Final = float("-inf")


class Rules(NamedTuple):
    """``tolerance`` and ``accept`` in seconds; ``shared``: the database has its own clock."""

    tolerance: float = TOLERANCE
    accept: float = 60.0
    shared: bool = True


class ClockReading(NamedTuple):
    """Both clocks at one moment: Unix seconds of the wall clock, and monotonic seconds."""

    wall: float
    monotonic: float

    @property
    def offset(self) -> float:
        return self.wall - self.monotonic


class Reference(NamedTuple):
    """The known state of the clocks. Each method returns the next state.

    ``wall`` and ``trusted`` are offsets (``trusted`` None: the database's clock was not read yet),
    ``jumped_at`` is when the wall clock last jumped. ``doubt`` is the untrusted offset of the
    shared clock since ``doubt_since``. ``follows``: the wall clock is used. ``jumps`` counts the
    jumps of the wall clock.
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
        """Only this machine's own clock is known."""
        return cls(rules, now.offset, None if rules.shared else now.offset)

    # -- what is seen --------------------------------------------------------------------

    def read(self, now: ClockReading) -> Reference:
        """A reading of this machine's own clocks, a few times a second."""
        jumped = abs(now.offset - self.wall) > JUMP
        seen = self._replace(wall=now.offset)
        if jumped:
            seen = seen._replace(jumped_at=now.monotonic, jumps=self.jumps + 1)
        if not self.rules.shared:
            seen = seen._observed(now.offset, JUMP, now.monotonic)
        return seen._judged()

    def observe(self, database_at: float, now: ClockReading, took: float = 0.0) -> Reference:
        """A reading of the database's clock, taken within the last ``took`` seconds."""
        seen = self.read(now)
        if not self.rules.shared or (seen.trusted is not None and took > self.rules.tolerance):
            return seen
        # Of the possible seconds, the one nearest to the wall clock's.
        earliest = database_at - now.monotonic
        offset = min(max(seen.wall, earliest), earliest + took)
        return seen._observed(offset, self.rules.tolerance, now.monotonic)._judged()

    def _observed(self, offset: float, tolerance: float, at: float) -> Reference:
        """Rules 2 and 3: whether the shared clock is trusted at this offset."""
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
        if self.trusted is None:
            return self._replace(follows=True)
        reach = self.rules.tolerance if self.rules.shared else JUMP
        if not self.follows:
            reach *= _LEAVE
        return self._replace(follows=abs(self.wall - self.trusted) <= reach)

    # -- what it means -------------------------------------------------------------------

    @property
    def line(self) -> float:
        """Added to monotonic time it gives the date."""
        return self.wall if self.follows or self.trusted is None else self.trusted

    @property
    def ordinary(self) -> bool:
        """Whether sigs that are not near expiry may be signed."""
        return self.follows and self.doubt is None

    @property
    def apart(self) -> float:
        """Seconds by which this machine's clock is ahead of the shared clock's last reading; with
        SQLite, ahead of where it was before it jumped."""
        if self.rules.shared and self.doubt is not None:
            return self.wall - self.doubt
        return 0.0 if self.trusted is None else self.wall - self.trusted

    def why(self) -> str:
        """Why ordinary signing is held; empty where it is not."""
        if self.ordinary:
            return ""
        if self.doubt is None or self.trusted is None:
            return f"this machine's clock is {duration_text(self.apart)} the database's"
        jumped = f"jumped {duration_text(self.doubt - self.trusted)} where {{}} stood"
        believed = f"believed after {self.rules.accept:g} s"
        if not self.rules.shared:
            return f"this machine's clock has {jumped.format('it')}; it is {believed}"
        if abs(self.wall - self.doubt) <= self.rules.tolerance:
            both = "this machine's clock and the database's have"
            return f"{both} {jumped.format('they')}; they are {believed}"
        return f"the database's clock has {jumped.format('it')}; it is {believed}"


def duration_text(seconds: float) -> str:
    """A difference in words: "1 d 2 h ahead of", "3 s behind"."""
    whole = round(abs(seconds))
    units = ((whole // 86400, "d"), (whole // 3600 % 24, "h"), (whole // 60 % 60, "min"))
    parts = [f"{count} {unit}" for count, unit in (*units, (whole % 60, "s")) if count]
    return f"{' '.join(parts[:2]) or '0 s'} {'ahead of' if seconds > 0 else 'behind'}"
