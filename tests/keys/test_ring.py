"""The key ring: order, states, loading, and a bad signer that harms nobody else."""

from __future__ import annotations

import asyncio
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sigmgr.keys import ring as ring_module
from sigmgr.keys.sealing import MasterKey
from sigmgr.model import errors, usersig
from sigmgr.model.errors import SigReason
from sigmgr.model.sig import Format, KeyRef, KeyState
from tests.keys.kit import APP, NOW, Ticks, Vault, facts, ring_over


@pytest.fixture
def vault():
    made = Vault()
    made.add(1)
    return made


@pytest.fixture
def ticks():
    return Ticks()


@pytest.fixture
async def ring(vault, ticks):
    made = ring_over(vault, ticks)
    yield made
    await made.aclose()


# Signing


@given(st.lists(st.tuples(st.sampled_from([1, 2, 3, 99]), st.integers(0, 9)), max_size=150))
def test_a_batch_is_answered_in_order_whatever_its_mix(wanted):
    vault = Vault()
    vault.add(1)
    vault.add(2, "v1")
    vault.add(3, state="tainted")
    batch = [facts(key_id, f"user{n}", "v1" if key_id == 2 else "v2") for key_id, n in wanted]

    async def case():
        ring = ring_over(vault, Ticks())
        try:
            return await ring.sign(batch)
        finally:
            await ring.aclose()

    results = asyncio.run(case())
    assert len(results) == len(batch)
    for one, result in zip(batch, results, strict=True):
        if one.key_id == 99:
            assert isinstance(result, errors.SigningFailed)
        else:
            found = usersig.verify(result, [vault.parsed[one.key_id]], now=NOW)
            assert found.userid == one.holder.userid


async def test_batches_that_run_together_keep_their_own_order(vault, ring):
    vault.add(2, "v1")
    batches = [
        [facts(1 + n % 2, f"u{b}-{n}", "v1" if n % 2 else "v2") for n in range(40)]
        for b in range(8)
    ]
    for batch, results in zip(batches, await asyncio.gather(*map(ring.sign, batches)), strict=True):
        assert [usersig.decode(one).userid for one in results] == [f.holder.userid for f in batch]


async def test_the_same_facts_give_the_same_sig_inline_and_in_a_thread(vault, ring):
    vault.add(2, "v1")
    for one in (facts(), facts(2, format_="v1")):
        [alone] = await ring.sign([one])
        assert set(await ring.sign([one] * 100)) == {alone}


async def test_room_sigs_carry_their_room(ring):
    [text] = await ring.sign([facts(kind="room", scope="name:lobby", mask=42)])
    assert usersig.decode(text).fields()["userbuf"]["room_name"] == "lobby"


async def test_an_empty_batch_is_an_empty_answer(ring):
    assert await ring.sign([]) == []


@pytest.mark.parametrize("state", list(KeyState))
async def test_a_key_in_any_state_derives(vault, ring, state):
    vault.turn(1, state)
    [text] = await ring.sign([facts()])
    assert isinstance(text, str)


async def test_facts_that_cannot_be_signed_fail_alone(vault, ring):
    vault.add(2, "v1")
    bad = [
        facts(userid="line\nend"),
        facts(2, format_="v2"),
        facts(app=APP + 1),
        facts(kind="room", scope="id:0", mask=1),
    ]
    results = await ring.sign([facts(), *bad, facts(userid="bob")])
    assert [type(one).__name__ for one in results] == [
        "str",
        "BadUserId",
        "SigningFailed",
        "SigningFailed",
        "BadRoom",
        "str",
    ]


