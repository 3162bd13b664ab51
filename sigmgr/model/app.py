"""One Tencent application as sigmgr manages it, and the life of its keys.

A key goes prepared -> active -> old, and from old to active again: an activation can be taken
back. A tainted key signs never again; revoked is its last state. A key becomes old only by
another's activation.
"""

from __future__ import annotations

from typing import NamedTuple

from sigmgr.model import errors
from sigmgr.model.policy import Policy
from sigmgr.model.sig import KeyState

#: From which states a key may come into a state.
_STEPS: dict[KeyState, frozenset[KeyState]] = {
    KeyState.ACTIVE: frozenset({KeyState.PREPARED, KeyState.OLD}),
    KeyState.TAINTED: frozenset({KeyState.PREPARED, KeyState.ACTIVE, KeyState.OLD}),
    KeyState.REVOKED: frozenset({KeyState.TAINTED}),
}


class App(NamedTuple):
    """``paused`` stops ordinary renewals of the app; the emergency lane goes on (rule 6).
    ``feed``: the id of the feed of its numbered events; empty where that is off."""

    sdkappid: int
    name: str
    policy: Policy
    paused: bool = False
    created_at: int = 0
    feed: str = ""


class KeyInfo(NamedTuple):
    """A signing key without its material.

    ``format`` is a name in ``usersig.FORMATS``; ``curve`` and ``fingerprint`` are as its keys
    give them, the curve empty where the format has one kind of key.
    """

    key_id: int
    sdkappid: int
    format: str
    curve: str
    state: KeyState
    fingerprint: str
    created_at: int
    changed_at: int


def check_step(key: KeyInfo, state: KeyState) -> None:
    """Raises :class:`errors.KeyStateConflict` where the key cannot come into that state."""
    if key.state is not state and key.state not in _STEPS.get(state, frozenset()):
        raise errors.KeyStateConflict(
            f"key {key.key_id} is {key.state.value}; it cannot become {state.value}"
        )


class SealedKey(NamedTuple):
    """A signing key as it lies in the database: facts and sealed material."""

    info: KeyInfo
    sealed: bytes


class Token(NamedTuple):
    """A bearer token of the API without its secret. ``sdkappid`` 0 means every app."""

    token_id: int
    name: str
    role: str
    sdkappid: int
    created_at: int
    revoked_at: int = 0


ROLES = ("backend", "ops", "admin")
