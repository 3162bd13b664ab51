"""Requests: one flight, nothing short, nothing failed that could be served."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from sigmgr.keys.sealing import key_context
from sigmgr.model import errors
from sigmgr.model.holder import Holder, Room
from sigmgr.model.revocation import Revocation
from sigmgr.model.sig import Current, KeyState, Reason, past_of
from tests.flow.world import ALICE, APP, DAY, World


async def test_the_first_get_issues_and_the_next_ones_answer_the_same(world: World) -> None:
    first = await world.flows.issue.current(ALICE, world.clock())
    await world.flows.publisher.flush()
    world.clock.advance(5)
    again = await world.flows.issue.current(ALICE, world.clock())
    assert again.usersig == first.usersig
    output = await world.ring.verify(APP, first.usersig, now=world.clock(), userid="alice")
    assert output.fields()["expires_at"] == first.expires_at == first.issued_at + 90 * DAY
    await world.check()


async def test_many_at_once_in_several_processes_make_one_sig(world: World) -> None:
    processes = [world.process() for _ in range(4)]
    answers = await asyncio.gather(
        *(p.issue.current(ALICE, world.clock()) for p in processes for _ in range(10))
    )
    assert len({answer.usersig for answer in answers}) == 1
    assert world.invariants.made == 1


async def test_a_batch_answers_in_order_with_duplicates_and_an_error_where_one_failed(
    world: World,
) -> None:
    foreign = Holder(77, "bob")
    users = [Holder(APP, f"u{i}") for i in range(30)]
    asked = [users[3], foreign, *users, users[3]]
    answers = await world.flows.issue.many(asked, world.clock())
    assert isinstance(answers[1], errors.AppUnknown)
    for holder, answer in zip(asked, answers, strict=True):
        if holder != foreign:
            assert isinstance(answer, Current)
            assert answer.holder == holder
    assert world.invariants.made == 30


async def test_nobody_gets_a_sig_with_little_left_while_a_better_one_can_be_made(
    world: World,
) -> None:
    first = await world.flows.issue.current(ALICE, world.clock())
    await world.flows.publisher.flush()
    world.clock.now = first.expires_at - DAY + 1
    second = await world.flows.issue.current(ALICE, world.clock())
    assert second.issued_at == world.clock()
    assert (await world.row()).reason == Reason.EMERGENCY


async def test_where_signing_fails_the_old_sig_is_served_while_it_is_valid(world: World) -> None:
    first = await world.flows.issue.current(ALICE, world.clock())
    await world.flows.publisher.flush()

    def no_signing(name: str, moment: str) -> None:
        if name == "signer.sign":
            raise errors.SigningFailed

    world.plan.fail = no_signing
    world.clock.now = first.expires_at - 10
    assert (await world.flows.issue.current(ALICE, world.clock())).usersig == first.usersig
    world.clock.now = first.expires_at
    with pytest.raises(errors.SigningFailed):
        await world.flows.issue.current(ALICE, world.clock())


@pytest.mark.parametrize("error", [errors.NoSigningKey, errors.WrongMasterKey])
async def test_where_no_key_signs_a_due_sig_is_served_while_it_is_valid(
    world: World, error: type[errors.SigmgrError]
) -> None:
    first = await world.flows.issue.current(ALICE, world.clock())
    await world.redis.run(lambda client: client.flushdb())

    def no_key(name: str, moment: str) -> None:
        if name == "signer.active_key":
            raise error

    world.plan.fail = no_key
    world.clock.now = first.expires_at - 10
    assert (await world.flows.issue.current(ALICE, world.clock())).usersig == first.usersig
    world.clock.now = first.expires_at
    with pytest.raises(error):
        await world.flows.issue.current(ALICE, world.clock())


@pytest.mark.parametrize("room", [False, True])
async def test_who_is_dormant_and_asks_is_renewed_again(world: World, room: bool) -> None:
    ask = _room if room else _get
    first = await ask(world)
    await world.redis.run(lambda client: client.flushdb())
    before = await world.row(first.holder)
    async with world.store.transaction() as tx:
        await tx.lock([first.holder])
        await tx.save([(before._replace(due_at=None), before.issued_at)])
    assert (await ask(world)).usersig == first.usersig
    assert await world.row(first.holder) == before


async def test_a_dead_redis_slows_gets_and_fails_none(world: World) -> None:
    def no_cache(name: str, moment: str) -> None:
        if name.startswith("cache."):
            raise errors.CacheUnavailable

    world.plan.fail = no_cache
    first = await world.flows.issue.current(ALICE, world.clock())
    await world.flows.publisher.flush()
    world.clock.advance(1)
    assert (await world.flows.issue.current(ALICE, world.clock())).usersig == first.usersig
    assert (await world.outbox.depth(world.clock()))[0] == 1
    await world.settle()
    await world.check()


async def test_reissue_is_fenced_by_the_second_and_by_replaces(world: World) -> None:
    first = await world.flows.issue.current(ALICE, world.clock())
    same = await world.flows.issue.reissue(ALICE, world.clock())
    assert same.usersig == first.usersig
    world.clock.advance(1)
    second = await world.flows.issue.reissue(
        ALICE, world.clock(), replaces=first.issued_at, reason=Reason.FORCED
    )
    assert second.issued_at > first.issued_at
    with pytest.raises(errors.AlreadyReplaced):
        await world.flows.issue.reissue(ALICE, world.clock(), replaces=first.issued_at)


async def test_who_replaces_a_sig_that_never_was_gets_an_error(world: World) -> None:
    for create in (True, False):
        with pytest.raises(errors.ConflictError if create else errors.NotFoundError) as refused:
            await world.flows.issue.reissue(
                Holder(APP, "nobody"), world.clock(), replaces=5, create=create
            )
        assert "never" in refused.value.text or not create


async def test_a_reissue_that_may_not_create_makes_nobody(world: World) -> None:
    for replaces in (None, world.clock()):
        with pytest.raises(errors.HolderUnknown) as caught:
            await world.flows.issue.reissue(ALICE, world.clock(), replaces=replaces, create=False)
        assert '"create": true' in caught.value.advice
    assert await world.store.find([ALICE]) == [None]
    await world.flows.revoke.user(APP, ALICE.userid, world.clock())
    world.clock.advance(60)
    # Its row is a revocation's; a sig it never had.
    with pytest.raises(errors.HolderUnknown):
        await world.flows.issue.reissue(ALICE, world.clock(), create=False)
    first = await world.flows.issue.reissue(ALICE, world.clock(), create=True)
    world.clock.advance(1)
    second = await world.flows.issue.reissue(ALICE, world.clock(), create=False)
    assert second.issued_at > first.issued_at


async def test_a_clock_that_went_back_never_makes_an_older_sig(world: World) -> None:
    first = await world.flows.issue.current(ALICE, world.clock())
    world.clock.advance(-600)
    assert (await world.flows.issue.reissue(ALICE, world.clock())).usersig == first.usersig


async def test_a_tainted_key_signs_nothing_and_its_sigs_are_replaced(world: World) -> None:
    first = await world.flows.issue.current(ALICE, world.clock())
    [old] = await world.catalog.list_keys(APP)
    await world.catalog.set_key_state(APP, old.key_id, KeyState.TAINTED, world.clock())
    world.invariants.dead_keys.add(old.key_id)
    with pytest.raises(errors.NoSigningKey):
        # The ring of this process does not know yet; the transaction has.
        await world.flows.issue.current(Holder(APP, "bob"), world.clock())
    new = await world.add_key(APP)
    world.clock.advance(1)
    answer = await world.fresh(ALICE)
    assert isinstance(answer, Current)
    assert (answer.key_id, answer.issued_at) == (new.key_id, first.issued_at + 1)
    assert (await world.row()).reason == Reason.KEY_TAINTED


async def test_a_key_that_another_process_activated_is_used_at_once(world: World) -> None:
    await world.flows.issue.current(ALICE, world.clock())
    material = b"7" * 64
    new = await world.catalog.add_key(
        APP,
        format="v2",
        curve="",
        fingerprint="7777777777777777",
        state=KeyState.ACTIVE,
        seal=lambda key_id: world.master.seal(material, context=key_context(APP, key_id)),
        now=world.clock(),
    )
    world.clock.advance(1)
    answer = await world.flows.issue.reissue(ALICE, world.clock())
    assert answer.key_id == new.key_id


async def test_a_revoked_user_waits_for_a_later_second(world: World) -> None:
    await world.flows.issue.current(ALICE, world.clock())
    room = await world.flows.room_keys.current(
        APP, "alice", Room(id=5), privileges=255, ttl=None, now=world.clock()
    )
    await world.flows.publisher.flush()
    at = (await world.flows.revoke.user(APP, "alice", world.clock())).revoked_at
    assert await world.cache.get([ALICE, room.holder]) == [None, None]
    with pytest.raises(errors.RevokePause) as pause:
        await world.flows.issue.current(ALICE, world.clock())
    assert pause.value.retry_after == 2
    with pytest.raises(errors.RevokePause):
        await world.flows.room_keys.current(
            APP, "alice", Room(id=9), privileges=1, ttl=None, now=world.clock()
        )
    world.clock.advance(2)
    following = await world.flows.issue.current(ALICE, world.clock())
    assert following.issued_at >= at + 2
    assert (await world.row()).reason == Reason.REVOKED
    await world.settle()
    await world.check()


async def _get(world: World) -> Current:
    return await world.flows.issue.current(ALICE, world.clock())


async def _reissue(world: World) -> Current:
    return await world.flows.issue.reissue(ALICE, world.clock())


async def _room(world: World) -> Current:
    return await world.flows.room_keys.current(
        APP, "alice", Room(id=5), privileges=255, ttl=None, now=world.clock()
    )


async def _lost(world: World) -> Current:
    restored = world.flows.deliver.openings.restored
    return await restored.newer_than(ALICE, world.clock(), world.clock())


@pytest.mark.parametrize(
    ("ask", "call", "cached"),
    [
        (_get, "signer.key_state", True),
        (_get, "store.find", False),
        (_reissue, "store.transaction.commit", False),
        (_room, "store.transaction.commit", False),
        (_lost, "store.transaction.commit", False),
    ],
)
async def test_what_is_revoked_while_it_is_on_its_way_is_not_handed_out(
    world: World, ask: Callable[[World], Awaitable[Current]], call: str, cached: bool
) -> None:
    await world.flows.issue.current(ALICE, world.clock())
    await world.flows.publisher.flush()
    if not cached:
        await world.redis.run(lambda client: client.flushdb())
    world.clock.advance(60)

    def revoke(name: str, moment: str) -> None:
        if (name, moment) == (call, "after"):
            until = world.clock() + 1
            world.revocations.learn([Revocation(APP, "alice", until, until + 90 * DAY)])

    world.plan.fail = revoke
    with pytest.raises(errors.RevokePause) as pause:
        await ask(world)
    assert pause.value.retry_after == 2


async def test_a_room_key_is_kept_until_what_is_asked_changes(world: World) -> None:
    async def ask(privileges: int, ttl: int | None = None) -> Current:
        world.clock.advance(1)
        return await world.flows.room_keys.current(
            APP, "alice", Room(name="lobby"), privileges=privileges, ttl=ttl, now=world.clock()
        )

    first = await ask(255)
    assert (await ask(255)).usersig == first.usersig
    viewer = await ask(42)
    assert viewer.issued_at > first.issued_at
    assert (await world.row(viewer.holder)).reason == Reason.POLICY_CHANGED
    longer = await ask(42, 8 * 3600)
    assert longer.expires_at - longer.issued_at == 8 * 3600


async def test_past_sigs_are_remembered_newest_first_and_only_a_few(world: World) -> None:
    made = []
    for _ in range(8):
        made.append((await world.flows.issue.reissue(ALICE, world.clock())).issued_at)
        world.clock.advance(10)
    past = past_of(await world.row())
    assert [one.issued_at for one in past] == made[-2:-6:-1]
    assert {one.reason for one in past} <= {"ClientRequested", "Missing"}
