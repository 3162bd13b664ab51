"""The cloud: who may sign in, who is thrown out at which second, and rooms."""

from __future__ import annotations

import pytest

from sigmgr.sim.cloud import WEB, Cloud, KickReason, LoginError
from tests.sim.kit import APP, NOW, SECRET, new_key, sign_v1, sign_v2, userbuf
from tests.sim.rooms import RoomCloud, RoomCode, RoomError

OTHER_APP = APP + 1


@pytest.fixture
def cloud():
    cloud = RoomCloud()
    cloud.set_app(APP, secrets=[SECRET])
    return cloud


def refused(cloud, sig, *, sdkappid=APP, userid="alice", now=NOW):
    with pytest.raises(LoginError) as caught:
        cloud.login(sdkappid, userid, sig, now)
    return caught.value.code


def test_every_code_of_a_login(cloud):
    cloud.set_app(OTHER_APP, secrets=["another"])
    sig = sign_v2("alice", NOW, 60)
    assert refused(cloud, sig, now=NOW + 61) == 70001
    assert refused(cloud, "") == 70002
    assert refused(cloud, sig[:-9]) == 70003
    assert refused(cloud, sign_v2("alice", NOW, 60, secret="x")) == 70009
    assert refused(cloud, sig, userid="bob") == 70013
    assert refused(cloud, sig, sdkappid=OTHER_APP) == 70014
    assert refused(cloud, sign_v1(new_key()[0], "alice", NOW, 60)) == 70016
    assert refused(cloud, sig, sdkappid=1) == 70020
    cloud.kick(APP, "alice", NOW)
    assert refused(cloud, sig) == 70052
    assert cloud.logins == cloud.online == 0


def test_v1_and_v2_keys_side_by_side():
    key, pem = new_key()
    cloud = Cloud()
    cloud.set_app(APP, public_pems=[pem], secrets=["old secret", SECRET])
    cloud.login(APP, "alice", sign_v1(key, "alice", NOW, 60), NOW)
    cloud.login(APP, "bob", sign_v2("bob", NOW, 60), NOW)
    assert cloud.online == 2


def test_kicked_at_the_exact_second(cloud):
    kicks = []
    session = cloud.login(APP, "alice", sign_v2("alice", NOW, 60), NOW, on_kicked=kicks.append)
    assert cloud.next_expiry() == NOW + 60
    assert cloud.tick(NOW + 59) == []
    assert session.online
    [kick] = cloud.tick(NOW + 60)
    assert kick == (APP, "alice", KickReason.USER_SIG_EXPIRED, NOW + 60, NOW)
    assert kicks == [kick]
    assert (cloud.kicked, cloud.online, session.online) == (1, 0, False)
    assert cloud.tick(NOW + 61) == []


def test_a_newer_sig_at_hand_saves_nobody_but_a_login_with_it_does(cloud):
    session = cloud.login(APP, "alice", sign_v2("alice", NOW, 60), NOW)
    session = cloud.relogin(session, sign_v2("alice", NOW + 40, 60), NOW + 59)
    assert cloud.tick(NOW + 60) == []
    assert session.expires_at == cloud.next_expiry() == NOW + 100
    assert len(cloud.tick(NOW + 100)) == 1
    assert cloud.next_expiry() is None


def test_a_web_client_keeps_its_old_sig_unless_it_logs_out_first(cloud):
    cloud.login(APP, "alice", sign_v2("alice", NOW, 60), NOW, flavour=WEB)
    newer = sign_v2("alice", NOW + 40, 60)
    again = cloud.login(APP, "alice", newer, NOW + 50, flavour=WEB)
    assert (again.repeat_login, again.expires_at) == (True, NOW + 60)
    again = cloud.relogin(again, newer, NOW + 50)
    assert (again.repeat_login, again.expires_at) == (False, NOW + 100)
    assert cloud.tick(NOW + 60) == []


def test_a_refused_relogin_leaves_the_native_session(cloud):
    session = cloud.login(APP, "alice", sign_v2("alice", NOW, 60), NOW)
    with pytest.raises(LoginError):
        cloud.relogin(session, "nonsense", NOW)
    assert session.online
    cloud.logout(session)
    cloud.logout(session)
    assert cloud.online == 0
    assert cloud.tick(NOW + 60) == []


