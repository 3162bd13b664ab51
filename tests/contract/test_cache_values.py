"""Bytes of cached sigs and of events: what goes in comes out, and junk never raises."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sigmgr.model import redis_layout, values
from sigmgr.model.event import Event, EventType
from sigmgr.model.holder import Holder, Kind
from sigmgr.model.sig import Current, Reason
from tests.contract import unsealed
from tests.contract.cache_kit import (
    LAYOUT,
    NOW,
    current,
    encode_message,
    event,
    holder,
    sig_text,
)

u32 = st.integers(0, 2**32 - 1)
userids = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1, max_size=32)
rooms = st.one_of(
    st.integers(1, 2**32 - 2).map("id:{}".format),
    st.text("abcXYZ019 !#$%&()+-:;<=.>?@[]^_{}|~,", min_size=1, max_size=64).map("name:{}".format),
)
holders = st.one_of(
    st.builds(Holder, u32, userids),
    st.builds(Holder, u32, userids, st.just(Kind.ADMIN.value)),
    st.builds(Holder, u32, userids, st.just(Kind.ROOM.value), rooms),
)
sigs = st.one_of(
    st.integers(1, 400).map(lambda size: sig_text("x", size)),
    st.binary(min_size=1, max_size=300).map(
        lambda raw: (
            __import__("base64").b64encode(raw).translate(bytes.maketrans(b"+/=", b"*-_")).decode()
        )
    ),
    st.text("ABab01*-_+/= \n", min_size=1, max_size=40),
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40),
)
currents = st.builds(
    Current,
    holders,
    st.sampled_from(["v1", "v2"]),
    u32,
    u32,
    u32,
    u32,
    sigs,
    st.sampled_from(["", *(one.value for one in Reason)]),
)
events = st.builds(
    Event,
    st.sampled_from([one.value for one in EventType]),
    holders,
    u32,
    u32,
    st.sampled_from([one.value for one in Reason]),
    u32,
    st.text(max_size=20),
)
ids = st.tuples(st.integers(0, 2**63), st.integers(0, 2**63))


def test_values_have_their_bytes() -> None:
    """Those of other versions read them: a change here is a new version."""
    first = Current(holder(), "v1", 7, 1, 3, 2, "AAAA", Reason.FORCED.value)
    v2, text = first._replace(format="v2"), first._replace(usersig="AAA")
    layout = "01 00000001 {} 00000003 00000002 00000007 08 {}"
    assert values.encode(first) == bytes.fromhex(layout.format("01", "000000"))
    assert values.encode(v2) == bytes.fromhex(layout.format("02", "000000"))
    assert values.encode(text) == bytes.fromhex(layout.format("09", "414141"))
    assert values.tombstone(5) == bytes.fromhex("01 00000005 04") + bytes(13)


@pytest.mark.parametrize(
    "text", ["AB__", "AAB_", "AAAB", "AA__", "AAA_", "AA", "A", "", "AB==", "é"]
)
def test_a_sig_of_any_spelling_comes_back_as_it_was(text):
    one = current(holder())._replace(usersig=text)
    decoded = values.decode(one.holder, values.encode(one))
    assert decoded == (one if text else None)


@given(currents)
def test_a_value_gives_the_same_sig_back(sig: Current) -> None:
    value = values.encode(sig)
    assert values.decode(sig.holder, value) == sig
    assert not values.is_tombstone(value)
    assert int.from_bytes(value[1:5], "big") == sig.issued_at


def test_a_sig_is_stored_as_its_bytes() -> None:
    assert len(values.encode(current(holder()))) == 19 + 180 * 3 // 4


@pytest.mark.parametrize("odd", ["AB+/", "AB==", "AA*", "A___", "A", "AAB_AAA_", "é", "AAA_\n"])
def test_what_does_not_come_back_is_stored_as_text(odd: str) -> None:
    sig = current(holder(), usersig=odd)
    assert values.decode(sig.holder, values.encode(sig)) == sig


def test_the_numbers_of_reasons_stay_those_of_the_version_before() -> None:
    for code, reason in enumerate(unsealed._REASONS):
        assert values._REASONS[code] == reason


def test_every_reason_and_format_has_a_number() -> None:
    for reason in Reason:
        for form in ("v1", "v2"):
            sig = current(holder(), reason=reason.value, format=form)
            assert values.decode(sig.holder, values.encode(sig)) == sig


@given(st.binary(max_size=80), st.sampled_from([b"", b"\x01"]))
def test_junk_is_no_value(junk: bytes, first: bytes) -> None:
    found = values.decode(holder(), first + junk)
    assert found is None or isinstance(found, Current)
    values.is_tombstone(first + junk)


@given(u32)
def test_a_tombstone_is_no_sig(at: int) -> None:
    value = values.tombstone(at)
    assert values.is_tombstone(value)
    assert values.decode(holder(), value) is None


@given(holders, holders)
def test_no_two_holders_share_a_key(one: Holder, other: Holder) -> None:
    assert (one == other) == (LAYOUT.sig_key(one) == LAYOUT.sig_key(other))


def test_holders_that_would_collide_if_names_were_only_joined() -> None:
    tricky = [
        holder("a"),
        holder("a/room/id:1"),
        holder("a", kind="room", scope="id:1"),
        holder("id:1/a", kind="room", scope=""),
        holder("room/id:1/a"),
        Holder(14, "1/a"),
    ]
    assert len({LAYOUT.sig_key(one) for one in tricky}) == len(tricky)


def test_names_of_one_shard_share_a_hash_tag() -> None:
    one = holder("bob}{x")
    tag = f"{{{LAYOUT.shard(one)}}}"
    names = [LAYOUT.sig_key(one), LAYOUT.stream_key(LAYOUT.shard(one))]
    names.append(LAYOUT.channel(LAYOUT.shard(one)))
    for name in names:
        assert name[name.index("{") : name.index("}") + 1] == tag


@given(events)
def test_an_event_gives_itself_back(one: Event) -> None:
    assert redis_layout.decode_events(redis_layout.encode_events([one, one])) == [one, one]


def decode_plain(data: bytes) -> redis_layout.ChannelMessage:
    return redis_layout.decode_message(data, lambda _, brought: redis_layout.decode_values(brought))


@given(ids, ids, st.lists(st.tuples(events, st.binary(max_size=300)), max_size=20))
def test_a_message_gives_itself_back(
    previous: redis_layout.StreamId, last: redis_layout.StreamId, some: list[tuple[Event, bytes]]
) -> None:
    answer, sigs = [one for one, _ in some], [sig for _, sig in some]
    data = encode_message(previous, last, answer, sigs)
    assert decode_plain(data) == redis_layout.ChannelMessage(previous, last, answer, sigs)
    more = len(redis_layout.encode_values(sigs))
    with pytest.raises(ValueError, match="as many"):
        decode_plain(data[:-more] + redis_layout.encode_values([*sigs, b"x"]))


@pytest.mark.parametrize("count", [0, 1, 15, 16, 255, 256, 1000])
def test_messages_of_any_length(count: int) -> None:
    some = [event(holder(), NOW + i) for i in range(count)]
    data = encode_message((1, 2), (3, 4), some, [b""] * count)
    assert decode_plain(data).events == some


@given(st.binary(max_size=60), st.sampled_from([b"", b"1-1 2-2\n", b"x-y 1-1\n", b"1-1\n"]))
def test_a_message_that_cannot_be_read_raises_valueerror_only(junk: bytes, head: bytes) -> None:
    try:
        decode_plain(head + junk)
    except ValueError:
        return
