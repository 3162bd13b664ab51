"""A revocation is absolute: whatever comes in whatever order, nothing dead is handed out.

Two processes over one database and one Redis, with all that a process keeps in memory: what
it knows of revocations, its near cache, its keys. Between their steps Redis refuses writes,
loses them in silence, is wiped, and gets older values back as after a fail-over. No event of
a channel ever arrives. Checked at each hand-out (rule 19):

- the process that answered a revocation hands out nothing at or below it from then on,
- another one does not from its next look on,
- a sig off a tainted key is not handed out once its replacement was answered.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sigmgr.cache.near import NearCache
from sigmgr.flow.assembly import Ports, assemble
from sigmgr.flow.look import Look
from sigmgr.flow.revocations import Revocations
from sigmgr.http.sig import sig
from sigmgr.keys.ring import KeyRing
from sigmgr.model import errors
from sigmgr.model.holder import Holder, Room
from sigmgr.model.sig import Current, KeyState
from sigmgr.model.ticket import Tickets
from sigmgr.ports import Announcement
from sigmgr.store.stores import SqlStore
from tests.flow.world import APP, World, open_world

ROOM = Room(id=7)
TICKETS = Tickets(b"t" * 32)
GRACE = 60


class FlakyCache:
    """Redis as it may be: it takes writes, refuses them, or loses them in silence."""

    def __init__(self, cache: Any, announcer: Any) -> None:
        self._cache = cache
        self._announcer = announcer
        self.mood = "well"

    async def get(self, holders: Sequence[Holder]) -> list[Current | None]:
        found: list[Current | None] = await self._cache.get(holders)
        return found

    async def put(self, currents: Sequence[Current], now: int) -> None:
        self._refuse()
        if self.mood == "well":
            await self._cache.put(currents, now)

    async def announce(self, batch: Sequence[Announcement], now: int) -> list[bool]:
        self._refuse()
        if self.mood == "loses":
            return [True] * len(batch)
        shown: list[bool] = await self._announcer.announce(batch, now)
        return shown

    def _refuse(self) -> None:
        if self.mood == "refuses":
            raise errors.CacheUnavailable


class Process:
    """All that a process holds, its single get as a backend asks for it included."""

    def __init__(self, world: World, cache: FlakyCache, seconds: Callable[[], float]) -> None:
        self.world = world
        self.revocations = Revocations(seconds, grace=GRACE)
        self.near: NearCache[bytes] = NearCache()
        self.near.channel(True, world.clock())
        self.revocations.add(self.near)
        self.ring = KeyRing(world.catalog.sealed_keys, world.master, monotonic=seconds)
        store: Any = SqlStore(world.store._engine, self.revocations.until)
        self.flows = assemble(
            Ports(
                registry=world.apps,
                store=store,
                looks=world.looks,
                outbox=world.outbox,
                janitor=world.janitor,
                cache=cache,
                announcer=cache,
                signer=self.ring,
                draw=world.draw,
                revocations=self.revocations,
            ),
            gather_acks_for=0.0,
        )
        self.look = Look(
            looks=world.looks,
            revocations=self.revocations,
            signer=self.ring,
            monotonic=seconds,
            learned=lambda _: self.near.trust(world.clock() + GRACE),
            keys_changed=lambda: self.near.resync(0),
        )
        self.services: Any = SimpleNamespace(
            clock=world.clock,
            issue=self.flows.issue,
            near=self.near,
            near_ttl=30,
            tickets=TICKETS,
            stream_url="",
        )

    async def start(self) -> None:
        await self.ring.refresh()
        await self.look.load(self.world.clock())

    async def get(self, user: Holder) -> int:
        answer: list[dict[str, Any]] = []

        async def send(message: dict[str, Any]) -> None:
            answer.append(message)

        scope = {"path_params": {"sdkappid": str(user.sdkappid), "userid": user.userid}}
        await sig(self.services, scope, None, send)  # type: ignore[arg-type]
        issued_at: int = json.loads(answer[1]["body"])["issued_at"]
        return issued_at


class Case:
    """One user, two processes, and what each of them must not hand out any more."""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.user = Holder(APP, name)
        self.cache = FlakyCache(world.cache, world.announcer)
        self.seconds = 1000.0
        self.processes = [Process(world, self.cache, lambda: self.seconds) for _ in range(2)]
        self.dead_at = [0, 0]
        self.answered = 0
        self.tainted = 0
        self.kept: dict[bytes, bytes] = {}

    async def start(self) -> None:
        for process in self.processes:
            await process.start()

    async def step(self, what: str, who: int) -> None:
        process, now = self.processes[who], self.world.clock()
        try:
            await getattr(self, what)(process, who, now)
        except (errors.UnavailableError, errors.RevokePause, errors.TicketRevoked):
            pass
        except errors.BadSig as error:
            assert error.reason is errors.SigReason.REVOKED

    def check(self, who: int, issued_at: int, holder: Holder | None = None) -> None:
        dead = self.dead_at[who]
        if holder in (None, self.user):
            dead = max(dead, self.tainted)
        assert issued_at > dead, f"{issued_at} of {dead} by {who}"
        COUNTS["handed out"] += 1

    # -- what is handed out ---------------------------------------------------------------

    async def get(self, process: Process, who: int, now: int) -> None:
        self.check(who, await process.get(self.user))

    async def reissue(self, process: Process, who: int, now: int) -> None:
        self.check(who, (await process.flows.issue.reissue(self.user, now)).issued_at)

    async def room(self, process: Process, who: int, now: int) -> None:
        made = await process.flows.room_keys.current(
            APP, self.user.userid, ROOM, privileges=255, ttl=None, now=now
        )
        self.check(who, made.issued_at, made.holder)

    async def latest(self, process: Process, who: int, now: int) -> None:
        room = Holder(APP, self.user.userid, "room", ROOM.scope)
        found = await process.flows.deliver.latest([self.user, room], now)
        for one in found:
            if isinstance(one, Current):
                self.check(who, one.issued_at, one.holder)

    async def opened(self, process: Process, who: int, now: int) -> None:
        found = await process.flows.deliver.opened(self.user, self.dead_at[who] + 1, now)
        for one in found:
            self.check(who, one.issued_at, one.holder)

    async def old_ticket(self, process: Process, who: int, now: int) -> None:
        if self.dead_at[who]:
            with pytest.raises(errors.SigmgrError):
                await process.flows.deliver.opened(self.user, self.dead_at[who], now)

    async def verify(self, process: Process, who: int, now: int) -> None:
        [row] = await self.world.store.find([self.user])
        if row is not None and row.issued_at:
            [text] = await process.ring.sign([row.facts])
            assert isinstance(text, str)
            answer = await process.flows.verify.sig(APP, text, now=now)
            self.check(who, answer.decoded.issued_at)

    # -- what happens ---------------------------------------------------------------------

    async def revoke(self, process: Process, who: int, now: int) -> None:
        done = await process.flows.revoke.user(APP, self.user.userid, now)
        self.answered = max(self.answered, done.revoked_at)
        self.dead_at[who] = max(self.dead_at[who], done.revoked_at)

    async def revoke_all(self, process: Process, who: int, now: int) -> None:
        until = await process.flows.revoke.everybody(APP, now)
        self.answered = max(self.answered, until)
        self.dead_at[who] = max(self.dead_at[who], until)

    async def look(self, process: Process, who: int, now: int) -> None:
        await process.look.once(now)
        self.dead_at[who] = self.answered

    async def taint(self, process: Process, who: int, now: int) -> None:
        """A taint, its replacement, and a look of the other: the one before is dead for both."""
        [row] = await self.world.store.find([self.user])
        if row is None or not row.issued_at:
            return
        await self.world.add_key(APP)
        await self.world.catalog.set_key_state(APP, row.key_id, KeyState.TAINTED, now)
        for one in self.processes:
            await one.look.once(now)
        self.dead_at = [self.answered, self.answered]
        made = await process.flows.issue.reissue(self.user, now)
        if made.key_id != row.key_id:
            self.tainted = max(self.tainted, row.issued_at)

    async def sweep(self, process: Process, who: int, now: int) -> None:
        await process.flows.relay.sweep(now, grace=0)
        await process.flows.publisher.flush()

    async def reconcile(self, process: Process, who: int, now: int) -> None:
        await process.flows.reconcile.step(now)

    async def renew(self, process: Process, who: int, now: int) -> None:
        await process.flows.renew.tick(now)

    async def pass_time(self, process: Process, who: int, now: int) -> None:
        self.world.clock.advance(3)
        self.seconds += 3

    async def redis_refuses(self, process: Process, who: int, now: int) -> None:
        self.cache.mood = "refuses"

    async def redis_loses(self, process: Process, who: int, now: int) -> None:
        self.cache.mood = "loses"

    async def redis_is_well(self, process: Process, who: int, now: int) -> None:
        self.cache.mood = "well"

    async def redis_remembers(self, process: Process, who: int, now: int) -> None:
        keys = await self.world.redis.run(lambda client: client.keys("sm:*:[so]:*"))
        for key in keys:
            value = await self.world.redis.run(lambda client, key=key: client.get(key))
            self.kept[key] = value

    async def redis_gets_back(self, process: Process, who: int, now: int) -> None:
        for key, value in self.kept.items():
            await self.world.redis.run(lambda c, key=key, value=value: c.set(key, value, ex=9999))

    async def redis_wiped(self, process: Process, who: int, now: int) -> None:
        await self.world.redis.run(lambda client: client.flushall())


OUT = ["get", "reissue", "room", "latest", "opened", "old_ticket", "verify"]
HAPPEN = ["revoke", "revoke_all", "look", "taint", "sweep", "reconcile", "renew", "pass_time"]
REDIS = [
    "redis_refuses",
    "redis_loses",
    "redis_is_well",
    "redis_remembers",
    "redis_gets_back",
    "redis_wiped",
]
STEP = st.tuples(
    st.sampled_from([*OUT, *HAPPEN, *REDIS, "get", "get", "revoke", "look"]), st.integers(0, 1)
)


@pytest.fixture(scope="module")
def stage(tmp_path_factory):
    """One world for all examples, on a loop that they share."""
    with asyncio.Runner() as runner:
        opening = open_world(tmp_path_factory.mktemp("absolute"))
        world = runner.run(opening.__aenter__())
        yield runner, world
        runner.run(opening.__aexit__(None, None, None))


#: How much was tried: examples, and what was handed out in them.
COUNTS: Counter[str] = Counter()


async def play(world: World, steps: Sequence[tuple[str, int]]) -> None:
    COUNTS["examples"] += 1
    world.clock.advance(100)
    case = Case(world, f"user{COUNTS['examples']}")
    await case.start()
    try:
        for what, who in steps:
            await case.step(what, who)
        # At last both look, and are asked once more; and nobody stays shut out.
        for who in (0, 1):
            for what in ("look", *OUT):
                await case.step(what, who)
        world.clock.advance(20)
        case.seconds += 20
        for who, process in enumerate(case.processes):
            await process.look.once(world.clock())
            case.check(who, await process.get(case.user))
    finally:
        for process in case.processes:
            await process.ring.aclose()


@given(st.lists(STEP, min_size=3, max_size=25))
@example([("get", 0), ("redis_refuses", 0), ("revoke", 0), ("get", 0)])
@example([("get", 0), ("get", 1), ("redis_refuses", 0), ("revoke", 0), ("pass_time", 0),
          ("reissue", 0), ("look", 1), ("get", 1)])  # fmt: skip
@example([("get", 0), ("redis_remembers", 0), ("revoke", 0), ("look", 1),
          ("redis_gets_back", 0), ("get", 1), ("get", 0)])  # fmt: skip
@example([("get", 0), ("get", 1), ("revoke_all", 0), ("look", 1), ("get", 1), ("latest", 1)])
@example([("get", 0), ("get", 1), ("redis_refuses", 0), ("taint", 0), ("get", 1)])
def test_nothing_dead_is_handed_out(stage, steps) -> None:
    runner, world = stage
    runner.run(play(world, steps))


@pytest.mark.slow
@pytest.mark.timeout(900)
@settings(max_examples=1000)
@given(st.lists(STEP, min_size=3, max_size=25))
def test_nor_in_a_thousand_lives(stage, steps) -> None:
    runner, world = stage
    runner.run(play(world, steps))
