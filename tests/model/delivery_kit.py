"""A delivery with the world around it: a store, a client, lookups; all of it plain values."""

from __future__ import annotations

from sigmgr.model.delivery import (
    AUDIT,
    LOOK_MAX,
    NEVER,
    OPEN,
    Ask,
    Bye,
    Delivery,
    Effect,
    Lapsed,
    MarkSeen,
    Moment,
    Phase,
    Renew,
    Revoked,
    Wake,
    Warn,
    Write,
)
from sigmgr.model.event import Event, EventType
from sigmgr.model.holder import Holder
from sigmgr.model.policy import Policy
from sigmgr.model.sig import Current

NOW = 1_900_000_000
STEADY = 5_000
DAY = 86400
USER = Holder(1_400_000_000, "ann")
ROOM = Holder(1_400_000_000, "ann", "room", "id:7")
POLICY = Policy()


def sig(holder: Holder = USER, issued_at: int = NOW, ttl: int = 90 * DAY) -> Current:
    renew_at, expires_at = issued_at + ttl * 2 // 3, issued_at + ttl
    return Current(holder, "v2", 1, issued_at, expires_at, renew_at, f"sig-{issued_at}")


def event(kind: EventType, holder: Holder, issued_at: int) -> Event:
    return Event(kind.value, holder, issued_at, issued_at + 90 * DAY, "", issued_at)


