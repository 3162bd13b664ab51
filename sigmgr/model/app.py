"""One Tencent application as sigmgr manages it."""

from __future__ import annotations

from typing import NamedTuple

from sigmgr.model.policy import Policy
from sigmgr.model.sig import KeyState


class App(NamedTuple):
    """``paused`` stops ordinary renewals of the app; the emergency lane goes on (rule 6)."""

    sdkappid: int
    name: str
    policy: Policy
    paused: bool = False
    created_at: int = 0


class KeyInfo(NamedTuple):
    """A signing key without its material.

    ``curve`` is ``P-256`` or ``secp256k1`` for v1 and empty for v2. ``fingerprint`` is the
    first 16 hex digits of SHA-256 over the SPKI DER (v1) or over the secret string (v2).
    """

    key_id: int
    sdkappid: int
    format: str
    curve: str
    state: KeyState
    fingerprint: str
    created_at: int
    changed_at: int


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
