"""Checks a sig that was just made (rule 8 of the service).

A sig is accepted if its key's own verifying half accepts it, read back as the cloud will read it,
and every field is the fact it was made from. For v1 this also keeps a faulty signature from
leaving, which could reveal the private key (signatures are deterministic).

What this module does not do: judge the facts; the model has refused wrong ones.
"""

from __future__ import annotations

from sigmgr.model import errors, userbuf, usersig
from sigmgr.model.holder import Kind, Room
from sigmgr.model.sig import SigFacts
from sigmgr.model.usersig import SigningKey


def acceptable(facts: SigFacts, text: str, key: SigningKey) -> None:
    """Raises :class:`errors.SigningFailed` where ``text`` is not the sig of these facts."""
    holder = facts.holder
    in_room = holder.kind == Kind.ROOM
    try:
        decoded = usersig.verify(
            text,
            [key],
            now=facts.issued_at,
            userid=holder.userid,
            sdkappid=holder.sdkappid,
            userbuf=in_room,
        )
        granted_by = decoded.userbuf if in_room else None
        granted = None if granted_by is None else userbuf.decode(granted_by)
    except errors.BadSig as error:
        raise errors.SigningFailed(
            f"key {facts.key_id} made a sig that does not verify ({error.reason.value})"
        ) from None
    if (decoded.format, decoded.issued_at, decoded.ttl) != (
        facts.format,
        facts.issued_at,
        facts.ttl,
    ) or (granted is not None and granted != _grant(facts)):
        raise errors.SigningFailed(f"key {facts.key_id} made a sig of other facts")


def _grant(facts: SigFacts) -> userbuf.Userbuf:
    holder = facts.holder
    return userbuf.Userbuf(
        userid=holder.userid,
        sdkappid=holder.sdkappid,
        room=Room.from_scope(holder.scope),
        expires_at=facts.expires_at,
        privileges=facts.privileges,
    )
