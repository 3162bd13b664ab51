"""The fleet against a scripted fake of the service, over real sockets.

The clock is moved by hand, so nothing here depends on how fast the machine is.
"""

from __future__ import annotations

import asyncio

import httpx2
import pytest

from tests.sim.kit import APP, NOW, SECRET, sign_v2, until, userbuf
from tests.sim.scene import ALICE, TTL, scene


async def test_renewed_acked_and_signed_in_before_the_old_one_dies():
    users = [(APP + i % 2, f"a b/{i}?") for i in range(30)]
    async with scene(users) as s:
        s.pass_time(20)
        for user in users:
            s.service.renew(user)
        await until(lambda: s.stats.acked == 30)
        s.pass_time(25)
        stats = await s.fleet.stop()
        assert (stats.renewed, stats.kicked, stats.went_back, stats.bad_sigs) == (30, 0, 0, 0)
        assert stats.logins == 60
        assert stats.online == s.cloud.online == 30
        assert (stats.in_flight, stats.short_remaining, dict(stats.errors)) == (0, 0, {})
        # The first sig is confirmed too, so that the service knows what is held from the start.
        assert all(acks == [NOW, NOW + 20] for acks in s.service.acks.values())


async def test_keep_is_used_at_a_drawn_moment_and_relogin_at_once():
    async with scene([(APP, f"u{i}") for i in range(20)]) as s:
        s.pass_time(18)
        for user in list(s.service.current):
            s.service.renew(user, action="relogin" if user[1] == "u0" else "keep")
        await until(lambda: s.stats.acked == 20)
        when = {}
        for _ in range(10):
            s.pass_time(1)
            for client in s.fleet.clients:
                if client.state.session.expires_at > NOW + TTL:
                    when.setdefault(client.state.userid, s.clock())
        assert len(when) == 20
        assert when["u0"] == NOW + 19
        assert max(when.values()) <= NOW + TTL - TTL // 10
        assert len(set(when.values())) > 3


async def test_a_client_without_a_newer_sig_is_kicked_and_comes_back_by_its_backend():
    async with scene() as s:
        s.pass_time(29)
        assert s.stats.kicked == 0
        s.pass_time(1)
        assert (s.stats.kicked, s.cloud.kicked, s.fleet.snapshot().online) == (1, 1, 0)
        await s.until(lambda: s.fleet.snapshot().online == 1 and s.stats.streams == 1)
        assert s.stats.renewed == 0


async def test_holding_a_newer_sig_without_signing_in_is_a_kick_too():
    async with scene() as s:
        s.pass_time(20)
        s.service.renew(ALICE)
        await until(lambda: s.stats.acked == 1)
        s.cloud.tick(s.clock.advance(10))
        assert s.stats.kicked == 1
        s.fleet.tick(s.clock())
        assert s.fleet.snapshot().online == 1
        assert s.service.asked["sig"] == 1


async def test_an_older_sig_is_never_taken():
    async with scene() as s:
        s.pass_time(5)
        s.service.renew(ALICE)
        await until(lambda: s.stats.acked == 1)
        older = sign_v2("alice", NOW + 3, TTL)
        s.service.push(ALICE, s.service.message(ALICE, issued_at=NOW + 3, usersig=older))
        await until(lambda: s.stats.went_back == 1)
        assert s.client().state.issued_at == NOW + 5
        s.service.push(ALICE, s.service.message(ALICE))
        s.service.drop(ALICE)
        await until(lambda: s.stats.reconnects == 1)
        assert (s.stats.renewed, s.stats.acked) == (1, 1)


@pytest.mark.parametrize(
    ("usersig", "code"),
    [
        (sign_v2("alice", NOW + 5, TTL, secret="stolen"), "70009"),
        (sign_v2("bob", NOW + 5, TTL), "70013"),
        (sign_v2("alice", NOW + 4, TTL), None),
    ],
)
async def test_a_sig_that_does_not_verify_or_differs_is_not_taken(usersig, code):
    async with scene() as s:
        s.pass_time(5)
        s.service.renew(ALICE, usersig=usersig)
        await until(lambda: s.stats.bad_sigs == 1)
        assert s.client().state.issued_at == NOW
        assert (s.stats.renewed, s.stats.acked) == (0, 0)
        assert code is None or s.stats.errors[code] == 1


async def test_a_dropped_stream_is_opened_again_with_the_sig_held():
    async with scene() as s:
        s.pass_time(3)
        s.service.renew(ALICE)
        await until(lambda: s.stats.acked == 1)
        for count in (1, 2, 3):
            s.service.drop(ALICE)
            await until(lambda count=count: s.stats.reconnects == count)
        assert s.service.last_event_ids[ALICE] == [NOW, NOW + 3, NOW + 3, NOW + 3]
        assert s.service.asked["sig"] == 1


