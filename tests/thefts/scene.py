"""A service at work, for thieves to break into: users of a v1 and a v2 app with sigs and room
keys, renewed, reissued and revoked, over a real Redis and either database."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from sigmgr.keys.keychain import generate
from sigmgr.model.holder import Holder, Room
from sigmgr.model.sig import Current
from sigmgr.settings import Settings
from sigmgr.store import migrate
from sigmgr.testing import ManualClock
from sigmgr.wiring.base import open_base, open_database
from sigmgr.wiring.parts import Parts, open_parts

NOW = 1_900_000_000
DAY = 86_400
MASTER_KEY = b64encode(bytes(range(32))).decode()
APPS = {1400000001: "v1", 1400000002: "v2"}
USERS = [Holder(app, f"user{i}") for app in APPS for i in range(15)]


@dataclass
class Scene:
    """The parts of a service, and every secret given to them or by them. ``clock`` is the
    time for the flows; the clock of the parts goes on beside it."""

    parts: Parts
    clock: ManualClock
    sigs: set[str] = field(default_factory=set)
    secrets: list[str] = field(default_factory=list)

    async def issue(self) -> None:
        """A sig, a room key and an admin's sig."""
        flows, now = self.parts.flows, self.clock()
        self._took(await flows.issue.many(USERS, now))
        admins = [Holder(app, "admin", "admin") for app in APPS]
        self._took(await flows.issue.many(admins, now))
        for app, userid, *_ in USERS[::5]:
            room = Room(name="lobby")
            key = await flows.room_keys.current(
                app, userid, room, privileges=255, ttl=None, now=now
            )
            self._took([key])
        await flows.publisher.flush()

    async def renew(self) -> None:
        """A round of renewals two months on, a reissue, and a revocation."""
        flows = self.parts.flows
        now = self.clock.advance(45 * DAY)
        self._took(await flows.issue.many(USERS, now))
        await flows.seen.flush(now)
        now = self.clock.advance(21 * DAY)
        renewed = await flows.renew.tick(now)
        assert renewed.renewed > 0
        await flows.publisher.flush()
        self._took([await flows.issue.reissue(USERS[0], now)])
        await flows.revoke.user(*USERS[-1][:2], now)
        await flows.publisher.flush()
        self._took(await flows.issue.many(USERS[:-1], now))

    def _took(self, answers: list) -> None:
        for answer in answers:
            assert isinstance(answer, Current), answer
            self.sigs.add(answer.usersig)


@asynccontextmanager
async def opened(database: str, redis: str, *, seal: bool = True) -> AsyncIterator[Scene]:
    settings = Settings.model_validate(
        {
            "database": {"url": database},
            "redis": {"url": redis, "seal": seal, "timeout": 10},
            "master_key": MASTER_KEY,
        }
    )
    engine = open_database(settings, create=True)
    try:
        await migrate.upgrade(engine)
    finally:
        await engine.close()
    clock = ManualClock(NOW)
    async with open_base(settings) as base:
        secrets = [MASTER_KEY]
        for app, form in APPS.items():
            material = generate(form)
            await base.catalog.add_app(app, now=NOW)
            await base.add_key(app, form, material, activate=True)
            text = material.decode().strip()
            secrets += [line for line in text.splitlines() if "-----" not in line]
            token, _ = await base.add_token("backend", sdkappid=app, name="thefts")
            secrets.append(token)
    async with open_parts(settings, serving=True) as parts:
        yield Scene(parts, clock, secrets=secrets)
