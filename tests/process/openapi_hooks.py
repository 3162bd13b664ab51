"""Loaded by schemathesis, for what a schema cannot say.

To JSON Schema 1.0 is the integer 1, and so it is sent for one. Here numbers are digits, as
the document says in words, and 1.0 is refused (tests/http/test_fields.py holds that).
"""

from __future__ import annotations

from typing import Any

import schemathesis


def whole(value: Any) -> Any:
    """The value, with every number that has no fraction written without one."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {name: whole(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [whole(inner) for inner in value]
    return value


@schemathesis.hook
def map_body(_context: Any, body: Any) -> Any:
    return whole(body)
