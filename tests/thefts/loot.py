"""What a thief looks for in bytes: sigs in any of their forms, and other known secrets."""

from __future__ import annotations

import re
import zlib
from base64 import b64decode
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

_TO_BASE64 = str.maketrans("*-_", "+/=")
_BASE64_RUN = re.compile(rb"[A-Za-z0-9+/*-]{40,}")
_ZLIB_HEAD = re.compile(rb"\x78[\x01\x5e\x9c\xda]")
_SHORT = 12


def container(usersig: str) -> bytes:
    """The bytes behind a sig string: zlib around JSON."""
    return b64decode(usersig.translate(_TO_BASE64))


def forms(usersig: str) -> Iterator[tuple[str, bytes]]:
    """How one sig may lie somewhere, by name, and the part of it that nobody else can make."""
    raw = container(usersig)
    text = zlib.decompress(raw)
    yield "the string", usersig.encode()
    yield "standard base64", usersig.translate(_TO_BASE64).encode()
    yield "its bytes", raw
    yield "its JSON", text
    [signature] = re.findall(rb'"TLS\.sig":"([^"]+)"', text)
    yield "the signature inside", signature
    yield "the bytes of the signature", b64decode(signature)


def found(loot: bytes, known: Iterable[str]) -> set[str]:
    """Which forms of known sigs are in there, and whether any other sig is.

    Half of a form counts: it would be enough to guess where the rest is.
    """
    there = {"something that inflates to a sig" for _ in inflated(loot)}
    for usersig in known:
        for name, form in forms(usersig):
            half = len(form) // 2
            if any(len(part) > _SHORT and part in loot for part in (form[:half], form[half:])):
                there.add(name)
    return there


def inflated(loot: bytes) -> Iterator[bytes]:
    """All that unpacks to a sig's JSON, from wherever it begins: as bytes, and in base64."""
    yield from _unpacked(loot)
    for run in _BASE64_RUN.findall(loot):
        text = run.decode().translate(_TO_BASE64)
        for start in range(4):
            some = text[start:]
            yield from _unpacked(b64decode(some[: len(some) // 4 * 4]))


def _unpacked(data: bytes) -> Iterator[bytes]:
    for head in _ZLIB_HEAD.finditer(data):
        try:
            text = zlib.decompressobj().decompress(data[head.start() :])
        except zlib.error:
            continue
        if b"TLS." in text:
            yield text


def among(loot: bytes, secrets: Sequence[str]) -> list[str]:
    """Those of the secrets that are in there, whole or a long piece of them."""
    return [secret for secret in secrets if any(p in loot for p in _pieces(secret.encode()))]


def _pieces(secret: bytes) -> list[bytes]:
    """Each third of it; a log may have cut it."""
    cuts = [0, len(secret) // 3, 2 * len(secret) // 3, len(secret)]
    return [secret[a:b] for a, b in pairwise(cuts)]
