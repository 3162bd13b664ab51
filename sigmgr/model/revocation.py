"""Revocations, and the bounded memory of them in a process.

Rules:
1. A revocation ends every sig of its users that was issued in or before ``until``. It names one
   user, all users of an app (``userid`` empty), or all apps (``sdkappid`` 0 too).
2. It is kept until every sig that it can concern has expired (``forget_at``).
3. Memory is bounded. Of users' revocations the latest ``most`` are kept; ``floor`` is the newest
   ``until`` that was dropped. A sig from after the floor is judged by the memory, an older one by
   SQL.
4. :meth:`Known.judge` never answers FREE for a sig that a learned revocation ends.

What this module does not do: look into SQL, or know how old its knowledge is.
"""

from __future__ import annotations

from collections import OrderedDict
from enum import StrEnum
from itertools import islice
from typing import Final, NamedTuple

from sigmgr.model.event import Event, EventType
from sigmgr.model.holder import Holder
from sigmgr.model.reference import APART
from sigmgr.model.sig import Reason

#: The values that stand for all apps and all users.
EVERY_APP: Final = 0
EVERY_USER: Final = ""

#: A revocation of all users ends this many seconds after now, since another process may sign with a
#: clock that is so far ahead (rule 21 of the design).
WIDE_MARGIN: Final = APART


class Revocation(NamedTuple):
    """One row. ``forget_at``: when the last sig it can concern has expired."""

    sdkappid: int
    userid: str
    until: int
    forget_at: int

    @property
    def wide(self) -> bool:
        """It names all users of an app, or of all apps."""
        return self.userid == EVERY_USER

    def event(self, now: int) -> Event:
        """The event of a user's revocation for streams, waiting polls and the near cache."""
        user = Holder(self.sdkappid, self.userid)
        reason = Reason.REVOKED.value
        return Event(EventType.REVOKED.value, user, self.until, self.until, reason, now)


class Judgement(StrEnum):
    """FREE: no known revocation ends it. DEAD: one does. ASK: only SQL knows."""

    FREE = "free"
    DEAD = "dead"
    ASK = "ask"


class Known:
    def __init__(self, *, most: int = 1_000_000) -> None:
        self._most = most
        self._users: OrderedDict[tuple[int, str], tuple[int, int]] = OrderedDict()
        self._apps: dict[int, int] = {}
        #: The newest ``until`` of a dropped user's revocation.
        self.floor = 0

    def __len__(self) -> int:
        return len(self._users) + len(self._apps)

    def learn(self, revocation: Revocation) -> bool:
        """True where it ends sigs that were not known to be revoked."""
        sdkappid, userid, until, forget_at = revocation
        if userid != EVERY_USER:
            return self._learn_user((sdkappid, userid), until, forget_at)
        news = until > self._apps.get(sdkappid, 0)
        self._apps[sdkappid] = max(until, self._apps.get(sdkappid, 0))
        return news

    def until(self, sdkappid: int, userid: str) -> int:
        """The second up to which this user's sigs are known to be revoked; 0 where none is."""
        user = self._users.get((sdkappid, userid))
        wide = max(self._apps.get(sdkappid, 0), self._apps.get(EVERY_APP, 0)) if self._apps else 0
        return wide if user is None else max(user[0], wide)

    def judge(self, sdkappid: int, userid: str, issued_at: int) -> Judgement:
        if issued_at <= self.until(sdkappid, userid):
            return Judgement.DEAD
        # Of a user that is here, too: what was dropped may come again in part, the older first.
        if issued_at <= self.floor:
            return Judgement.ASK
        return Judgement.FREE

    def forget(self, now: int, *, look_at: int = 1000) -> int:
        """Drop users' revocations whose sigs have all expired, of the ``look_at`` oldest."""
        oldest = islice(self._users.items(), look_at)
        gone = [user for user, (_, forget_at) in oldest if forget_at <= now]
        for user in gone:
            del self._users[user]
        return len(gone)

    def _learn_user(self, user: tuple[int, str], until: int, forget_at: int) -> bool:
        before = self._users.pop(user, None)
        if before is not None and before[0] >= until:
            self._users[user] = before
            return False
        self._users[user] = (until, forget_at)
        if len(self._users) > self._most:
            _, (given_up, _) = self._users.popitem(last=False)
            self.floor = max(self.floor, given_up)
        return True
