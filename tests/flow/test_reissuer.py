"""The shared tail: what is signed, what is written, and what becomes of failures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
from structlog.testing import capture_logs

from sigmgr.flow.commit import once_more
from sigmgr.flow.reissuer import Batch, Choice, OnFailure, Reissue, Reissuer
from sigmgr.model import errors
from sigmgr.model.event import EventType
from sigmgr.model.holder import Holder
from sigmgr.model.policy import Policy
from sigmgr.model.sig import Current, KeyState, Reason, Record, SigFacts, past_of
from sigmgr.ports import Transaction
from sigmgr.telemetry import ISSUED
from tests.flow.world import ALICE, APP, DAY, OTHER, World

BOB = Holder(APP, "bob")


@pytest.fixture
def reissuer(world: World) -> Reissuer:
    return world.flows.issue.reissuer


async def run(
    reissuer: Reissuer,
    now: int,
    *users: Holder,
    on_failure: OnFailure = OnFailure.ANSWER,
    **more: object,
) -> Batch:
    """The users' next sigs, forced; ``more`` as of a :class:`Reissue`."""
    base = Reissue(Record(*ALICE), Reason.FORCED, Policy())._replace(**more)  # type: ignore[arg-type]

    async def choose(tx: Transaction, _: Sequence[Record]) -> Choice:
        return Choice([base._replace(record=record) for record in await tx.lock(users)])

    return await reissuer.reissue(choose, now, on_failure)


def signs_not(world: World, *userids: str) -> None:
    """Nothing is signed for these."""
    real = world.ring.sign

    async def sign(batch: Sequence[SigFacts]) -> list[str | errors.SigmgrError]:
        return [
            errors.SigningFailed() if facts.holder.userid in userids else result
            for facts, result in zip(batch, await real(batch), strict=True)
        ]

    world.ring.sign = sign  # type: ignore[method-assign]


async def events(world: World) -> list[tuple[str, Holder, str]]:
    async with world.outbox.take(99, world.clock()) as found:
        return [(one.type, one.holder, one.note) for one in found]


async def test_each_sig_is_written_with_one_event(world: World, reissuer: Reissuer) -> None:
    first = await run(reissuer, world.clock(), ALICE)
    second = await run(reissuer, world.clock.advance(60), ALICE, BOB)
    assert [one.made for one in second.outcomes] == [True, True]
    assert await events(world) == [
        (EventType.ISSUED.value, ALICE, ""),
        (EventType.RENEWED.value, ALICE, ""),
        (EventType.ISSUED.value, BOB, ""),
    ]
    row, answers = await world.row(), second.answers()
    answer = answers[ALICE]
    assert isinstance(answer, Current)
    assert (row.issued_at, row.expires_at, row.renew_at, row.reason) == (
        answer.issued_at, answer.expires_at, answer.renew_at, "Forced",
    )  # fmt: skip
    assert (row.due_at, row.seen_at) == (row.renew_at, 0)
    [past] = past_of(row)
    assert past == (first.outcomes[0].record.issued_at, 90 * DAY, row.key_id, "Forced")


async def test_it_is_announced_soon(world: World, reissuer: Reissuer) -> None:
    batch = await run(reissuer, world.clock(), ALICE)
    await world.flows.publisher.flush()
    assert await world.cache.get([ALICE]) == [batch.outcomes[0].answer]
    assert await world.outbox.depth(world.clock()) == (0, 0)


async def test_the_next_is_newer_than_all_that_was(world: World, reissuer: Reissuer) -> None:
    now = world.clock()
    await run(reissuer, now, ALICE)
    assert (await run(reissuer, now - 60, ALICE)).outcomes[0].record.issued_at == now + 1
    batch = await run(reissuer, now, ALICE, newer_than=now + 100)
    assert batch.outcomes[0].record.issued_at == now + 101


async def test_it_ends_later_than_the_last_unless_that_was_revoked(
    world: World, reissuer: Reissuer
) -> None:
    short = replace(Policy(), ttl=DAY)
    old = (await run(reissuer, world.clock(), ALICE)).outcomes[0].record
    new = (await run(reissuer, world.clock.advance(60), ALICE, policy=short)).outcomes[0].record
    assert new.expires_at == old.expires_at + 1
    await world.flows.revoke.user(APP, "alice", world.clock())
    new = (await run(reissuer, world.clock.advance(60), ALICE, policy=short)).outcomes[0].record
    assert new.expires_at == world.clock() + DAY


