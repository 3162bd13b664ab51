"""New signing keys, from the system's random source, in the form that is sealed."""

from __future__ import annotations

import secrets

from sigmgr.model.usersig import FORMATS


def generate(format: str, curve: str | None = None) -> bytes:  # noqa: A002
    """Material of a new key. Raises :class:`errors.BadKey` for an unknown format or curve."""
    return FORMATS.named(format).keys.generate(secrets.token_bytes, curve)
