"""Limits that texts, checks and documents name alike."""

from __future__ import annotations

from typing import Final

#: How long a sig lives, in whole seconds: for people, for the service and for the formats.
MIN_TTL: Final = 10
MAX_TTL: Final = 3650 * 86400
