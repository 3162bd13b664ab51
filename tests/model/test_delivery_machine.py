"""Whatever happens, in whatever order, an open stream keeps the rules and ends with the newest.

Events come with or without their sig, repeated, late or not at all; lookups fail; the client
blocks and acks; the clock steps; users and rooms are revoked. Then all is quiet, and time passes.
"""

from __future__ import annotations

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from sigmgr.model import errors
from sigmgr.model.delivery import OPEN
from tests.model.delivery_kit import DAY, NOW, ROOM, USER, World, sig

holders = st.sampled_from([USER, ROOM])


class StreamLife(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.world = World(sig(ttl=90 * DAY))
        self.made = [sig()]

    @property
    def delivery(self):
        return self.world.delivery

    @initialize(
        claim=st.sampled_from([0, NOW - 5, NOW, NOW + 3]),
        rooms=st.booleans(),
        meanwhile=st.sampled_from([None, None, None, "renewed", "missed", -1, 0]),
    )
    def open_(self, claim, rooms, meanwhile):
        """Something may happen while its state is asked for."""
        world = self.world
        world.acked = world.delivery.own.acked = world.delivery.own.want = claim
        state = [self.made[0], *([sig(ROOM, NOW - 1)] if rooms else [])]
        world.newest[ROOM] = sig(ROOM, NOW - 1)
        if meanwhile == "renewed":
            self.made.append(world.renew())
        elif meanwhile == "missed":
            self.made.append(world.renew(reported=False))
            world.missed()
        elif meanwhile is not None:
            world.revoke(USER, NOW + meanwhile)
        try:
            first = world.delivery.opened(state)
        except errors.TicketRevoked:
            assert state[0].issued_at <= world.delivery.dead_until
            return
        for write in first:
            world.take(write.current)
        world.live()
        # What came meanwhile is asked for at once.
        news = meanwhile == "renewed" and self.made[-1].issued_at > claim
        assert (USER in world.asked) == (news or meanwhile == "missed")

    @rule(holder=holders, reported=st.booleans(), along=st.booleans(), wide=st.booleans())
    def renew(self, holder, reported, along, wide):
        made = self.world.renew(holder, reported=False)
        self.made.append(made)
        if reported:
            self.world.receive(made, along=along, wide=wide)

    @rule(which=st.integers(0, 30), along=st.booleans())
    def repeat_an_event(self, which, along):
        self.world.receive(self.made[which % len(self.made)], along=along)

    @rule()
    def look(self):
        self.world.look()

    @rule(works=st.booleans())
    def lookups(self, works):
        self.world.works = works

    @rule(blocked=st.booleans())
    def client(self, blocked):
        self.world.blocked = blocked

    @rule(back=st.integers(0, 2), more=st.sampled_from([0, 0, 0, 7]))
    def ack(self, back, more):
        if sigs := self.world.sigs:
            self.world.ack(sigs[-1 - min(back, len(sigs) - 1)] + more)

    @rule(seconds=st.integers(1, 90), look=st.booleans())
    def time_passes(self, seconds, look):
        self.world.pass_time(seconds, look=look)

    @rule(seconds=st.integers(-300, 300))
    def the_clock_steps(self, seconds):
        self.world.now += seconds

    @rule(seconds=st.integers(0, 60))
    def events_are_lost(self, seconds):
        self.world.missed(seconds)

    @rule(age=st.integers(0, 3))
    def revoke_room(self, age):
        if ROOM in self.world.newest:
            self.world.revoke(ROOM, self.world.newest.pop(ROOM).issued_at - age)

    @rule(age=st.sampled_from([-1, *[0, 1, 2, 3] * 3]), widely=st.booleans())
    def revoke(self, age, widely):
        """Most are older than what the client holds, since a newer one ends the run."""
        at, world = self.world.newest[USER].issued_at - 1 - age, self.world
        if widely:
            world.carry_out(world.delivery.revoked_widely(at, 5, world.moment))
        else:
            world.revoke(USER, at)

    @invariant()
    def it_wakes_in_time(self):
        self.world.check()

    def teardown(self):
        """Faults end; what was lost is reported as missed."""
        world = self.world
        if self.delivery.phase is OPEN:
            world.works, world.blocked = True, False
            world.missed()
            world.pass_time(400)
        if self.delivery.phase is OPEN:
            newest = world.newest[USER].issued_at
            assert self.delivery.own.floor >= newest
            assert newest in world.sigs or self.delivery.own.acked >= newest
            room = world.newest.get(ROOM)
            if room and self.delivery.rooms and room.issued_at > self.delivery.dead_until:
                assert self.delivery.rooms[0].sent == room.issued_at
            assert not world.lapsed


StreamLife.TestCase.settings = settings(max_examples=200, stateful_step_count=30, deadline=None)
TestStreamLife = StreamLife.TestCase
