"""Previews a change to an application's keys before it is done.

Two mistakes would go unnoticed: another key signs from now on, or none does. So the first shows
both keys, and the second who will get which error, and when.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import typer

from sigmgr.cli import output
from sigmgr.cli.frame import FAILURE
from sigmgr.model.app import KeyInfo
from sigmgr.model.errors import BadKey, KeyExists, KeyUnknown, NoSigningKey
from sigmgr.model.sig import KeyState

if TYPE_CHECKING:
    from sigmgr.wiring.base import Base


def kind(key_format: str, curve: str) -> str:
    """For example ``v1 P-256``, or ``v2``."""
    return f"{key_format} {curve}".strip()


def active(keys: Sequence[KeyInfo]) -> KeyInfo | None:
    return next((key for key in keys if key.state is KeyState.ACTIVE), None)


def found(keys: Sequence[KeyInfo], sdkappid: int, key_id: int) -> KeyInfo:
    """Raises KeyUnknown."""
    for key in keys:
        if key.key_id == key_id:
            return key
    raise KeyUnknown(f"app {sdkappid} has no key {key_id}")


def refuse_known(keys: Sequence[KeyInfo], fingerprint: str) -> None:
    """Exit where the application has this key already, with what can be done with it."""
    known = next((key for key in keys if key.fingerprint == fingerprint), None)
    if known is None:
        return
    app, key_id = known.sdkappid, known.key_id
    if known.state is KeyState.ACTIVE:
        advice = "It signs already; nothing needs to be done."
    elif known.state in {KeyState.PREPARED, KeyState.OLD}:
        advice = f"To sign with it: sigmgr key activate {app} {key_id}."
    else:
        advice = "It never signs again; take a new one."
    text = f"app {app} has this key already: it is key {key_id}, {known.state.value}"
    output.complain(text, KeyExists.code, f"{advice} All keys: sigmgr key list {app}")
    raise typer.Exit(FAILURE)


def replaced(former: KeyInfo | None, following: str) -> list[str]:
    """The effect of an activation on an application that signs already; empty for others.
    ``following`` describes the key that will sign."""
    if former is None:
        return []
    now = f"key {former.key_id}, {kind(former.format, former.curve)}, {former.fingerprint}"
    return [
        f"App {former.sdkappid} signs already. The key that signs would be another:",
        f"  now   {now}",
        f"  then  {following}",
        f"Sigs of key {former.key_id} stay good, and are replaced as they fall due.",
    ]


def taken_back_by(former: KeyInfo | None) -> None:
    if former is not None:
        output.note(
            f"Key {former.key_id} is old now; to sign with it again:"
            f" sigmgr key activate {former.sdkappid} {former.key_id}"
        )


async def doubted(base: Base, key: KeyInfo) -> list[str]:
    """The warnings about a key before it signs. Raises BadKey for one that certainly is none, as
    older versions sealed them."""
    sealed = await base.catalog.sealed_keys(key.sdkappid)
    doubt = next((base.doubt(one) for one in sealed if one.info.key_id == key.key_id), None)
    if doubt is None:
        return []
    warnings = f"key {key.key_id} of app {key.sdkappid}: {doubt.text}"
    if doubt.certain:
        raise BadKey(warnings, advice=f"The cloud refuses sigs of it. {instead_of(key)}")
    return [warnings]


def instead_of(key: KeyInfo) -> str:
    """Advice on a key that certainly is none and does not sign yet."""
    app = key.sdkappid
    return (
        f"Add the right one: sigmgr key add {app} --file FILE --activate; and end this one:"
        f" sigmgr key taint {app} {key.key_id} --yes"
    )


async def _spare(base: Base, app: int) -> KeyInfo | None:
    for key in await base.catalog.sealed_keys(app):
        if key.info.state in {KeyState.PREPARED, KeyState.OLD}:
            doubt = base.doubt(key)
            if doubt is None or not doubt.certain:
                return key.info
    return None


async def end_of(base: Base, key: KeyInfo, keys: Sequence[KeyInfo], state: KeyState) -> list[str]:
    """The effect of a taint or revocation where no signing key is left."""
    app, key_id = key.sdkappid, key.key_id
    signing = active(keys)
    if signing is not None and signing.key_id != key_id:
        return []
    count, latest = await base.catalog.key_reach(app, key_id, base.clock())
    error = f"the error {NoSigningKey.code} (HTTP 503) until a key is active"
    living = f"Living sigs of key {key_id}: {count}"
    warnings = [f"No key will be left that signs for app {app}."]
    if state is KeyState.TAINTED:
        last = f", the last until {output.iso(latest)}" if count else ""
        warnings.append(f"{living}. Each is served and good until it expires{last}.")
        warnings.append(f"Who has none, or needs the next, gets {error}.")
    else:
        warnings.append(f"{living}. None is served any more, or verifies. All users get {error}.")
    spare = await _spare(base, app)
    first = f"activate {app} {spare.key_id}" if spare else f"add {app} --file FILE --activate --yes"
    warnings.append(f"Do this first: sigmgr key {first}")
    return warnings
