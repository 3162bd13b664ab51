"""``sigmgr key``: an application's signing keys: prepared, active, old, tainted, revoked."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from sigmgr.cli import calls, output
from sigmgr.cli.frame import NEGATIVE, command_app
from sigmgr.model.app import KeyInfo
from sigmgr.model.sig import Format, KeyState

app = command_app("Manage signing keys.")

KeyId = Annotated[int, typer.Argument(metavar="KEY_ID", help="As 'key list' shows it.")]
Activate = Annotated[bool, typer.Option("--activate", help="Sign with it from now on.")]


def _shown(key: KeyInfo) -> dict[str, Any]:
    return {**key._asdict(), "state": key.state.value}


def _line(key: KeyInfo) -> str:
    kind = f"{key.format} {key.curve}".strip()
    since = output.iso(key.changed_at)
    return f"{key.key_id:<6} {key.state.value:<9} {kind:<14} {key.fingerprint}  since {since}"


def _tell(key: KeyInfo, as_json: bool) -> None:
    output.say_json(_shown(key)) if as_json else output.say(_line(key))


@app.command("add")
def add(
    sdkappid: calls.AppId,
    file: Annotated[
        str, typer.Option("--file", help="A private PEM (v1) or the secret (v2); - is stdin.")
    ],
    format: Annotated[  # noqa: A002
        Format | None, typer.Option("--format", help="Told from the file where left out.")
    ] = None,
    activate: Activate = False,
    config: calls.Config = None,
    as_json: calls.AsJson = False,
) -> None:
    """Seal a key into the database. It signs nothing before it is activated."""
    content = _read(file)
    told = format or (Format.V1 if b"-----BEGIN" in content else Format.V2)
    key = calls.with_base(
        config, lambda base: base.add_key(sdkappid, told, content, activate=activate)
    )
    _tell(key, as_json)
    if not activate:
        output.note(f"Next: sigmgr key activate {sdkappid} {key.key_id}")


@app.command("generate")
def generate(
    sdkappid: calls.AppId,
    format: Annotated[Format, typer.Option("--format", help="v1 or v2.")],  # noqa: A002
    curve: Annotated[str, typer.Option("--curve", help="For v1: P-256 or secp256k1.")] = "P-256",
    activate: Activate = False,
    config: calls.Config = None,
    as_json: calls.AsJson = False,
) -> None:
    """Make a key inside sigmgr; its secret never leaves. For v1 the public PEM is shown."""
    from sigmgr.keys.generate import generate as make
    from sigmgr.keys.generate import public_pem

    material = make(format, curve)
    key = calls.with_base(
        config, lambda base: base.add_key(sdkappid, format, material, activate=activate)
    )
    public = public_pem(material).decode() if format is Format.V1 else ""
    if as_json:
        output.say_json({**_shown(key), "public_pem": public or None})
        return
    output.say(_line(key))
    if public:
        output.say(public.strip())


@app.command("list")
def list_keys(
    sdkappid: calls.AppId, config: calls.Config = None, as_json: calls.AsJson = False
) -> None:
    """An application's keys, oldest first."""

    async def story(base: Any) -> list[KeyInfo]:
        await base.catalog.get_app(sdkappid)
        listed: list[KeyInfo] = await base.catalog.list_keys(sdkappid)
        return listed

    keys = calls.with_base(config, story)
    if as_json:
        output.say_json([_shown(key) for key in keys])
        return
    for key in keys:
        output.say(_line(key))
    if not keys:
        output.note(f"There are none yet. Next: sigmgr key add {sdkappid} --file FILE --activate")


def _step(state: KeyState, sdkappid: int, key_id: int, config: str | None, as_json: bool) -> None:
    key = calls.with_base(
        config,
        lambda base: base.catalog.set_key_state(sdkappid, key_id, state, base.clock()),
    )
    _tell(key, as_json)


@app.command("activate")
def activate(
    sdkappid: calls.AppId,
    key_id: KeyId,
    config: calls.Config = None,
    as_json: calls.AsJson = False,
) -> None:
    """Sign with this key from now on; the one before becomes old and still verifies."""
    _step(KeyState.ACTIVE, sdkappid, key_id, config, as_json)


@app.command("taint")
def taint(
    sdkappid: calls.AppId,
    key_id: KeyId,
    yes: calls.Yes = False,
    config: calls.Config = None,
    as_json: calls.AsJson = False,
) -> None:
    """A key that somebody else may have: it signs nothing more, and its sigs are replaced
    as they are asked for or fall due."""
    what = f"Key {key_id} of app {sdkappid} will sign nothing any more; this cannot be undone."
    if calls.held_back(what, yes):
        raise typer.Exit(NEGATIVE)
    _step(KeyState.TAINTED, sdkappid, key_id, config, as_json)


@app.command("revoke")
def revoke(
    sdkappid: calls.AppId,
    key_id: KeyId,
    yes: calls.Yes = False,
    config: calls.Config = None,
    as_json: calls.AsJson = False,
) -> None:
    """The last step of a tainted key: none of its sigs counts as good any more."""
    what = f"Sigs of key {key_id} of app {sdkappid} will count as dead; this cannot be undone."
    if calls.held_back(what, yes):
        raise typer.Exit(NEGATIVE)
    _step(KeyState.REVOKED, sdkappid, key_id, config, as_json)


def _read(file: str) -> bytes:
    if file == "-":
        return sys.stdin.buffer.read(65536)
    try:
        return Path(file).read_bytes()[:65536]
    except OSError as error:
        raise output.Misuse(
            f"{file} cannot be read: {error.strerror}", "Name a file that you may read."
        ) from None
