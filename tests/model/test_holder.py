"""Identities: what fits the cloud's limits is taken, everything else gets the reason why not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sigmgr.model import errors
from sigmgr.model.holder import (
    Holder,
    Privilege,
    Room,
    check_privileges,
    check_room,
    check_sdkappid,
    check_userid,
    privilege_names,
    shard_of,
)

printable = st.characters(min_codepoint=0x20, max_codepoint=0x7E)


@given(st.text(printable, min_size=1, max_size=32))
def test_printable_ascii_up_to_32_bytes_is_a_user_id(userid: str) -> None:
    assert check_userid(userid) == userid
    assert 0 <= shard_of(1, userid, 64) < 64


@pytest.mark.parametrize(
    ("userid", "why"),
    [
        ("", "the user id is empty"),
        ("x" * 33, "the user id has 33 bytes; 32 is the limit"),
        ("用" * 11, "the user id has 33 bytes; 32 is the limit"),
        ("\ud800" * 11, "the user id has 33 bytes; 32 is the limit"),
        ("用" * 10 + "\n" * 2, "the user id has characters other than printable ASCII"),
    ],
)
def test_a_user_id_that_is_refused_is_told_why(userid: str, why: str) -> None:
    with pytest.raises(errors.BadUserId) as caught:
        check_userid(userid)
    assert caught.value.text == why


@pytest.mark.parametrize("userid", ["", "x" * 33, "é", "a\n", "\x7f", "a\x00", "用户", "\ud800"])
def test_other_user_ids_are_refused(userid: str) -> None:
    with pytest.raises(errors.BadUserId):
        check_userid(userid)


@pytest.mark.parametrize("sdkappid", [0, -1, 2**32, True])
def test_app_ids_are_unsigned_32_bit(sdkappid: int) -> None:
    with pytest.raises(errors.BadSdkAppId):
        check_sdkappid(sdkappid)


@pytest.mark.parametrize(
    "room",
    [
        {"room_id": 0},
        {"room_id": 4294967295},
        {"room_id": 2**32},
        {"room_id": -1},
        {"room_id": True},
        {"room_name": ""},
        {"room_name": "x" * 65},
        {"room_name": "a/b"},
        {"room_name": "é"},
        {},
        {"room_id": 1, "room_name": "1"},
    ],
)
def test_rooms_outside_the_limits_are_refused(room: dict[str, object]) -> None:
    with pytest.raises(errors.BadRoom):
        check_room(**room)  # type: ignore[arg-type]


@given(st.integers(1, 4294967294))
def test_a_numeric_room_and_the_room_of_that_name_are_different(number: int) -> None:
    by_id, by_name = check_room(room_id=number), check_room(room_name=str(number))
    assert by_id.scope != by_name.scope
    assert Room.from_scope(by_id.scope) == by_id
    assert Room.from_scope(by_name.scope) == by_name


@given(st.integers(1, 255))
def test_privileges_by_mask_and_by_name_agree(mask: int) -> None:
    assert check_privileges(privilege_names(mask)) == check_privileges(mask) == mask


@pytest.mark.parametrize("privileges", [0, 256, -1, True, [], ["fly"], [""], ["Enter"]])
def test_other_privileges_are_refused(privileges: object) -> None:
    with pytest.raises(errors.BadPrivileges):
        check_privileges(privileges)  # type: ignore[arg-type]


def test_the_watch_mask_contains_create() -> None:
    assert 0xAB & Privilege.CREATE
    assert privilege_names(0xAB) == [
        "create",
        "enter",
        "receive_audio",
        "receive_video",
        "receive_screen",
    ]


def test_holders_sort_and_name_their_subject() -> None:
    holder = Holder(1, "alice", "room", "id:5")
    assert holder.user == Holder(1, "alice")
    assert holder.subject == "apps/1/users/alice"
    assert sorted([holder, holder.user])


@pytest.mark.parametrize("scope", ["", "id:", "id:0", "id:01", "id:٣", "id:" + "9" * 5000, "x:1"])
def test_a_scope_has_one_spelling(scope: str) -> None:
    with pytest.raises(errors.BadRoom):
        Room.from_scope(scope)


@pytest.mark.parametrize("given", ["smt_" + "Ab3_" * 10, "x" * 65, "0123456789abcdef" * 4])
def test_what_is_refused_is_not_repeated_where_it_may_be_a_secret(given):
    for refused in (lambda: check_privileges([given]), lambda: Room.from_scope(given)):
        with pytest.raises(errors.InputError) as caught:
            refused()
        assert given[4:24] not in caught.value.text


def test_numbers_of_any_length_are_refused_in_a_line():
    for refused in (check_sdkappid, check_privileges, check_room):
        with pytest.raises(errors.InputError) as caught:
            refused(10**5000)
        assert len(caught.value.text) < 100
