"""Verifies a sig: its signature and times, and whether it was revoked.

A sig does not show its own revocation, so this process's knowledge is asked last, and SQL where
that is not enough. If neither can answer, the result is an error and not "valid".
"""

from __future__ import annotations

from dataclasses import dataclass

from sigmgr.flow.revocations import Revocations
from sigmgr.model import errors
from sigmgr.model.errors import SigReason
from sigmgr.model.holder import Holder
from sigmgr.model.revocation import Judgement
from sigmgr.ports import Looks, Signer, Verified


@dataclass(eq=False, repr=False)
class Verify:
    signer: Signer
    looks: Looks
    revocations: Revocations

    async def sig(
        self, sdkappid: int, usersig: str, /, *, now: int, userid: str | None = None
    ) -> Verified:
        """The verified sig. Raises BadSig with the reason, NoSigningKey, StoreUnavailable."""
        found = await self.signer.verify(sdkappid, usersig, now=now, userid=userid)
        user = Holder(sdkappid, found.decoded.userid)
        until = await self._revoked_until(user, found.decoded.issued_at)
        if found.decoded.issued_at <= until:
            raise errors.BadSig(
                SigReason.REVOKED, f"every sig of this user issued up to {until} was revoked"
            )
        return found

    async def _revoked_until(self, user: Holder, issued_at: int) -> int:
        known = self.revocations.until(user.sdkappid, user.userid)
        sure = self.revocations.judge(user, issued_at) is not Judgement.ASK
        if issued_at <= known or (sure and self.revocations.fresh):
            return known
        return await self.looks.revoked_until(user.sdkappid, user.userid)