async def test_who_learns_that_its_sig_never_was_comes_without_a_claim():
    async with scene() as s:
        refusal = {"code": "never-issued"}
        s.service.refuse["stream"] = [(409, {}, refusal), (503, {}, {"code": "unavailable"})]
        s.service.drop(ALICE)
        await until(lambda: len(s.service.last_event_ids[ALICE]) == 2)
        # One that fails for another reason does not bring the claim back.
        assert s.service.last_event_ids[ALICE] == [NOW, 0]
        await until(lambda: s.stats.streams == 1)
        s.service.drop(ALICE)
        await until(lambda: len(s.service.last_event_ids[ALICE]) == 3)
        assert s.service.last_event_ids[ALICE][-1] == NOW
        assert s.service.asked["sig"] == 1


async def test_what_was_missed_while_away_comes_with_the_first_message():
    async with scene() as s:
        s.pass_time(3)
        s.service.issue(ALICE)
        s.service.drop(ALICE)
        await until(lambda: s.stats.acked == 1)
        assert s.client().state.issued_at == NOW + 3


async def test_bye_is_waited_out():
    async with scene() as s:
        answer = b'event: bye\ndata: {"type":"bye","reason":"drain","reconnect_after":0.3}\n\n'
        loop = asyncio.get_running_loop()
        begun = loop.time()
        s.service.push(ALICE, answer)
        await until(lambda: s.stats.reconnects == 1)
        assert loop.time() - begun >= 0.3
        assert s.service.asked["sig"] == 1


async def test_a_dead_ticket_leads_to_the_backend():
    async with scene() as s:
        s.service.refuse["stream"].append((401, {}, {"code": "ticket-expired"}))
        s.service.drop(ALICE)
        await until(lambda: s.stats.reconnects == 1)
        assert s.service.asked["sig"] == 2
        assert s.stats.errors == {"ticket-expired": 1}


async def test_another_401_does_not():
    async with scene() as s:
        s.service.refuse["stream"].append((401, {}, {"code": "token-missing"}))
        s.service.drop(ALICE)
        await until(lambda: s.stats.reconnects == 1)
        assert s.service.asked["sig"] == 1


async def test_retry_after_is_honoured():
    async with scene() as s:
        s.service.refuse["stream"].append((503, {"retry-after": "1"}, {"code": "stopping"}))
        loop = asyncio.get_running_loop()
        begun = loop.time()
        s.service.drop(ALICE)
        await until(lambda: s.stats.reconnects == 1)
        assert loop.time() - begun >= 1
        assert s.stats.errors == {"stopping": 1}


async def test_a_backend_that_fails_is_asked_again():
    async with scene(start=False) as s:
        s.service.refuse["sig"] += [(503, {}, {"code": "no-signing-key"}), (500, {}, None)]
        s.service.refuse["sig"] += [(200, {}, {"half": "an answer"})]
        s.fleet.start()
        await s.streams()
        assert s.stats.errors == {"no-signing-key": 1, "http-500": 1, "bad-message": 1}


async def test_an_ack_is_repeated_until_it_is_confirmed():
    async with scene() as s:
        await until(lambda: s.service.acks[ALICE] == [NOW])
        s.service.refuse["ack"] += [(503, {}, {"code": "store-unavailable"})] * 2
        s.pass_time(3)
        s.service.renew(ALICE)
        await until(lambda: s.stats.acked == 1)
        assert s.service.acks[ALICE] == [NOW, NOW + 3]
        assert s.stats.errors == {"ack-store-unavailable": 2}


async def test_an_ack_with_a_dead_ticket_is_made_up_for_with_a_new_one():
    async with scene() as s:
        await until(lambda: s.service.acks[ALICE] == [NOW])
        s.service.refuse["ack"].append((401, {}, {"code": "ticket-revoked"}))
        s.pass_time(3)
        s.service.renew(ALICE)
        await s.until(lambda: s.stats.acked == 1)
        assert s.service.asked["sig"] == 2


async def test_what_is_not_acked_at_the_end_is_in_flight_only_if_it_is_fresh():
    for age, in_flight in ((0, 1), (5, 0)):
        async with scene() as s:
            await until(lambda s=s: s.service.acks[ALICE] == [NOW])
            s.service.refuse["ack"] += [(503, {}, None)] * 10_000
            s.service.clock.advance(3)
            s.service.renew(ALICE)
            await until(lambda s=s: s.stats.renewed == 1)
            s.pass_time(age)
            stats = await s.fleet.stop(grace=0.05)
            assert (stats.renewed, stats.acked, stats.in_flight) == (1, 0, in_flight)


async def test_revoked_signs_out_and_goes_back_to_the_backend():
    async with scene() as s:
        s.pass_time(5)
        s.cloud.kick(APP, "alice", s.clock())
        s.pass_time(2)
        s.service.issue(ALICE)
        answer = f'event: sig.revoked\ndata: {{"issued_at": {NOW + 5}}}\n\n'
        s.service.push(ALICE, answer.encode())
        await s.until(lambda: s.fleet.snapshot().online == 1 and s.stats.streams == 1)
        assert s.client().state.issued_at == NOW + 7
        assert (s.stats.kicked, s.cloud.rest_kicked) == (0, 1)
        # A late word about an earlier revocation changes nothing.
        s.service.push(ALICE, answer.encode())
        s.pass_time(1)
        s.service.renew(ALICE)
        await until(lambda: s.stats.acked == 1)