async def test_what_happens_to_one_reissue_counts(world: World, reissuer: Reissuer) -> None:
    now, reissuer.draw = world.clock(), lambda: 0.0
    batch = await run(reissuer, now, ALICE, ttl=DAY, privileges=7, seen=True, first_generation=True)
    row = await world.row()
    assert (row.expires_at - now, row.privileges, row.seen_at) == (DAY, 7, now)
    assert row.renew_at == now + int(DAY * 0.22)
    await run(reissuer, now + 60, ALICE)
    row = await world.row()
    assert row.privileges == 7, "as before where nothing is given"
    assert row.renew_at == now + 60 + int(90 * DAY * 0.60)
    assert batch.outcomes[0].reissue.seen


async def test_one_that_fails_fails_no_other(world: World, reissuer: Reissuer) -> None:
    signs_not(world, "bob")
    batch = await run(reissuer, world.clock(), ALICE, BOB)
    answers = batch.answers()
    assert isinstance(answers[ALICE], Current)
    assert isinstance(answers[BOB], errors.SigningFailed)
    assert (await world.row(BOB)).issued_at == 0
    assert await events(world) == [(EventType.ISSUED.value, ALICE, "")]


async def test_a_failure_that_is_raised_leaves_nothing(world: World, reissuer: Reissuer) -> None:
    signs_not(world, "bob")
    with pytest.raises(errors.SigningFailed):
        await run(reissuer, world.clock(), ALICE, BOB, on_failure=OnFailure.RAISE)
    assert await world.store.find([ALICE, BOB]) == [None, None]
    assert await events(world) == []


async def test_a_failure_is_written_with_the_time_of_the_next_try(
    world: World, reissuer: Reissuer
) -> None:
    before = (await run(reissuer, world.clock(), BOB)).outcomes[0].record
    await world.flows.publisher.flush()
    now = world.clock.advance(70 * DAY)
    signs_not(world, "bob")
    await run(reissuer, now, ALICE, BOB, on_failure=OnFailure.BACK_OFF)
    row = await world.row(BOB)
    assert row == before._replace(failures=1, last_error="signing-failed", due_at=row.due_at)
    assert row.due_at is not None
    assert now + 30 <= row.due_at <= now + 90
    assert sorted(await events(world)) == [
        (EventType.ISSUED.value, ALICE, ""),
        (EventType.RENEWAL_FAILED.value, BOB, "signing-failed"),
    ]


async def test_what_waits_for_the_clocks_is_no_failure(world: World, reissuer: Reissuer) -> None:
    before = (await run(reissuer, world.clock(), BOB)).outcomes[0].record
    await world.flows.publisher.flush()
    world.ordinary = False
    now = world.clock.advance(70 * DAY)
    batch = await run(reissuer, now, BOB, on_failure=OnFailure.BACK_OFF)
    assert isinstance(batch.answers()[BOB], errors.ClockApart)
    assert await world.row(BOB) == before
    assert await events(world) == []
    now = world.clock.advance(16 * DAY)
    assert (await run(reissuer, now, BOB, on_failure=OnFailure.BACK_OFF)).outcomes[0].made


async def test_an_app_without_a_key_fails_alone(world: World, reissuer: Reissuer) -> None:
    await world.catalog.add_app(OTHER, policy=Policy(), now=world.clock())
    await world.apps.refresh()
    other = Holder(OTHER, "carol")
    answers = (await run(reissuer, world.clock(), ALICE, other)).answers()
    assert isinstance(answers[ALICE], Current)
    assert isinstance(answers[other], errors.NoSigningKey)


async def test_a_key_that_is_no_longer_active_signs_nothing(
    world: World, reissuer: Reissuer
) -> None:
    """The keys are loaded anew and it is tried once more; the second time it is an error."""
    [key] = await world.catalog.list_keys(APP)
    await world.catalog.set_key_state(APP, key.key_id, KeyState.TAINTED, world.clock())
    world.plan.calls.clear()
    answers = (await run(reissuer, world.clock(), ALICE)).answers()
    assert type(answers[ALICE]) is errors.NoSigningKey
    assert world.plan.calls.count(("signer.refresh", "after")) == 1
    assert (await world.row()).issued_at == 0


async def test_a_row_that_is_not_the_one_that_was_read_is_not_written(
    world: World, reissuer: Reissuer
) -> None:
    old = (await run(reissuer, world.clock(), ALICE)).outcomes[0].record

    async def stale(tx: Transaction, _: Sequence[Record]) -> Choice:
        [record] = await tx.lock([ALICE])
        before = record._replace(issued_at=record.issued_at - 1)
        return Choice([Reissue(before, Reason.FORCED, Policy())])

    with pytest.raises(errors.StoreUnavailable, match="fenced"):
        await reissuer.reissue(stale, world.clock.advance(60))
    assert await world.row() == old


