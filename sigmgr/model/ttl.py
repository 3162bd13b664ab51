"""How long a sig may live: bounds that several modules and documents share."""

from __future__ import annotations

from typing import Final

#: Whole seconds.
MIN_TTL: Final = 10
MAX_TTL: Final = 3650 * 86400
