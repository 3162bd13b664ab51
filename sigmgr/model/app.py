"""One Tencent application and the states of its keys.

A key goes prepared -> active -> old, and from old back to active. A tainted key signs nothing
again; revoked is the last state. A key becomes old only when another is activated.
"""

from __future__ import annotations

from typing import NamedTuple

from sigmgr.model import errors
from sigmgr.model.policy import Policy
from sigmgr.model.sig import KeyState

#: The states from which each state can be reached.
_STEPS: dict[KeyState, frozenset[KeyState]] = {
    KeyState.ACTIVE: frozenset({KeyState.PREPARED, KeyState.OLD}),
    KeyState.TAINTED: frozenset({KeyState.PREPARED, KeyState.ACTIVE, KeyState.OLD}),
    KeyState.REVOKED: frozenset({KeyState.TAINTED}),
}


class App(NamedTuple):
    """``paused`` stops ordinary renewals, not the emergency lane (rule 6). ``feed``: the id of the
    feed of numbered events; empty where the app has none."""

    sdkappid: int
    name: str
    policy: Policy
    paused: bool = False
    created_at: int = 0
    feed: str = ""


class KeyInfo(NamedTuple):
    """A signing key without its material. ``format`` is a name in ``usersig.FORMATS``; ``curve`` is
    empty where the format has one kind of key."""

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
    """A signing key as it is stored: facts and sealed material."""

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
