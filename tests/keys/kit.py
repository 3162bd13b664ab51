"""A ring over a list of keys that a test changes as it likes."""

from __future__ import annotations

import asyncio

from sigmgr.keys.keychain import generate
from sigmgr.keys.ring import KeyRing
from sigmgr.keys.sealing import MasterKey, key_context
from sigmgr.model.app import KeyInfo, SealedKey
from sigmgr.model.holder import Holder
from sigmgr.model.sig import KeyState, SigFacts
from sigmgr.model.usersig import FORMATS, SigningKey

APP = 1400000000
NOW = 1_900_000_000
MASTER = MasterKey(b"m" * 32)


class Vault:
    """The catalog's keys. ``loads`` counts, ``fail`` is raised, ``gate`` holds a load up."""

    def __init__(self) -> None:
        self.keys: dict[int, SealedKey] = {}
        self.parsed: dict[int, SigningKey] = {}
        self.loads = 0
        self.fail: Exception | None = None
        self.gate: asyncio.Event | None = None

    def add(self, key_id, format_="v2", state="active", *, app=APP, curve="P-256", sealer=MASTER):
        material = generate(format_, curve)
        key = FORMATS.named(format_).keys.signer(material)
        info = KeyInfo(key_id, app, format_, key.curve, KeyState(state), key.fingerprint, NOW, NOW)
        sealed = sealer.seal(material, context=key_context(app, key_id))
        self.keys[key_id] = SealedKey(info, sealed)
        self.parsed[key_id] = key

    def turn(self, key_id, state):
        old = self.keys[key_id]
        self.keys[key_id] = old._replace(info=old.info._replace(state=KeyState(state)))

    async def load(self):
        self.loads += 1
        found = list(self.keys.values())
        if self.gate is not None:
            await self.gate.wait()
        if self.fail is not None:
            raise self.fail
        return found


class Ticks:
    """A monotonic clock moved by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def ring_over(vault: Vault, ticks: Ticks, **options) -> KeyRing:
    return KeyRing(vault.load, MASTER, monotonic=ticks, **options)


def facts(key_id=1, userid="alice", format_="v2", *, app=APP, kind="user", scope="", mask=0):
    return SigFacts(Holder(app, userid, kind, scope), format_, key_id, NOW, 86400, mask)
