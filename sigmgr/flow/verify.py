"""Is this sig valid? Its signature and times, and whether it was revoked.

A sig says nothing of its own revocation, so that is asked last, of what this process knows;
where that is not enough, of SQL. Whose knowledge is too old to say and who cannot ask does
not answer "valid".

What this module does not do: read sigs (``model/usersig``) or hold keys (the ring).
"""

from __future__ import annotations

from sigmgr.flow.revocations import Revocations
from sigmgr.model import errors
from sigmgr.model.errors import SigReason
from sigmgr.model.holder import Holder
from sigmgr.model.revocation import Judgement
from sigmgr.ports import Looks, Signer, Verified


class Verify:
    """Answers whether sigs are valid."""

    def __init__(self, *, signer: Signer, looks: Looks, revocations: Revocations) -> None:
        self._signer = signer
        self._looks = looks
        self._revocations = revocations

    async def sig(
        self, sdkappid: int, usersig: str, /, *, now: int, userid: str | None = None
    ) -> Verified:
        """What it says. Raises BadSig with the reason, NoSigningKey, StoreUnavailable."""
        found = await self._signer.verify(sdkappid, usersig, now=now, userid=userid)
        user = Holder(sdkappid, found.decoded.userid)
        until = await self._revoked_until(user, found.decoded.issued_at)
        if found.decoded.issued_at <= until:
            raise errors.BadSig(
                SigReason.REVOKED, f"every sig of this user issued up to {until} was revoked"
            )
        return found

    async def _revoked_until(self, user: Holder, issued_at: int) -> int:
        known = self._revocations.until(user.sdkappid, user.userid)
        sure = self._revocations.judge(user, issued_at) is not Judgement.ASK
        if issued_at <= known or (sure and self._revocations.fresh):
            return known
        return await self._looks.revoked_until(user.sdkappid, user.userid)
