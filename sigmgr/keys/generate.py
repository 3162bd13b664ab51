"""New signing keys, from the system's random source.

The material is what gets sealed; its form is the format's to know.
"""

from __future__ import annotations

import secrets

from sigmgr.model.usersig import FORMATS


def generate(format: str, curve: str | None = None) -> bytes:  # noqa: A002
    """Material of a new key. Raises :class:`errors.BadKey` for a format that is none, or a
    curve that it has not."""
    return FORMATS.named(format).keys.generate(secrets.token_bytes, curve)
