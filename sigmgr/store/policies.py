"""A policy as JSON: only the fields that differ from the defaults, so that a better default in a
later version reaches every app without a choice of its own.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import msgspec

from sigmgr.model import errors
from sigmgr.model.policy import Policy

_NAMES = frozenset(field.name for field in dataclasses.fields(Policy))


def policy_overrides(policy: Policy) -> dict[str, Any]:
    chosen, default = dataclasses.asdict(policy), dataclasses.asdict(Policy())
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in chosen.items()
        if value != default[name]
    }


def policy_from(overrides: Mapping[str, Any]) -> Policy:
    """The policy with these fields in place of the defaults. Raises BadSettings."""
    unknown = sorted(set(overrides) - _NAMES)
    if unknown:
        raise errors.BadSettings(f"a policy has no field {', '.join(unknown)}")
    try:
        return msgspec.convert(dict(overrides), Policy)
    except (msgspec.ValidationError, errors.InputError) as error:
        raise errors.BadSettings(f"the policy is not valid: {error}") from error


def dump(policy: Policy) -> str:
    return msgspec.json.encode(policy_overrides(policy), order="sorted").decode()


def load(text: str) -> Policy:
    try:
        return policy_from(msgspec.json.decode(text, type=dict[str, Any]))
    except msgspec.DecodeError as error:
        raise errors.BadSettings("the policy is no JSON object") from error