class World:
    """One stream, carried out as the gateway does. What must never be is asserted here.

    ``newest``: what a lookup finds; ``works``: whether lookups answer; ``blocked``: the client
    takes nothing; ``got``: what it took, as (holder, issued_at); ``asked``, ``renewals``:
    questions that wait; ``seen``, ``lapsed``, ``closed``: what was reported.
    """

    def __init__(self, *currents: Current, claim: int = 0, policy: Policy = POLICY) -> None:
        self.now, self.steady, self.draw, self.policy = NOW, STEADY, 0.5, policy
        self.newest: dict[Holder, Current] = {c.holder: c for c in currents or (sig(),)}
        self.last = NOW
        self.works, self.blocked = True, False
        self.got: list[tuple[Holder, int]] = []
        self.asked: dict[Holder, bool] = {}
        self.renewals: list[int] = []
        self.renews: int | None = None
        self.seen, self.lapsed, self.warned = 0, [], []
        self.dead: dict[Holder, int] = {}
        self.closed: Revoked | Bye | None = None
        self.acked = claim
        self.fresh = False
        self.delivery = Delivery(USER, claim)

    @property
    def moment(self) -> Moment:
        return Moment(self.now, self.steady, self.draw, self.policy)

    def open(self) -> World:
        rooms = [c for h, c in self.newest.items() if h != USER]
        for write in self.delivery.opened([self.newest[USER], *rooms]):
            self.take(write.current)
        return self.live()

    def live(self) -> World:
        self.carry_out(*self.delivery.live(self.moment))
        return self

    def take(self, current: Current) -> None:
        """The client gets it: never one from before a revocation, nor one that goes back."""
        assert self.closed is None
        assert current.issued_at > self.delivery.dead_until
        before = [at for holder, at in self.got if holder == current.holder]
        assert current.issued_at >= max(before, default=0)
        if current.holder == USER:
            # The first message confirms what the client claims to hold; a resend ends with an ack.
            assert current.issued_at >= self.acked
            assert current.issued_at > self.acked or not before
        else:
            assert current.issued_at not in before
        self.got.append((current.holder, current.issued_at))

    def carry_out(self, *effects: object) -> None:
        for effect in effects:
            match effect:
                case Write(held, current):
                    assert held.holder == current.holder
                    self.write(effect)
                case Ask(holder, urgent):
                    self.asked[holder] = urgent
                case Renew(user, issued_at):
                    assert (user, issued_at) == (USER, self.delivery.own.sent)
                    self.renewals.append(issued_at)
                case MarkSeen(user):
                    assert user == USER
                    self.seen += 1
                case Wake(at):
                    assert self.steady < at
                    assert self.delivery.due() <= at
                case Lapsed(holder):
                    self.lapsed.append(holder)
                case Warn(answer):
                    self.warned.append(answer)
                case Revoked() | Bye():
                    assert self.delivery.phase is Phase.CLOSED
                    self.closed = effect
                case None:
                    pass
                case _:
                    raise AssertionError(effect)

    def write(self, write: Write) -> None:
        assert self.delivery.phase is OPEN
        news = write.news
        if not self.blocked:
            self.take(write.current)
        if news and not self.blocked:
            self.delivery.written(write)
            self.fresh = True
        elif news:
            self.delivery.not_taken(write, self.moment)
        else:
            self.carry_out(self.delivery.repeated(write, self.moment))

    def renew(
        self,
        holder: Holder = USER,
        *,
        reported: bool = True,
        along: bool = False,
        ttl: int = 90 * DAY,
    ) -> Current:
        """A sig of this second, or of the next that is free."""
        self.last = max(self.last + 1, self.now)
        made = self.newest[holder] = sig(holder, self.last, ttl)
        if reported:
            self.receive(made, along=along)
        return made

    def receive(self, made: Current, *, along: bool = False, wide: bool = False) -> None:
        stands = along and made.issued_at > self.dead.get(made.holder, 0)
        effect: Effect | None
        if stands:
            effect = self.delivery.brought(made)
        else:
            effect = self.delivery.news(made.holder, made.issued_at, self.moment, wide=wide)
        self.carry_out(effect)

    def look(self) -> None:
        """Lookups answer, or fail."""
        asked, self.asked = self.asked, {}
        for holder in asked:
            current = self.newest.get(holder)
            if not self.works:
                self.delivery.unanswered(holder, self.moment)
            else:
                valid = current is not None and self.now < current.expires_at
                found = current if valid else None
                self.carry_out(self.delivery.answered(holder, found, self.moment))
        renewals, self.renewals = self.renewals, []
        if renewals and self.works and self.renews is not None:
            self.renew(reported=False, ttl=self.renews)
        if renewals and self.works:
            current = self.newest[USER]
            self.carry_out(self.delivery.answered(USER, current, self.moment, renewed=True))

    def ack(self, issued_at: int) -> bool:
        ends = self.delivery.acked(issued_at)
        if issued_at <= self.delivery.own.sent:
            self.acked = max(self.acked, issued_at)
        return ends

    def revoke(self, holder: Holder = USER, at: int | None = None) -> None:
        """No sig at or below this second may reach the client from now on."""
        at = self.newest[holder].issued_at if at is None else at
        self.dead[holder] = max(at, self.dead.get(holder, 0))
        self.carry_out(self.delivery.revoked(event(EventType.REVOKED, holder, at)))

    def missed(self, seconds: int = 0) -> None:
        self.carry_out(*self.delivery.missed(seconds, self.moment))

    def pass_time(self, seconds: int = 1, *, look: bool = True) -> None:
        for _ in range(seconds):
            self.now += 1
            self.steady += 1
            if self.fresh:
                self.fresh = False
                self.delivery.set_deadlines(self.moment)
            if self.delivery.due() <= self.steady:
                self.carry_out(*self.delivery.wake(self.moment))
            if look:
                self.look()
            self.check()

    def check(self) -> None:
        """An open stream has a deadline that comes; one whose sig is dead is closed in seconds.
        Unless a question is under way, it looks when its sig is due or a newer is known of."""
        delivery, own = self.delivery, self.delivery.own
        if delivery.phase is not OPEN or self.fresh:
            return
        assert self.steady < delivery.due() < NEVER
        if own.floor <= delivery.dead_until:
            assert delivery.due() <= self.steady + 5
        if USER not in self.asked:
            assert own.look_at <= self.steady + AUDIT
            if own.want > own.floor or self.now >= own.renew_at + 300:
                splay = own.durations(self.policy).splay
                assert own.look_at <= self.steady + max(LOOK_MAX, splay)

    @property
    def sigs(self) -> list[int]:
        return [at for holder, at in self.got if holder == USER]

    @property
    def keys(self) -> list[int]:
        return [at for holder, at in self.got if holder == ROOM]
