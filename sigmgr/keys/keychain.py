"""The keys of all apps, unsealed and parsed: one value, replaced as a whole.

Rules:
1. A key is unsealed and parsed once and carried over while its sealed bytes stay the same; only its
   facts (such as its state) are read again.
2. A key that does not open stays in, with its error: its own sigs fail with that error, other keys
   are not affected.
3. Of a key whose material was removed from the database only the state is known.

What this module does not do: load, wait, or sign.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from typing import NamedTuple

from sigmgr.keys.sealing import MasterKey, key_context
from sigmgr.model import errors
from sigmgr.model.app import KeyInfo, SealedKey
from sigmgr.model.sig import KeyState
from sigmgr.model.usersig import FORMATS, SigningKey


class LoadedKey(NamedTuple):
    """A key of the ring. ``key`` is None where ``problem`` has the reason, or its material is
    gone."""

    info: KeyInfo
    sealed: bytes
    key: SigningKey | None
    problem: errors.SigmgrError | None = None


class Keychain:
    def __init__(self, loaded: Iterable[LoadedKey] = ()) -> None:
        self._by_id = {one.info.key_id: one for one in loaded}
        self._by_app: dict[int, list[LoadedKey]] = {}
        for key_id in sorted(self._by_id):
            one = self._by_id[key_id]
            self._by_app.setdefault(one.info.sdkappid, []).append(one)

    @classmethod
    def opened(cls, sealed: Iterable[SealedKey], master: MasterKey, before: Keychain) -> Keychain:
        """The next value; parses only what ``before`` does not have."""
        return cls(before.carried_over(one) or _open(one, master) for one in sealed)

    def carried_over(self, sealed: SealedKey) -> LoadedKey | None:
        """The same key with new facts, where it is open already."""
        info = sealed.info
        old = self.find(info.sdkappid, info.key_id)
        if old is None or old.problem or old.sealed != sealed.sealed:
            return None
        return old._replace(info=info) if old.info.format == info.format else None

    def find(self, sdkappid: int, key_id: int) -> LoadedKey | None:
        one = self._by_id.get(key_id)
        return one if one is not None and one.info.sdkappid == sdkappid else None

    def of_app(self, sdkappid: int) -> list[LoadedKey]:
        return self._by_app.get(sdkappid, [])

    def active(self, sdkappid: int) -> LoadedKey | None:
        """The app's active key; the newest, if the store ever had two."""
        active = [one for one in self.of_app(sdkappid) if one.info.state is KeyState.ACTIVE]
        return active[-1] if active else None

    def problems(self) -> list[errors.SigmgrError]:
        return [one.problem for one in self._by_id.values() if one.problem]


def _open(sealed: SealedKey, master: MasterKey) -> LoadedKey:
    info = sealed.info
    if not sealed.sealed:
        return LoadedKey(info, sealed.sealed, None)
    name = f"key {info.key_id} of app {info.sdkappid}"
    problem: errors.SigmgrError
    try:
        material = master.open(sealed.sealed, key_context(info.sdkappid, info.key_id))
        key = FORMATS.named(info.format).keys.signer(material)
        return LoadedKey(info, sealed.sealed, key)
    except errors.WrongMasterKey:
        problem = errors.WrongMasterKey(f"{name} does not open with this master key")
    except errors.BadKey as error:
        problem = errors.SetupError(f"{name} is not usable: {error.text}")
    return LoadedKey(info, sealed.sealed, None, problem)


def generate(format: str, curve: str | None = None) -> bytes:  # noqa: A002
    """Material of a new key, from the system's random source, in the form of its format. Raises
    :class:`errors.BadKey` for a format that is none, or a curve that it has not."""
    return FORMATS.named(format).keys.generate(secrets.token_bytes, curve)