async def test_only_what_may_be_gone_is_tried_once_more() -> None:
    tries: list[int] = []

    async def case(*raised: type[errors.SigmgrError]) -> int:
        tries.append(len(tries))
        if len(tries) <= len(raised):
            raise raised[len(tries) - 1]
        return len(tries)

    for error in (errors.ConnectionLost, errors.CommitUnknown):
        tries.clear()
        assert await once_more(lambda error=error: case(error)) == 2  # type: ignore[misc]
        tries.clear()
        with pytest.raises(error):
            await once_more(lambda error=error: case(error, error))  # type: ignore[misc]
        assert len(tries) == 2
    for error in (errors.StoreUnavailable, errors.KeyChanged):
        tries.clear()
        with pytest.raises(error):
            await once_more(lambda error=error: case(error))  # type: ignore[misc]
        assert len(tries) == 1


async def test_what_was_made_and_what_failed_is_counted(world: World, reissuer: Reissuer) -> None:
    signs_not(world, "bob")
    results = [ISSUED.labels(str(APP), "Forced", result) for result in ("ok", "failed", "held")]
    before = [one._value.get() for one in results]
    await run(reissuer, world.clock(), ALICE, BOB)
    counted = [one._value.get() - was for one, was in zip(results, before, strict=True)]
    assert counted == [1, 1, 0]


async def calls_of(
    world: World, reissuer: Reissuer, choice: Callable[[Record], Choice]
) -> list[str]:
    """What a commit of this choice asks of the store and the signer."""

    async def choose(tx: Transaction, _: Sequence[Record]) -> Choice:
        [record] = await tx.lock([ALICE])
        return choice(record)

    world.plan.calls.clear()
    await reissuer.commit(choose, world.clock(), OnFailure.ANSWER)
    return [name for name, moment in world.plan.calls if moment == "before"]


async def test_only_what_there_is_to_do_is_done(world: World, reissuer: Reissuer) -> None:
    await run(reissuer, world.clock(), ALICE)
    await world.flows.publisher.flush()
    world.clock.advance(60)
    begin = ["store.transaction", "store.transaction.lock"]
    end = ["store.transaction.commit"]

    def nothing(record: Record) -> Choice:
        return Choice(keep=[record])

    def moved(record: Record) -> Choice:
        return Choice(moved=[(record._replace(due_at=world.clock()), record.issued_at)])

    def forced(record: Record) -> Choice:
        return Choice([Reissue(record, Reason.FORCED, Policy())])

    assert await calls_of(world, reissuer, nothing) == begin + end
    save = "store.transaction.save"
    signed = ["signer.active_key", "store.transaction.signing_states"]
    assert await calls_of(world, reissuer, moved) == [*begin, save, *end]
    assert (await world.row()).due_at == world.clock()
    assert await calls_of(world, reissuer, forced) == [
        *begin, *signed, "signer.sign", save, "store.transaction.append", *end,
    ]  # fmt: skip
    signs_not(world, "alice")
    world.clock.advance(60)
    assert await calls_of(world, reissuer, forced) == [*begin, *signed, "signer.sign", *end]
    world.ordinary = False
    assert await calls_of(world, reissuer, forced) == [*begin, *signed, *end], "nothing to sign"


async def test_failures_are_reported_by_app_and_code(world: World, reissuer: Reissuer) -> None:
    signs_not(world, "alice", "bob")
    with capture_logs() as logs:
        for now in (world.clock(), world.clock.advance(3600)):
            await run(reissuer, now, ALICE, BOB, on_failure=OnFailure.BACK_OFF)
    lines = [(one["action"], one["app"], one["count"], one["code"]) for one in logs]
    assert lines == [("renewal-failed", APP, 2, "signing-failed")] * 2
    assert (await world.row()).failures == 2


async def test_what_waits_for_the_clocks_says_when_to_come_back_and_is_counted_as_held(
    world: World, reissuer: Reissuer
) -> None:
    world.ordinary = False
    held = ISSUED.labels(str(APP), "Forced", "held")
    before = held._value.get()
    answer = (await run(reissuer, world.clock(), ALICE)).answers()[ALICE]
    assert isinstance(answer, errors.ClockApart)
    assert answer.retry_after
    assert held._value.get() - before == 1


async def test_a_sighting_is_never_set_back(world: World, reissuer: Reissuer) -> None:
    await run(reissuer, world.clock(), ALICE, seen=True)
    later = world.clock() + 600
    await world.store.mark_seen([(ALICE, later)])
    await run(reissuer, world.clock.advance(60), ALICE, seen=True)
    assert (await world.row()).seen_at == later
    await run(reissuer, world.clock.advance(3600), ALICE)
    assert (await world.row()).seen_at == later
