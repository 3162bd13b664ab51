"""``sigmgr key``: an application's signing keys: prepared, active, old, tainted, revoked."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sigmgr.cli import calls, keyfile, output
from sigmgr.cli.frame import NEGATIVE, command_app
from sigmgr.model.app import KeyInfo
from sigmgr.model.errors import KeyUnknown
from sigmgr.model.sig import Format, KeyState

if TYPE_CHECKING:
    from sigmgr.wiring import Base

app = command_app("Manage signing keys.")

_UNKNOWN_TO_THE_CLOUD = (
    "Tencent's cloud does not know a v2 secret that was made here and will refuse its sigs. For"
    " the real cloud take the secret that its console shows: sigmgr key add {sdkappid} --file"
    " SECRETFILE --activate"
)

KeyId = Annotated[int, typer.Argument(metavar="KEY_ID", help="As 'key list' shows it.")]
Activate = Annotated[bool, typer.Option("--activate", help="Sign with it from now on.")]


def _shown(key: KeyInfo) -> dict[str, Any]:
    return {**key._asdict(), "state": key.state.value}


def _line(key: KeyInfo) -> str:
    kind = f"{key.format} {key.curve}".strip()
    since = output.iso(key.changed_at)
    return f"{key.key_id:<6} {key.state.value:<9} {kind:<14} {key.fingerprint}  since {since}"


def _listed(sdkappid: int) -> Callable[[Base], Awaitable[list[KeyInfo]]]:
    """The story of an application's keys. Raises AppUnknown."""

    async def story(base: Base) -> list[KeyInfo]:
        await base.catalog.get_app(sdkappid)
        return await base.catalog.list_keys(sdkappid)

    return story


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
    content = keyfile.read(file, "--file")
    told = format or (Format.V1 if b"-----BEGIN" in content else Format.V2)
    with keyfile.named(file):
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
    curve: Annotated[
        str | None, typer.Option("--curve", help="For v1: P-256 (default) or secp256k1.")
    ] = None,
    activate: Activate = False,
    config: calls.Config = None,
    as_json: calls.AsJson = False,
) -> None:
    """Make a key inside sigmgr; its secret never leaves. For v1 the public PEM is shown.

    The Tencent console takes the public half of a v1 key. It takes no v2 secret: the cloud
    knows the one that the console shows, which is added with ``sigmgr key add``.
    """
    from sigmgr.keys.generate import DEFAULT_CURVE, public_pem
    from sigmgr.keys.generate import generate as make

    if format is Format.V2 and curve is not None:
        raise output.Misuse("a v2 key has no curve", "Leave out --curve.")
    material = make(format, curve or DEFAULT_CURVE)
    key = calls.with_base(
        config, lambda base: base.add_key(sdkappid, format, material, activate=activate)
    )
    public = public_pem(material).decode() if format is Format.V1 else ""
    if format is Format.V2:
        output.warn(_UNKNOWN_TO_THE_CLOUD.format(sdkappid=sdkappid))
    if as_json:
        output.say_json({**_shown(key), "public_pem": public or None})
        return
    output.say(_line(key))
    if public:
        output.say(public.strip())
        output.note("Next: give this public key to the Tencent console as the application's.")


@app.command("list")
def list_keys(
    sdkappid: calls.AppId, config: calls.Config = None, as_json: calls.AsJson = False
) -> None:
    """An application's keys, oldest first."""
    keys = calls.with_base(config, _listed(sdkappid))
    if as_json:
        output.say_json([_shown(key) for key in keys])
        return
    for key in keys:
        output.say(_line(key))
    if not keys:
        output.note(f"There are none yet. Next: sigmgr key add {sdkappid} --file FILE --activate")


def _held_back(what: str, sdkappid: int, key_id: int, config: str | None, *, yes: bool) -> bool:
    """Show what would be done to a key that there is. Raises AppUnknown, KeyUnknown."""
    if not yes:
        known = {key.key_id for key in calls.with_base(config, _listed(sdkappid))}
        if key_id not in known:
            raise KeyUnknown(f"app {sdkappid} has no key {key_id}")
    return calls.held_back(what, yes)


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
    if _held_back(what, sdkappid, key_id, config, yes=yes):
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
    if _held_back(what, sdkappid, key_id, config, yes=yes):
        raise typer.Exit(NEGATIVE)
    _step(KeyState.REVOKED, sdkappid, key_id, config, as_json)