async def test_a_kicked_client_waits_for_a_better_sig_than_the_one_that_is_dead():
    async with scene() as s:
        s.cloud.kick(APP, "alice", s.clock())
        await s.until(lambda: s.stats.errors["backend-no-better-sig"] > 2)
        assert s.fleet.snapshot().online == 0
        s.pass_time(2)
        s.service.issue(ALICE)
        await s.until(lambda: s.fleet.snapshot().online == 1 and s.stats.streams == 1)
        assert s.stats.kicked == 0


async def test_a_refused_login_is_counted_and_made_up_for_by_the_backend():
    async with scene() as s:
        s.pass_time(18)
        s.service.renew(ALICE)
        await until(lambda: s.stats.acked == 1)
        s.cloud.set_app(APP, secrets=["the console shows another one now"])
        s.pass_time(10)
        assert s.stats.errors["70009"] == 1
        assert s.client().state.session.expires_at == NOW + TTL
        s.cloud.set_app(APP, secrets=[SECRET])
        s.service.issue(ALICE)
        await s.until(lambda: s.client().state.session.expires_at == NOW + 28 + TTL)
        s.pass_time(10)
        assert s.stats.kicked == 0


async def test_an_ack_that_reaches_nobody_is_repeated():
    async with scene() as s:
        await until(lambda: s.service.acks[ALICE] == [NOW])
        client, right = s.client(), s.client()._stream_url
        client._stream_url = "http://127.0.0.1:1/v1/stream"
        s.pass_time(1)
        s.service.renew(ALICE)
        await until(lambda: s.stats.errors["ack-unreachable"] > 1)
        client._stream_url = right
        await until(lambda: s.stats.acked == 1)


async def test_room_keys_are_checked():
    def key(issued_at, room=7):
        buf = userbuf("alice", room, 255, issued_at + 300)
        return sign_v2("alice", issued_at, 300, buf=buf)

    def frame(private_map_key):
        return f'event: room.renewed\ndata: {{"private_map_key": "{private_map_key}"}}\n\n'.encode()

    async with scene() as s:
        s.pass_time(10)
        s.service.push(ALICE, frame(key(NOW + 10)))
        s.service.push(ALICE, frame(key(NOW + 5)) + frame(key(NOW + 10)) + frame("broken"))
        s.service.push(ALICE, frame(key(NOW + 10, room=8)) + frame(sign_v2("alice", NOW, 9)))
        await until(lambda: s.stats.bad_sigs == 2)
        assert s.stats.went_back == 1


async def test_noise_on_the_stream_is_counted_and_survived():
    async with scene() as s:
        s.service.push(ALICE, b": heartbeat\n\nevent: sig.renewed\ndata: {nonsense\n\n")
        s.service.push(ALICE, b"event: sig.will_expire\ndata: {}\n\nevent: new\ndata: []\n\n")
        s.service.push(ALICE, b'event: sig.renewed\ndata: ["no object"]\n\n')
        s.pass_time(1)
        s.service.renew(ALICE)
        await until(lambda: s.stats.acked == 1)
        assert s.stats.errors == {"bad-message": 2}


async def test_a_sig_with_little_life_left_is_counted():
    async with scene(min_remaining=10) as s:
        assert s.stats.short_remaining == 0
        s.pass_time(1)
        s.service.issue(ALICE)
        message = s.service.message(ALICE)
        s.clock.advance(21)
        s.service.push(ALICE, message)
        await until(lambda: s.stats.acked == 1)
        assert s.stats.short_remaining == 1


async def test_gateways_are_chosen_at_random():
    async with scene(stream_urls=["/a/v1/stream", "/b/v1/stream"]) as s:
        chosen = set()
        for count in range(1, 12):
            chosen.add(s.client()._stream_url.rsplit("/", 3)[-3])
            s.service.drop(ALICE)
            await until(lambda count=count: s.stats.reconnects == count)
        assert chosen == {"a", "b"}


async def test_a_service_that_is_not_there_is_tried_again():
    async with scene(start=False) as s:
        s.fleet.world.base_urls = ["http://127.0.0.1:1"]
        s.fleet.start()
        await until(lambda: s.stats.errors["backend-unreachable"] > 2)
        s.fleet.world.base_urls = [s.service.url]
        s.fleet.world.stream_urls = ["http://127.0.0.1:1/v1/stream"]
        await until(lambda: s.stats.errors["stream-broken"] > 2)
        s.fleet.world.stream_urls = []
        await s.streams()


async def test_a_bug_in_a_client_is_not_swallowed(monkeypatch):
    async with scene(start=False) as s:
        monkeypatch.setattr(httpx2.AsyncClient, "get", None)
        s.fleet.start()
        with pytest.raises(TypeError):
            await s.until(lambda: False)


async def test_two_hundred_clients_and_a_wave():
    users = [(APP + i % 2, f"user-{i}") for i in range(200)]
    async with scene(users) as s:
        s.pass_time(18)
        for user in users:
            s.service.renew(user)
        await until(lambda: s.stats.acked == 200, seconds=20)
        s.pass_time(12)
        assert (s.stats.kicked, s.cloud.online) == (0, 200)
