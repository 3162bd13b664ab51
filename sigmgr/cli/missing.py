"""The message for a missing option or argument: its help text, and an example of the whole command.
So every required parameter has a help text and an example here; a test checks both.
"""

from __future__ import annotations

from typing import Any, get_args

#: The value of a parameter in an example; of a choice it is the first one.
_EXAMPLES = {
    "sdkappid": "1400000001",
    "userid": "alice",
    "key": "app.pem",
    "file": "app.pem",
    "out": "app.pem",
    "key_id": "1",
    "token_id": "1",
    "sig": '"$SIG"',
    "revision": "0001",
}

#: Arguments that are optional one by one, but of which the command needs one.
_BESIDES = {"sigmgr revoke": ["alice"]}


def message(parameter: Any, context: Any) -> tuple[str, str]:
    """What is missing and what it is for; and an example of the whole command."""
    chosen = _choices(parameter)
    purpose = (parameter.help or "").rstrip(".").replace("; - is stdin", "")
    among = f" One of {', '.join(chosen)}." if chosen else ""
    return f"{_name(parameter)} is missing: {purpose}.{among}", f"For example: {example(context)}"


def example(context: Any) -> str:
    required = [one for one in context.command.params if one.required]
    arguments = [_value(one) for one in required if not _is_option(one)]
    options = [f"{one.opts[0]} {_value(one)}" for one in required if _is_option(one)]
    besides = _BESIDES.get(context.command_path, [])
    return " ".join([context.command_path, *arguments, *besides, *options])


def _is_option(parameter: Any) -> bool:
    return str(parameter.opts[0]).startswith("-")


def _name(parameter: Any) -> str:
    return str(parameter.opts[0] if _is_option(parameter) else parameter.metavar)


def _value(parameter: Any) -> str:
    return next(iter(_choices(parameter)), None) or _EXAMPLES[parameter.name]


def _choices(parameter: Any) -> list[str]:
    """The values of a choice, else empty."""
    return [one for one in get_args(parameter.type_descriptor.annotation) if isinstance(one, str)]
