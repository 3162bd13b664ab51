"""The emulated cloud: who is signed in, with which sig, and who is kicked when.

Rules:
1. An app is known by public keys (v1) and secrets (v2) only; there may be several of each.
2. A session is bound to the sig it signed in with. In the second that sig expires the session is
   kicked, even if the client holds a newer one. This is stricter than the reference verifier, which
   accepts a sig through its last second.
3. Native: a login while online replaces the session's sig. Web: it answers ``repeat_login`` and
   keeps the old sig, so a web client has to log out first.
4. ``kick`` (the REST call) invalidates every sig made in or before that second.
5. ``now`` comes with every call, and who drives it calls ``tick``.

What this module does not do: several sessions of a user, rooms, network failures, quotas, rate
limits.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from sigmgr.sim.verifier import AppKeys, Code, Rejected, check

NATIVE, WEB = "native", "web"


class LoginError(Exception):
    """The login is refused with one of the cloud's codes."""

    def __init__(self, code: Code, text: str) -> None:
        self.code = code
        self.text = text
        super().__init__(f"{int(code)}: {text}")


class KickReason(StrEnum):
    """As the client SDKs name them in KICKED_OUT."""

    USER_SIG_EXPIRED = "userSigExpired"
    REST_API = "REST_API_Kick"


class Kick(NamedTuple):
    sdkappid: int
    userid: str
    reason: KickReason
    at: int
    issued_at: int


OnKicked = Callable[[Kick], None]


@dataclass(slots=True)
class Session:
    """One signed-in user. ``repeat_login``: the last login changed nothing (web)."""

    sdkappid: int
    userid: str
    issued_at: int
    expires_at: int
    flavour: str
    on_kicked: OnKicked | None
    online: bool = True
    repeat_login: bool = False


class Cloud:
    """All apps and sessions. ``kicked`` counts kicks by expiry, which should be none."""

    def __init__(self) -> None:
        self._apps: dict[int, AppKeys] = {}
        self._sessions: dict[tuple[int, str], Session] = {}
        self._dead: dict[tuple[int, str], int] = {}
        self._by_expiry: list[tuple[int, int, Session]] = []
        self._sequence = itertools.count()
        self.kicked = 0
        self.rest_kicked = 0
        self.logins = 0

    # -- apps ------------------------------------------------------------------------------

    def set_app(
        self, sdkappid: int, *, public_pems: Sequence[str] = (), secrets: Sequence[str] = ()
    ) -> None:
        """Register the app, or replace its keys. Sessions stay."""
        self._apps[sdkappid] = AppKeys.load(public_pems, secrets)

    def introduce(self, sdkappid: int, public_pem: bytes, secret: bytes) -> None:
        """Register the app by its only key: the public half, where its format has one."""
        if public_pem:
            self.set_app(sdkappid, public_pems=[public_pem.decode()])
        else:
            self.set_app(sdkappid, secrets=[secret.decode().strip()])

    def keys_of(self, sdkappid: int) -> AppKeys:
        """The app's keys; Rejected 70020 where there is no such app."""
        keys = self._apps.get(sdkappid)
        if keys is None:
            raise Rejected(Code.NO_APP, f"there is no app {sdkappid}")
        return keys

    # -- signing in ------------------------------------------------------------------------

    @property
    def online(self) -> int:
        return len(self._sessions)

    def session(self, sdkappid: int, userid: str) -> Session | None:
        return self._sessions.get((sdkappid, userid))

    def login(
        self,
        sdkappid: int,
        userid: str,
        usersig: str,
        now: int,
        *,
        flavour: str = NATIVE,
        on_kicked: OnKicked | None = None,
    ) -> Session:
        """Sign in, or again with a newer sig. Raises :class:`LoginError`."""
        before = self._sessions.get((sdkappid, userid))
        if before is not None and flavour == WEB:
            # The web SDK answers OK without looking at the sig it is given.
            before.repeat_login = True
            return before
        issued_at, expires_at = self._accept(sdkappid, userid, usersig, now)
        if before is not None:
            before.online = False
        session = Session(sdkappid, userid, issued_at, expires_at, flavour, on_kicked)
        self._sessions[sdkappid, userid] = session
        heapq.heappush(self._by_expiry, (expires_at, next(self._sequence), session))
        self.logins += 1
        return session

    def relogin(self, session: Session, usersig: str, now: int) -> Session:
        """Sign in with a newer sig the way the client's SDK requires (rule 3)."""
        if session.flavour == WEB:
            self.logout(session)
        return self.login(
            session.sdkappid,
            session.userid,
            usersig,
            now,
            flavour=session.flavour,
            on_kicked=session.on_kicked,
        )

    def logout(self, session: Session) -> None:
        """End the session; an ended one may be ended again."""
        if session.online:
            session.online = False
            del self._sessions[session.sdkappid, session.userid]

    def _accept(self, sdkappid: int, userid: str, usersig: str, now: int) -> tuple[int, int]:
        try:
            keys = self.keys_of(sdkappid)
            opened = check(usersig, sdkappid=sdkappid, userid=userid, keys=keys, now=now)
        except Rejected as error:
            raise LoginError(error.code, error.text) from None
        if opened.issued_at <= self._dead.get((sdkappid, userid), -1):
            raise LoginError(Code.INVALIDATED, "the sig was invalidated by a kick")
        return opened.issued_at, opened.expires_at

    # -- being thrown out ------------------------------------------------------------------

    def tick(self, now: int) -> list[Kick]:
        """Kick every session whose sig has expired; answers those kicked by this call."""
        kicks: list[Kick] = []
        while self._by_expiry and self._by_expiry[0][0] <= now:
            _, _, session = heapq.heappop(self._by_expiry)
            if session.online:
                self.kicked += 1
                kicks.append(self._throw_out(session, KickReason.USER_SIG_EXPIRED, now))
        return kicks

    def next_expiry(self) -> int | None:
        """The second in which the next session ends if its client does nothing."""
        while self._by_expiry and not self._by_expiry[0][2].online:
            heapq.heappop(self._by_expiry)
        return self._by_expiry[0][0] if self._by_expiry else None

    def kick(self, sdkappid: int, userid: str, now: int) -> Kick | None:
        """The REST call: all sigs made until now are invalid; answers who was kicked."""
        self._dead[sdkappid, userid] = now
        session = self._sessions.get((sdkappid, userid))
        if session is None or session.issued_at > now:
            return None
        self.rest_kicked += 1
        return self._throw_out(session, KickReason.REST_API, now)

    def _throw_out(self, session: Session, reason: KickReason, now: int) -> Kick:
        self.logout(session)
        kick = Kick(session.sdkappid, session.userid, reason, now, session.issued_at)
        if session.on_kicked is not None:
            session.on_kicked(kick)
        return kick