@pytest.mark.parametrize("size", [1, 3, 200])
@pytest.mark.parametrize("format_", ["v1", "v2"])
async def test_a_wrong_result_leaves_nobody_but_its_own_item(
    vault, ring, monkeypatch, size, format_
):
    vault.add(2, format_)
    batch = [facts(2, f"user{n}", format_) for n in range(size)]
    ill = batch[size // 2]
    kind = type(usersig.FORMATS.named(format_))
    write = kind.write

    def faulty(self, claims, key):
        other = claims._replace(userid=b"mallory", quoted=b"mallory")
        return write(self, other if claims.userid == ill.holder.userid.encode() else claims, key)

    monkeypatch.setattr(kind, "write", faulty)
    results = await ring.sign(batch)
    for one, result in zip(batch, results, strict=True):
        assert isinstance(result, errors.SigningFailed if one == ill else str)


@pytest.mark.parametrize("fault", [ValueError("s3cret"), MemoryError(), errors.SigningFailed()])
async def test_a_signer_that_breaks_breaks_one_item(ring, monkeypatch, fault):
    sign = usersig.sign_checked

    def faulty(one, key):
        if one.holder.userid == "ill":
            raise fault
        return sign(one, key)

    monkeypatch.setattr(ring_module.usersig, "sign_checked", faulty)
    first, second, third = await ring.sign([facts(), facts(userid="ill"), facts()])
    assert isinstance(second, errors.SigningFailed)
    assert "s3cret" not in second.text
    assert second.__traceback__ is None
    assert first == third


async def test_a_large_batch_is_signed_off_the_loop(vault, ring, monkeypatch):
    vault.add(2, "v1")
    seen = set()
    sign = usersig.sign_checked

    def watched(one, key):
        seen.add(threading.current_thread())
        return sign(one, key)

    monkeypatch.setattr(ring_module.usersig, "sign_checked", watched)
    await ring.sign([facts(2, format_="v1")] * 100)
    assert threading.main_thread() not in seen


@pytest.mark.parametrize(("format_", "threads"), [("v1", 2), ("v2", 1)])
async def test_threads_share_what_they_do_outside_of_python(
    vault, ring, monkeypatch, format_, threads
):
    vault.add(2, format_)
    seen = set()
    sign = usersig.sign_checked
    both = threading.Barrier(threads)

    def watched(one, key):
        if threading.current_thread() not in seen:
            seen.add(threading.current_thread())
            both.wait(10)
        return sign(one, key)

    monkeypatch.setattr(ring_module.usersig, "sign_checked", watched)
    results = await ring.sign([facts(2, f"user{n}", format_) for n in range(500)])
    assert all(isinstance(one, str) for one in results)
    assert len(seen) == threads


async def test_the_loop_goes_on_while_a_thousand_sigs_are_signed(vault, ring):
    vault.add(2, "v1")
    await ring.refresh()
    ticked = 0

    async def tick():
        nonlocal ticked
        while True:
            await asyncio.sleep(0)
            ticked += 1

    ticking = asyncio.create_task(tick())
    results = await ring.sign([facts(2, f"user{n}", "v1") for n in range(1000)])
    ticking.cancel()
    assert all(isinstance(one, str) for one in results)
    assert ticked > 20


# States and loading


async def test_the_active_key_is_named(vault, ring):
    vault.add(2, "v1", "prepared")
    vault.add(3, "v1", "old", app=APP + 1)
    assert await ring.active_key(APP) == KeyRef(1, Format("v2"))
    assert await ring.key_state(APP, 2) is KeyState.PREPARED
    assert await ring.key_state(APP + 1, 3) is KeyState.OLD
    assert await ring.key_state(APP + 1, 1) is None
    for app in (APP + 1, APP + 2):
        with pytest.raises(errors.NoSigningKey):
            await ring.active_key(app)


@pytest.mark.parametrize("state", ["tainted", "revoked", "old"])
async def test_a_key_that_lost_its_state_signs_no_more_after_a_refresh(vault, ring, state):
    assert await ring.active_key(APP) == KeyRef(1, Format("v2"))
    vault.turn(1, state)
    await ring.refresh()
    with pytest.raises(errors.NoSigningKey):
        await ring.active_key(APP)
    assert await ring.key_state(APP, 1) is KeyState(state)


async def test_an_unknown_key_is_looked_for_once_a_second(vault, ring, ticks):
    await ring.refresh()
    ticks.now += 2
    for _ in range(5):
        [result] = await ring.sign([facts(2)])
        assert isinstance(result, errors.SigningFailed)
    assert vault.loads == 2
    vault.add(2)
    ticks.now += 1
    [result] = await ring.sign([facts(2)])
    assert isinstance(result, str)
    assert vault.loads == 3


async def test_callers_at_the_same_time_share_one_load(vault, ring):
    vault.gate = asyncio.Event()
    asked = [asyncio.create_task(ring.active_key(APP)) for _ in range(20)]
    await asyncio.sleep(0)
    vault.gate.set()
    assert set(await asyncio.gather(*asked)) == {KeyRef(1, Format("v2"))}
    assert vault.loads == 1


async def test_a_refresh_sees_what_was_there_when_it_was_asked(vault, ring):
    vault.gate = asyncio.Event()
    early = asyncio.create_task(ring.refresh())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    vault.add(2, state="prepared")
    late = asyncio.create_task(ring.refresh())
    await asyncio.sleep(0)
    vault.gate.set()
    await asyncio.gather(early, late)
    assert await ring.key_state(APP, 2) is KeyState.PREPARED
    assert vault.loads == 2


async def test_an_old_ring_answers_at_once_and_loads_beside(vault, ring, ticks):
    await ring.refresh()
    vault.turn(1, "old")
    vault.add(2)
    vault.gate = asyncio.Event()
    ticks.now += 6
    assert await ring.active_key(APP) == KeyRef(1, Format("v2"))
    vault.gate.set()
    await ring.refresh()
    assert await ring.active_key(APP) == KeyRef(2, Format("v2"))


async def test_a_store_that_is_away_leaves_the_ring_working(vault, ring, ticks):
    await ring.refresh()
    vault.fail = errors.StoreUnavailable()
    with pytest.raises(errors.StoreUnavailable):
        await ring.refresh()
    ticks.now += 60
    assert await ring.active_key(APP) == KeyRef(1, Format("v2"))
    [known, unknown] = await ring.sign([facts(), facts(2)])
    assert isinstance(known, str)
    assert isinstance(unknown, errors.SigningFailed)


async def test_a_load_that_hangs_does_not_hang_its_caller(vault, ring, monkeypatch):
    monkeypatch.setattr(ring_module, "LAZY_WAIT", 0.01)
    vault.gate = asyncio.Event()
    with pytest.raises(errors.NoSigningKey):
        await ring.active_key(APP)


async def test_a_load_that_hangs_for_long_keeps_nobody_waiting_any_more(vault, ring, ticks):
    await ring.refresh()
    vault.gate = asyncio.Event()
    assert ring_module.LAZY_WAIT <= 1
    ticks.now += 60
    await ring.active_key(APP)  # begins a load
    await asyncio.sleep(0)
    ticks.now += ring_module.LAZY_WAIT
    async with asyncio.timeout(0.5):
        for number in range(2, 1000):
            assert await ring.key_state(APP, number) is None
    assert vault.loads == 2
    vault.gate.set()


async def test_a_key_is_parsed_once(vault, ring, monkeypatch):
    opened = []
    monkeypatch.setattr(MasterKey, "open", _counting(MasterKey.open, opened))
    await ring.refresh()
    vault.turn(1, "old")
    vault.add(2)
    await ring.refresh()
    await ring.refresh()
    assert len(opened) == 2
    assert await ring.key_state(APP, 1) is KeyState.OLD


def _counting(function, calls):
    def call(*args):
        calls.append(args)
        return function(*args)

    return call


async def test_a_key_that_does_not_open_is_named_and_holds_up_no_other(vault, ring):
    vault.add(5, app=APP + 5, sealer=MasterKey(b"another master key of 32 bytes!!"))
    for _ in range(2):
        with pytest.raises(errors.WrongMasterKey, match=f"key 5 of app {APP + 5} "):
            await ring.refresh()
    with pytest.raises(errors.WrongMasterKey):
        await ring.active_key(APP + 5)
    good, bad = await ring.sign([facts(), facts(5, app=APP + 5)])
    assert isinstance(good, str)
    assert isinstance(bad, errors.WrongMasterKey)


async def test_a_key_moved_to_another_row_does_not_open(vault, ring):
    moved = vault.keys[1]
    vault.keys[2] = moved._replace(info=moved.info._replace(key_id=2))
    with pytest.raises(errors.WrongMasterKey, match="key 2"):
        await ring.refresh()


async def test_material_that_is_no_key_is_reported(vault, ring):
    vault.add(2, "v1")
    vault.keys[2] = vault.keys[2]._replace(info=vault.keys[2].info._replace(format="v2"))
    with pytest.raises(errors.SetupError, match="key 2 of app") as caught:
        await ring.refresh()
    assert "BEGIN" not in caught.value.text


async def test_a_key_whose_material_is_gone_keeps_its_state(vault, ring):
    vault.turn(1, "revoked")
    vault.keys[1] = vault.keys[1]._replace(sealed=b"")
    await ring.refresh()
    assert await ring.key_state(APP, 1) is KeyState.REVOKED
    [result] = await ring.sign([facts()])
    assert isinstance(result, errors.SigningFailed)


# Verifying


@pytest.mark.parametrize("state", ["prepared", "active", "old", "tainted"])
async def test_a_sig_is_verified_by_the_key_that_made_it(vault, ring, state):
    vault.turn(1, state)
    vault.add(2, "v1", "old")
    vault.add(3, "v2", "old")
    [text, other] = await ring.sign([facts(), facts(2, format_="v1")])
    found = await ring.verify(APP, text, now=NOW, userid="alice")
    assert (found.key_id, found.key_state) == (1, KeyState(state))
    assert found.fields()["key_state"] == state
    assert text not in str(found)
    assert (await ring.verify(APP, other, now=NOW)).key_id == 2


async def test_what_is_not_valid_is_refused_with_the_specific_reason(vault, ring):
    vault.add(2, "v1", "old")
    vault.add(9, app=APP + 1)
    [text, foreign] = await ring.sign([facts(), facts(9, app=APP + 1)])
    relabelled = usersig.sign(facts(), vault.parsed[9])
    for sig, now, userid, reason in [
        (text, NOW + 86400, None, SigReason.EXPIRED),
        (text, NOW, "bob", SigReason.WRONG_USER),
        (foreign, NOW, None, SigReason.WRONG_APP),
        (relabelled, NOW, None, SigReason.WRONG_KEY),
        ("eJ", NOW, None, SigReason.NOT_BASE64),
    ]:
        with pytest.raises(errors.BadSig) as caught:
            await ring.verify(APP, sig, now=now, userid=userid)
        assert caught.value.reason is reason


async def test_a_revoked_key_vouches_for_nothing(vault, ring):
    vault.add(2)
    [text] = await ring.sign([facts()])
    vault.turn(1, "revoked")
    await ring.refresh()
    with pytest.raises(errors.BadSig) as caught:
        await ring.verify(APP, text, now=NOW)
    assert caught.value.reason is SigReason.WRONG_KEY


async def test_an_app_without_keys_verifies_nothing(ring):
    with pytest.raises(errors.NoSigningKey):
        await ring.verify(APP + 1, "eJ", now=NOW)


# The end


async def test_a_closed_ring_reports_it(vault, ticks):
    ring = ring_over(vault, ticks)
    await ring.refresh()
    await ring.aclose()
    assert [type(one) for one in await ring.sign([facts()] * 2)] == [errors.Stopping] * 2
    assert await ring.active_key(APP) == KeyRef(1, Format("v2"))
    with pytest.raises(errors.Stopping):
        await ring.refresh()


async def test_closing_finishes_what_is_being_signed(vault, ticks):
    vault.add(2, "v1")
    ring = ring_over(vault, ticks)
    await ring.refresh()
    signing = asyncio.create_task(ring.sign([facts(2, format_="v1")] * 200))
    await asyncio.sleep(0)
    await ring.aclose()
    assert all(isinstance(one, str) for one in await signing)


async def test_closing_during_a_load_ends_the_load(vault, ticks):
    vault.gate = asyncio.Event()
    ring = ring_over(vault, ticks)
    loading = asyncio.create_task(ring.refresh())
    await asyncio.sleep(0)
    await ring.aclose()
    with pytest.raises(errors.Stopping):
        await loading
