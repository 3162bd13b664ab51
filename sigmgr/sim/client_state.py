"""One client's state: its sig, its session at the cloud, and when it signs in again.

Rules:
1. A sig is taken only if it is newer than the held one and the independent verifier accepts it. An
   older one is counted (``went_back``) and never taken.
2. The cloud ends a session in the second *its* sig expires, so the client signs in with a newer one
   beforehand. ``keep``: at a drawn moment between now and a tenth of life before the session's end.
   ``relogin``: at once.
3. A kicked client signs in with its newer sig if that is alive; otherwise it has to ask its
   backend.

What this module does not do: use a network or a clock; ``now`` comes with every call.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any, NamedTuple

from sigmgr.sim.cloud import Kick, KickReason, LoginError, Session
from sigmgr.sim.stats import World
from sigmgr.sim.verifier import Rejected, check, check_room_key


class HeldSig(NamedTuple):
    issued_at: int
    expires_at: int
    usersig: str


class Offer(Enum):
    TAKEN = "taken"
    SAME = "same"
    OLDER = "older"
    REFUSED = "refused"


class ClientState:
    def __init__(
        self,
        sdkappid: int,
        userid: str,
        world: World,
        flavour: str,
    ) -> None:
        self.sdkappid = sdkappid
        self.userid = userid
        self.held: HeldSig | None = None
        self.session: Session | None = None
        self.stranded = False
        self.relogin_at: int | None = None
        self._cloud, self._stats, self._rng = world.cloud, world.stats, world.rng
        self._flavour = flavour
        self._min_remaining = world.min_remaining
        self._rooms: dict[int | str, int] = {}

    @property
    def issued_at(self) -> int:
        """Of the sig held; 0 while there is none."""
        return self.held.issued_at if self.held else 0

    # -- taking sigs -----------------------------------------------------------------------

    def offer(self, message: Mapping[str, Any], now: int) -> Offer:
        """A sig from the stream or the backend (rule 1). Raises KeyError on a bad message."""
        issued_at, expires_at = int(message["issued_at"]), int(message["expires_at"])
        if issued_at < self.issued_at:
            self._stats.went_back += 1
            return Offer.OLDER
        if issued_at == self.issued_at:
            return Offer.SAME
        candidate = HeldSig(issued_at, expires_at, message["usersig"])
        if not self._sound(candidate, now):
            self._stats.bad_sigs += 1
            return Offer.REFUSED
        if expires_at - now < self._min_remaining:
            self._stats.short_remaining += 1
        self.held = candidate
        self.stranded = False
        self._plan(str(message.get("action", "keep")), now)
        return Offer.TAKEN

    def _sound(self, candidate: HeldSig, now: int) -> bool:
        """The string verifies, and its times are those of the message."""
        try:
            opened = check(
                candidate.usersig,
                sdkappid=self.sdkappid,
                userid=self.userid,
                keys=self._cloud.keys_of(self.sdkappid),
                now=now,
            )
        except Rejected as error:
            self._stats.errors[str(int(error.code))] += 1
            return False
        return (opened.issued_at, opened.expires_at) == candidate[:2]

    def offer_room_key(self, private_map_key: str, now: int) -> None:
        """A renewed privateMapKey: it verifies, and is newer than the one of its room before."""
        try:
            opened, grant = check_room_key(
                private_map_key,
                sdkappid=self.sdkappid,
                userid=self.userid,
                keys=self._cloud.keys_of(self.sdkappid),
                now=now,
            )
        except Rejected as error:
            self._stats.bad_sigs += 1
            self._stats.errors[str(int(error.code))] += 1
            return
        room: int | str = grant.room_name or grant.room_id
        if opened.issued_at <= self._rooms.get(room, 0):
            self._stats.went_back += opened.issued_at < self._rooms[room]
            return
        self._rooms[room] = opened.issued_at

    def revoked(self, at: int) -> bool:
        """All sigs made in or before ``at`` are revoked; True if the held one is."""
        if self.issued_at > at:
            return False
        if self.session is not None:
            self._cloud.logout(self.session)
        self.held, self.session, self.relogin_at = None, None, None
        self.stranded = True
        return True

    # -- signing in ------------------------------------------------------------------------

    def _plan(self, action: str, now: int) -> None:
        if self.session is None or action == "relogin":
            self.relogin_at = now
            return
        life = self.session.expires_at - self.session.issued_at
        latest = self.session.expires_at - max(1, life // 10)
        drawn = self._rng.randint(now, latest) if latest > now else now
        self.relogin_at = drawn if self.relogin_at is None else min(drawn, self.relogin_at)

    def tick(self, now: int) -> None:
        if self.relogin_at is not None and now >= self.relogin_at:
            self.login(now)

    def login(self, now: int) -> None:
        """Sign in with the held sig; if that is refused the client is stranded."""
        self.relogin_at = None
        if self.held is None:
            return
        try:
            if self.session is not None:
                self.session = self._cloud.relogin(self.session, self.held.usersig, now)
            else:
                self.session = self._cloud.login(
                    self.sdkappid,
                    self.userid,
                    self.held.usersig,
                    now,
                    flavour=self._flavour,
                    on_kicked=self._kicked,
                )
        except LoginError as error:
            self._stats.errors[str(int(error.code))] += 1
            self.session = self._cloud.session(self.sdkappid, self.userid)
            self.stranded = True
            return
        self._stats.logins += 1

    def _kicked(self, kick: Kick) -> None:
        """The SDK reports onUserSigExpired, or KICKED_OUT, at the moment of the kick."""
        self._stats.kicked += kick.reason == KickReason.USER_SIG_EXPIRED
        self.session = None
        newer = self.held is not None and self.held.issued_at > kick.issued_at
        if newer and self.held is not None and self.held.expires_at > kick.at:
            self.relogin_at = kick.at
        else:
            self.stranded = True
