"""A third format, registered from outside, through all of sigmgr: made, stored, cached,
renewed, pushed and verified, with no file of sigmgr edited for it."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from sigmgr.cli.serve import roles_of, upgraded
from sigmgr.keys.keychain import generate
from sigmgr.model.holder import Room
from sigmgr.model.policy import Policy
from sigmgr.model.sig import KeyRef
from sigmgr.settings import Settings
from sigmgr.sim import http_stream
from sigmgr.sim.sse_parser import SseParser
from sigmgr.wiring.base import open_base
from sigmgr.wiring.service import open_service
from tests.flow.world import ALICE, APP, DAY, World, open_world
from tests.formats import toy


@pytest.fixture(autouse=True)
def three() -> Iterator[None]:
    with toy.registered():
        yield


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as opened:
        yield opened


async def test_it_is_signed_stored_cached_and_derived_again(world: World) -> None:
    key = await world.add_key(APP, "toy")
    assert await world.ring.active_key(APP) == KeyRef(key.key_id, toy.NAME)
    first = await world.flows.issue.current(ALICE, world.clock())
    await world.flows.publisher.flush()
    assert (first.format, first.usersig[:4]) == ("toy", "toy.")
    row = await world.row()
    assert (row.format, row.key_id) == ("toy", key.key_id)
    [cached] = await world.cache.get([ALICE])
    assert cached == first
    await world.redis.run(lambda client: client.flushdb())
    again = await world.process().issue.current(ALICE, world.clock())
    assert (again.issued_at, again.usersig) == (first.issued_at, first.usersig)
    room = await world.flows.room_keys.current(
        APP, "alice", Room(id=7), privileges=42, ttl=None, now=world.clock()
    )
    found = await world.ring.verify(APP, room.usersig, now=world.clock(), userid="alice")
    assert found.decoded.fields()["userbuf"]["room_id"] == 7


async def test_it_is_renewed_off_a_key_of_another_format_and_back(world: World) -> None:
    first = await world.flows.issue.current(ALICE, world.clock())
    for form in ("toy", "v1", "toy"):
        await world.add_key(APP, form)
        world.clock.advance(70 * DAY)
        await world.store.mark_seen([(ALICE, world.clock())])
        assert (await world.process().renew.tick(world.clock())).renewed == 1
        row = await world.row()
        assert (row.format, row.issued_at) == (form, world.clock())
        now = await world.process().issue.current(ALICE, world.clock())
        found = await world.ring.verify(APP, now.usersig, now=world.clock(), userid="alice")
        assert (found.decoded.format, now.issued_at > first.issued_at) == (form, True)
    assert world.invariants.violations == []


@asynccontextmanager
async def serving(home: Path) -> AsyncIterator[tuple[str, str]]:
    """The whole service with an app of the toy format and sigs of ten seconds."""
    settings = Settings.model_validate(
        {
            "database": {"url": f"sqlite+aiosqlite:///{home / 'toy.db'}"},
            "redis": {"url": "memory://"},
            "http": {"port": 0},
            "scheduler": {"renew_every": 0.2},
            "master_key": toy.master_key(),
        }
    )
    await upgraded(settings, quiet=True)
    async with open_base(settings) as base:
        await base.catalog.add_app(APP, policy=Policy(ttl=10), now=base.clock())
        added = await base.add_key(APP, None, generate("toy"), activate=True)
        [sealed] = await base.catalog.sealed_keys(APP)
        assert (added.format, base.doubt(sealed)) == ("toy", None)
        token, _ = await base.add_token("backend", sdkappid=APP, name="toy")
    stop, ports = asyncio.Event(), asyncio.Queue[int]()
    async with open_service(settings, roles_of("all")) as service:
        running = asyncio.create_task(service.run(stop, bound=ports.put_nowait))
        try:
            yield f"http://127.0.0.1:{await ports.get()}", token
        finally:
            stop.set()
            await running


async def test_it_is_pushed_and_verified_over_http(tmp_path: Path) -> None:
    async with (
        serving(tmp_path) as (url, token),
        httpx2.AsyncClient(
            base_url=f"{url}/v1/apps/{APP}",
            headers={"Authorization": f"Bearer {token}"},
            trust_env=False,
        ) as backend,
    ):
        first = (await backend.get("/users/alice/sig")).raise_for_status().json()
        assert (first["format"], first["usersig"][:4]) == ("toy", "toy.")
        current, *_, renewed = await _told_until_renewed(f"{url}/v1/stream", first)
        assert (current["type"], renewed["type"]) == ("sig.current", "sig.renewed")
        assert current["usersig"] == first["usersig"]
        assert renewed["usersig"].startswith("toy.")
        asked = {"usersig": renewed["usersig"], "userid": "alice"}
        verdict = (await backend.post("/verify", json=asked)).raise_for_status().json()
        assert (verdict["valid"], verdict["format"]) == (True, "toy")
        asked["usersig"] = f"{renewed['usersig'][:-1]}x"
        verdict = (await backend.post("/verify", json=asked)).raise_for_status().json()
        assert (verdict["valid"], verdict["detail"]) == (False, "the toy sig is damaged")


async def _told_until_renewed(url: str, first: dict[str, Any]) -> list[dict[str, Any]]:
    """The messages of a stream, to the first of a later sig."""
    parser, reported = SseParser(), list[dict[str, Any]]()
    bearer = {"Authorization": f"Bearer {first['ticket']}"}
    async with asyncio.timeout(30), http_stream.get(url, bearer) as answer:
        assert answer.status == 200
        async for piece in answer.pieces():
            reported += [json.loads(event.data) for event in parser.feed(piece)]
            if reported and reported[-1]["issued_at"] > first["issued_at"]:
                break
    return reported


#: What a package does that brings a format: register it before the command line is read.
_SHELL = """
import sys
from sigmgr.cli import frame
from sigmgr.model.usersig import FORMATS
from tests.formats.toy import Toy
FORMATS.register(Toy())
sys.exit(frame.run(sys.argv[1:]))
"""


def shell(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", _SHELL, *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_the_command_line_offers_it(tmp_path: Path) -> None:
    shown = shell("keygen", "--help").stdout
    assert "<v1|v2|toy>" in shown
    assert "v2 is HMAC-SHA256, toy is BLAKE2b." in " ".join(shown.split())
    key = str(tmp_path / "toy.txt")
    made = shell("keygen", "--format", "toy", "--out", key)
    assert (made.returncode, "play with" in made.stderr) == (0, True)
    assert shell("keygen", "--format", "toy", "--curve", "P-256", "--out", "x").returncode == 2
    signed = shell(
        "sig", "sign", "--format", "toy", "--sdkappid", "1", "--userid", "alice", "--key", key
    )
    assert signed.stdout.startswith("toy.")
    verdict = json.loads(shell("sig", "verify", signed.stdout.strip(), "--key", key).stdout)
    assert (verdict["valid"], verdict["format"], verdict["userid"]) == (True, "toy", "alice")