def test_rest_kick_ends_sigs_up_to_its_second(cloud):
    kicks = []
    cloud.login(APP, "alice", sign_v2("alice", NOW, 60), NOW, on_kicked=kicks.append)
    kick = cloud.kick(APP, "alice", NOW + 5)
    assert kick is not None
    assert kicks == [kick]
    assert kick.reason == KickReason.REST_API
    assert refused(cloud, sign_v2("alice", NOW + 5, 60), now=NOW + 6) == 70052
    cloud.login(APP, "alice", sign_v2("alice", NOW + 6, 60), NOW + 6)
    assert cloud.kick(APP, "alice", NOW + 5) is None
    assert (cloud.kicked, cloud.rest_kicked, cloud.online) == (0, 1, 1)


def test_ten_thousand_sessions_die_in_order(cloud):
    for i in range(10_000):
        cloud.login(APP, f"u{i}", sign_v2(f"u{i}", NOW, 60 + i % 100), NOW)
    assert [len(cloud.tick(NOW + 60 + second)) for second in range(100)] == [100] * 100
    assert cloud.kicked == 10_000


# -- rooms ---------------------------------------------------------------------------------


def room_key(userid="alice", room=10000, privileges=255, issued_at=NOW, ttl=300):
    buf = userbuf(userid, room, privileges, issued_at + ttl)
    return sign_v2(userid, issued_at, ttl, buf=buf)


def enter(cloud, userid="alice", room=10000, now=NOW, **key):
    return cloud.enter_room(
        APP,
        userid,
        room,
        usersig=sign_v2(userid, NOW, 86400),
        private_map_key=room_key(userid, **{"room": room, **key}),
        now=now,
    )


def room_code(call):
    with pytest.raises(RoomError) as caught:
        call()
    return caught.value.code


def test_entering(cloud):
    assert room_code(lambda: enter(cloud, now=NOW + 301)) == RoomCode.EXPIRED
    assert room_code(lambda: enter(cloud, privileges=42)) == RoomCode.NO_RIGHT_TO_CREATE
    assert room_code(lambda: enter(cloud, privileges=1)) == RoomCode.NO_RIGHT_TO_ENTER
    assert enter(cloud).role == "audience"
    assert enter(cloud, "bob", privileges=42).room.room == 10000


def test_a_number_and_its_name_are_different_rooms(cloud):
    with pytest.raises(RoomError) as caught:
        cloud.enter_room(
            APP,
            "alice",
            123,
            usersig=sign_v2("alice", NOW, 60),
            private_map_key=room_key(room="123"),
            now=NOW,
        )
    assert caught.value.code == -100006
    assert enter(cloud, room="123").room.room == "123"


def test_a_bad_usersig_or_key_at_entry(cloud):
    for usersig, key, code in (("", "", -70002), (sign_v2("alice", NOW, 60), "x", -100006)):
        with pytest.raises(RoomError) as caught:
            cloud.enter_room(APP, "alice", 1, usersig=usersig, private_map_key=key, now=NOW)
        assert caught.value.code == code


def test_an_expired_key_removes_at_the_role_switch(cloud):
    enter(cloud)
    with pytest.raises(RoomError) as caught:
        cloud.switch_role(APP, "alice", "anchor", NOW + 301)
    assert (caught.value.code, caught.value.removed) == (RoomCode.EXPIRED, True)
    assert cloud.rooms.seat(APP, "alice") is None
    assert cloud.rooms.removed == 1
    # The room died with its last member: it takes the create bit again.
    assert room_code(lambda: enter(cloud, privileges=42)) == RoomCode.NO_RIGHT_TO_CREATE


def test_a_fresh_key_in_time_saves_the_role_switch(cloud):
    enter(cloud)
    fresh = room_key(issued_at=NOW + 200)
    cloud.rooms.update_private_map_key(APP, "alice", fresh, NOW + 250)
    assert cloud.switch_role(APP, "alice", "anchor", NOW + 400).role == "anchor"
    # An established anchor is not cut when the key runs out, and may step down.
    assert cloud.switch_role(APP, "alice", "audience", NOW + 900).role == "audience"


def test_role_switch_with_a_key_of_its_own_and_without_the_right(cloud):
    enter(cloud, "bob")
    enter(cloud, privileges=42)
    code = room_code(lambda: cloud.switch_role(APP, "alice", "anchor", NOW))
    assert code == RoomCode.NO_RIGHT_TO_SEND_VIDEO
    assert cloud.switch_role(APP, "alice", "anchor", NOW, room_key()).role == "anchor"
    cloud.rooms.leave(APP, "alice")
    code = room_code(lambda: cloud.switch_role(APP, "alice", "anchor", NOW))
    assert code == RoomCode.NOT_IN_ROOM
