"""Sealed values open where they were made, and nowhere else: elsewhere there is no sig."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from sigmgr.keys.cached import MONTH, CachedValues
from sigmgr.keys.sealing import MasterKey
from sigmgr.model import values
from sigmgr.model.holder import Holder
from sigmgr.model.redis_layout import Layout
from sigmgr.model.sig import Current
from sigmgr.telemetry import REGISTRY
from tests.contract import unsealed
from tests.contract.test_cache_values import currents, holders

MASTER = MasterKey(bytes(range(32)))
LAYOUT = Layout()
SEALED = CachedValues(MASTER.derive, LAYOUT)
PLAIN = CachedValues(MASTER.derive, LAYOUT, seal=False)

ALICE = Holder(1400000001, "alice")
SIG = Current(ALICE, "v2", 7, 1_900_000_000, 1_907_776_000, 1_905_000_000, "AAECAwQF", "Missing")


def unread(why: str) -> float:
    return REGISTRY.get_sample_value("sigmgr_cache_unread_total", {"why": why}) or 0.0


@given(currents)
def test_what_was_sealed_comes_back(sig: Current) -> None:
    assert SEALED.decode(sig.holder, SEALED.encode(sig)) == sig
    assert CachedValues(MASTER.derive, LAYOUT).decode(sig.holder, SEALED.encode(sig)) == sig


@given(currents)
def test_the_scripts_and_older_readers_see_when_it_was_issued_and_no_sig(sig: Current) -> None:
    value = SEALED.encode(sig)
    assert value[0] == values.VERSION == unsealed.VERSION
    assert int.from_bytes(value[1:5], "big") == sig.issued_at
    assert unsealed.decode(sig.holder, value) is None
    assert values.decode(sig.holder, value) is None
    assert not unsealed.is_tombstone(value)
    assert not values.is_tombstone(value)


@given(currents)
def test_a_seal_costs_29_bytes(sig: Current) -> None:
    assert len(SEALED.encode(sig)) == len(values.encode(sig)) + 29


@given(currents, st.data())
def test_one_changed_byte_anywhere_and_there_is_no_sig(sig: Current, data: Any) -> None:
    value = bytearray(SEALED.encode(sig))
    at = data.draw(st.integers(0, len(value) - 1))
    value[at] ^= data.draw(st.integers(1, 255))
    assert SEALED.decode(sig.holder, bytes(value)) is None


@given(currents, st.data())
def test_a_value_cut_short_or_made_longer_is_none(sig: Current, data: Any) -> None:
    value = SEALED.encode(sig)
    cut = data.draw(st.integers(0, len(value) - 1))
    more = data.draw(st.binary(min_size=1, max_size=20))
    for changed in (value[:cut], value + more, value[:6] + more + value[6:]):
        assert SEALED.decode(sig.holder, changed) is None


@given(currents, holders)
def test_a_value_moved_to_another_holder_is_none(sig: Current, other: Holder) -> None:
    assume(other != sig.holder)
    assert SEALED.decode(other, SEALED.encode(sig)) is None


@given(currents, st.integers(1, 200))
def test_a_value_moved_to_another_shard_is_none(sig: Current, shards: int) -> None:
    layout = Layout(shards)
    assume(layout.shard(sig.holder) != LAYOUT.shard(sig.holder))
    assert CachedValues(MASTER.derive, layout).decode(sig.holder, SEALED.encode(sig)) is None


@given(currents, st.text("abc:{}", min_size=1, max_size=4))
def test_a_value_moved_to_another_installation_is_none(sig: Current, prefix: str) -> None:
    others = CachedValues(MASTER.derive, Layout(prefix=prefix))
    assert others.decode(sig.holder, SEALED.encode(sig)) is None


@given(currents, st.binary(min_size=32, max_size=32))
def test_another_master_key_opens_nothing(sig: Current, secret: bytes) -> None:
    assume(secret != bytes(range(32)))
    strangers = CachedValues(MasterKey(secret).derive, LAYOUT)
    assert strangers.decode(sig.holder, SEALED.encode(sig)) is None


@given(currents)
def test_without_the_seal_both_kinds_are_read(sig: Current) -> None:
    assert PLAIN.encode(sig) == values.encode(sig)
    assert PLAIN.decode(sig.holder, PLAIN.encode(sig)) == sig
    assert PLAIN.decode(sig.holder, SEALED.encode(sig)) == sig


@given(currents, st.binary(max_size=200))
def test_with_the_seal_nothing_else_is_believed(sig: Current, junk: bytes) -> None:
    """Else who can write to Redis could have any string handed out."""
    for value in (values.encode(sig), junk, b"\x01" + junk, SEALED.encode(sig)[:6] + junk):
        assert SEALED.decode(sig.holder, value) is None


@given(st.integers(0, 2**32 - 1))
def test_a_tombstone_stays_one(at: int) -> None:
    for one in (SEALED, PLAIN):
        assert one.decode(ALICE, values.tombstone(at)) is None


def test_what_is_not_read_is_counted_by_why() -> None:
    before = unread("unsealed"), unread("damaged")
    SEALED.decode(ALICE, values.encode(SIG))
    SEALED.decode(ALICE, SEALED.encode(SIG)[:-1])
    SEALED.decode(ALICE, values.tombstone(7))
    PLAIN.decode(ALICE, b"\x01" + b"\xff" * 60)
    assert (unread("unsealed"), unread("damaged")) == (before[0] + 1, before[1] + 2)


def test_the_same_sig_sealed_twice_shows_nothing_in_common() -> None:
    made = [SEALED.encode(SIG) for _ in range(500)]
    assert len({value[6:18] for value in made}) == 500
    assert len({value[18:] for value in made}) == 500
    assert {value[:6] for value in made} == {made[0][:6]}


def test_a_key_serves_one_shard_and_one_month() -> None:
    asked: Counter[str] = Counter()

    def derive(purpose: str) -> bytes:
        asked[purpose] += 1
        return MASTER.derive(purpose)

    made = CachedValues(derive, Layout(2))
    start = 1_900_000_000 // MONTH * MONTH
    first, last, after = start, start + MONTH - 1, start + MONTH
    for userid in ("a", "b", "c", "d"):
        for at in (first, last, after):
            made.encode(SIG._replace(holder=Holder(1, userid), issued_at=at))
    month = start // MONTH
    assert asked == {f"cached/{s}/{m}": 1 for s in (0, 1) for m in (month, month + 1)}


def test_values_of_an_older_version_go_on_opening() -> None:
    """The purposes of keys, the layout and what is covered by the tag stay as they are."""
    value = bytes.fromhex(
        "01713fb3000321d2de9e42596a094350977528ea523541e9216cb613e7f440b7dd399ba10734693ba5a454a9f2"
        "6320eb6cb7a6c6d8e4"
    )
    assert SEALED.decode(ALICE, value) == SIG


@pytest.mark.parametrize("missing", ["format", "reason"])
def test_a_sig_of_no_format_or_reason_is_not_written(missing: str) -> None:
    with pytest.raises(KeyError):
        SEALED.encode(SIG._replace(**{missing: "v9"}))


EVENTS = b"events"
BROUGHT = [b"one", b"", b"two"]


@pytest.mark.parametrize("values", [SEALED, PLAIN])
def test_what_a_message_brings_gives_itself_back(values):
    message = values.seal_message(7, EVENTS, BROUGHT, 1_900_000_000)
    assert values.open_message(7, EVENTS, message) == BROUGHT
    assert PLAIN.open_message(7, EVENTS, message) == BROUGHT, "the seal may be on elsewhere"
    assert (b"one" in message) is (values is PLAIN)


def test_what_a_message_brings_is_bound_to_its_channel_and_events():
    message = SEALED.seal_message(7, EVENTS, BROUGHT, 1_900_000_000)
    strangers = CachedValues(MasterKey(b"x" * 32).derive, LAYOUT)
    others = CachedValues(MASTER.derive, Layout(prefix="other"))
    assert SEALED.open_message(8, EVENTS, message) is None
    assert SEALED.open_message(7, b"others", message) is None
    assert strangers.open_message(7, EVENTS, message) is None
    assert others.open_message(7, EVENTS, message) is None
    assert SEALED.open_message(7, EVENTS, PLAIN.seal_message(7, EVENTS, BROUGHT, 1)) is None


@given(st.binary(max_size=60), st.integers(0, 200))
def test_a_damaged_message_brings_nothing(junk, at):
    message = SEALED.seal_message(7, EVENTS, BROUGHT, 1_900_000_000)
    damaged = message[:at] + junk
    assert damaged == message or SEALED.open_message(7, EVENTS, damaged) is None
