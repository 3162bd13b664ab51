"""Emulated users of a simulation: which sig they hold, when they come and go.

A *connected* user has a stream open and is signed in at the cloud; it takes the sigs it is sent,
acks them, and signs in with a newer sig before its session's sig expires. A *visitor* asks for a
sig at each visit and keeps no stream. Some users *leave* for good.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from sigmgr.model.holder import Holder
from sigmgr.model.sig import Current
from sigmgr.sim.cloud import Cloud, LoginError, Session

DAY = 86400


@dataclass(slots=True)
class Person:
    """One user. Times are virtual Unix seconds; ``away_until``: 0 while connected;
    ``online_since``: when it last signed in after being offline."""

    user: Holder
    habit: str
    held: Current | None = None
    ticket_at: int = 0
    session: Session | None = None
    online_since: int = 0
    away_until: int = 0
    sign_in_at: int = 0
    acked: int = 0

    @property
    def connected(self) -> bool:
        return self.habit == "connected" and self.away_until == 0 and self.held is not None

    def take(self, current: Current, now: int, rng: random.Random) -> bool:
        """Take a pushed sig. True where it is newer; an older one is dropped, as clients do."""
        if self.held is not None and current.issued_at <= self.held.issued_at:
            return False
        self.held = current
        self.ticket_at = current.issued_at
        if self.session is not None and self.session.online:
            left = self.session.expires_at - now
            self.sign_in_at = now + int(max(0, left - DAY) * rng.random() * 0.5)
        return True

    def leave(self, cloud: Cloud, until: int) -> None:
        """Go offline by choice; an expiry meanwhile kicks nobody."""
        if self.session is not None:
            cloud.logout(self.session)
            self.session = None
        self.away_until = until


@dataclass(slots=True)
class Crowd:
    people: dict[Holder, Person] = field(default_factory=dict)
    refused: dict[int, int] = field(default_factory=dict)

    @classmethod
    def drawn(cls, apps: list[int], size: int, rng: random.Random) -> Crowd:
        """``size`` persons spread over the apps: 60 % connected, 25 % visitors, 15 % who come
        once."""
        crowd = cls()
        for i in range(size):
            user = Holder(apps[i % len(apps)], f"user-{i:05d}")
            share = rng.random()
            habit = "connected" if share < 0.60 else "visitor" if share < 0.85 else "leaver"
            crowd.people[user] = Person(user, habit, away_until=1)
        return crowd

    def sign_in(self, cloud: Cloud, person: Person, now: int) -> None:
        assert person.held is not None
        person.sign_in_at = 0
        user = person.user
        try:
            if person.session is not None and person.session.online:
                person.session = cloud.relogin(person.session, person.held.usersig, now)
            else:
                person.online_since = now
                person.session = cloud.login(user.sdkappid, user.userid, person.held.usersig, now)
        except LoginError as error:
            self.refused[int(error.code)] = self.refused.get(int(error.code), 0) + 1
            person.session = None
