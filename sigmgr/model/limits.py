"""Limits that several modules and documents share."""

from __future__ import annotations

from typing import Final

#: The lifetime of a sig, in whole seconds.
MIN_TTL: Final = 10
MAX_TTL: Final = 3650 * 86400
