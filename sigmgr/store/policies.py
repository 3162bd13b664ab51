"""A policy as JSON: only the fields that differ from the defaults, so that a better default in a
later version reaches every app without a choice of its own.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import msgspec

from sigmgr.model import errors
from sigmgr.model.policy import Policy

_NAMES = frozenset(field.name for field in dataclasses.fields(Policy))


def dump(policy: Policy) -> str:
    chosen, default = dataclasses.asdict(policy), dataclasses.asdict(Policy())
    overrides = {name: value for name, value in chosen.items() if value != default[name]}
    return msgspec.json.encode(overrides, order="sorted").decode()


def load(text: str) -> Policy:
    """Raises BadSettings."""
    try:
        overrides = msgspec.json.decode(text, type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise errors.BadSettings("the policy is no JSON object") from error
    unknown = sorted(set(overrides) - _NAMES)
    if unknown:
        raise errors.BadSettings(f"a policy has no field {', '.join(unknown)}")
    try:
        return msgspec.convert(overrides, Policy)
    except (msgspec.ValidationError, errors.InputError) as error:
        raise errors.BadSettings(f"the policy is not valid: {error}") from error
