"""Verifying: what this process knows is believed while it is fresh, else SQL is asked."""

from __future__ import annotations

import pytest

from sigmgr.model import errors
from sigmgr.model.holder import Holder
from sigmgr.model.revocation import Revocation
from sigmgr.model.sig import Current
from tests.flow.world import ALICE, APP, DAY, World


@pytest.fixture
async def sig(world: World) -> Current:
    current = await world.flows.issue.current(ALICE, world.clock())
    world.plan.calls.clear()
    return current


def asked(world: World) -> int:
    return world.plan.calls.count(("looks.revoked_until", "before"))


async def verified(world: World, sig: Current, userid: str | None = "alice") -> None:
    found = await world.flows.verify.sig(APP, sig.usersig, now=world.clock(), userid=userid)
    assert found.decoded.userid == "alice"


def revoked(world: World, until: int, userid: str = "alice") -> None:
    world.revocations.learn([Revocation(APP, userid, until, until + 99 * DAY)])


async def test_a_good_sig_is_good_without_a_look_into_sql(world: World, sig: Current) -> None:
    await verified(world, sig)
    await verified(world, sig, userid=None)
    revoked(world, sig.issued_at, "bob")
    revoked(world, sig.issued_at - 1)
    await verified(world, sig)
    assert asked(world) == 0


async def test_one_that_is_known_to_be_revoked_needs_no_sql_either(
    world: World, sig: Current
) -> None:
    revoked(world, sig.issued_at)
    world.revocations.grace = -1.0
    with pytest.raises(errors.BadSig, match=f"up to {sig.issued_at} was revoked") as refused:
        await verified(world, sig)
    assert refused.value.reason is errors.SigReason.REVOKED
    assert asked(world) == 0


async def test_without_a_fresh_look_sql_decides(world: World, sig: Current) -> None:
    world.revocations.grace = -1.0
    await verified(world, sig)
    assert asked(world) == 1
    await world.process().revoke.user(APP, "alice", sig.issued_at)
    world.flows = world.process()
    world.revocations.grace = -1.0
    with pytest.raises(errors.BadSig, match="revoked"):
        await verified(world, sig)
    assert asked(world) == 2


async def test_where_neither_answers_it_is_no_verdict(world: World, sig: Current) -> None:
    def away(name: str, moment: str) -> None:
        if name == "looks.revoked_until":
            raise errors.StoreUnavailable

    world.plan.fail = away
    await verified(world, sig)
    world.revocations.grace = -1.0
    with pytest.raises(errors.StoreUnavailable):
        await verified(world, sig)


async def test_the_sig_of_another_user_is_a_bad_one(world: World, sig: Current) -> None:
    with pytest.raises(errors.BadSig):
        await verified(world, sig, userid="bob")
    assert Holder(APP, "alice") == sig.holder
