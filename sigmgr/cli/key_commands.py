"""``sigmgr key``: an application's signing keys and their states."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from sigmgr.cli import calls, formats, keychange, keyfile, output
from sigmgr.cli.frame import command_app
from sigmgr.model.app import KeyInfo, check_step
from sigmgr.model.numbers import whole
from sigmgr.model.sig import KeyState

if TYPE_CHECKING:
    from sigmgr.wiring.base import Base

app = command_app("Manage signing keys.")

KeyId = Annotated[
    int, typer.Argument(metavar="KEY_ID", parser=whole, help="Its number, as 'key list' shows it.")
]
Activate = Annotated[bool, typer.Option("--activate", help="Sign with it from now on.")]
Force = Annotated[
    bool, typer.Option("--force", help="Even where no key is left that signs; with --yes.")
]


def _shown(key: KeyInfo) -> dict[str, Any]:
    return {**key._asdict(), "state": key.state.value}


def _line(key: KeyInfo) -> str:
    kind = keychange.kind(key.format, key.curve)
    since = output.iso(key.changed_at)
    return f"{key.key_id:<6} {key.state.value:<9} {kind:<14} {key.fingerprint}  since {since}"


async def _keys_of(base: Base, sdkappid: int) -> list[KeyInfo]:
    """An application's keys, oldest first. Raises AppUnknown."""
    await base.catalog.get_app(sdkappid)
    return await base.catalog.list_keys(sdkappid)


def _print(key: KeyInfo, as_json: bool) -> None:
    output.print_json(_shown(key)) if as_json else output.print_line(_line(key))


@app.command("add")
def add(
    sdkappid: calls.AppId,
    file: Annotated[
        str,
        typer.Option("--file", metavar="FILE", help=formats.PRIVATE_FILE),
    ],
    format: Annotated[  # noqa: A002
        formats.Name | None, typer.Option("--format", help="Told from the file where left out.")
    ] = None,
    activate: Activate = False,
    yes: calls.Yes = False,
    config: calls.Config = None,
    as_json: calls.AsJson = False,
) -> None:
    """Seal a key into the database. It signs nothing before it is activated.

    What is in the file is looked at first: what certainly is another thing is refused, and
    what is merely odd, such as a secret of 60 characters, is sealed with --yes only.

    \b
    Examples:
      sigmgr key add 1400000000 --file secret.txt
      sigmgr key add 1400000000 --file app.pem --activate
    """
    found = keyfile.signing_key(file, format, "--file")
    kind = keychange.kind(found.format, found.key.curve)

    async def work(base: Base) -> tuple[KeyInfo, KeyInfo | None]:
        keys = await _keys_of(base, sdkappid)
        keychange.refuse_known(keys, found.key.fingerprint)
        former = keychange.active(keys) if activate else None
        warnings = [f"{keyfile.name(file)}: {found.odd}"] if found.odd else []
        warnings += keychange.replaced(former, f"this key, {kind}, {found.key.fingerprint}")
        calls.ask(warnings, yes=yes)
        added = await base.add_key(
            sdkappid, found.format, found.material, activate=activate, sure=True
        )
        return added, former

    key, former = calls.with_base(config, work)
    _print(key, as_json)
    if activate:
        keychange.taken_back_by(former)
    else:
        output.note(f"Next: sigmgr key activate {sdkappid} {key.key_id}")


@app.command("generate")
def generate(
    sdkappid: calls.AppId,
    format: formats.Format,  # noqa: A002
    curve: formats.Curve = None,
    activate: Activate = False,
    yes: calls.Yes = False,
    config: calls.Config = None,
    as_json: calls.AsJson = False,
) -> None:
    """Make a key inside sigmgr; its secret never leaves. A public half is shown as PEM.

    The Tencent console takes the public half of a v1 key. It takes no v2 secret: the cloud
    knows the one that the console shows, which is added with 'sigmgr key add'.
    """
    from sigmgr.keys.keychain import generate as make

    form = formats.chosen(format, curve)
    material = make(format, curve)
    made = form.keys.signer(material)

    async def work(base: Base) -> tuple[KeyInfo, KeyInfo | None]:
        keys = await _keys_of(base, sdkappid)
        former = keychange.active(keys) if activate else None
        kind = keychange.kind(format, made.curve)
        calls.ask(keychange.replaced(former, f"a new key, {kind}"), yes=yes)
        return await base.add_key(sdkappid, format, material, activate=activate), former

    key, former = calls.with_base(config, work)
    public = made.public_pem.decode()
    hint = form.hints.made_inside.format(sdkappid=sdkappid)
    if not public:
        output.warn(hint)
    if as_json:
        output.print_json({**_shown(key), "public_pem": public or None})
    else:
        output.print_line(_line(key))
    if public and not as_json:
        output.print_line(public.strip())
        output.note(hint)
    keychange.taken_back_by(former)


@app.command("list")
def list_keys(
    sdkappid: calls.AppId, config: calls.Config = None, as_json: calls.AsJson = False
) -> None:
    """An application's keys, oldest first."""
    keys = calls.with_base(config, lambda base: _keys_of(base, sdkappid))
    add_one = f"sigmgr key add {sdkappid} --file FILE --activate"
    output.listing(keys, as_json, _shown, _line, add_one)


@app.command("activate")
def activate(
    sdkappid: calls.AppId,
    key_id: KeyId,
    yes: calls.Yes = False,
    config: calls.Config = None,
    as_json: calls.AsJson = False,
) -> None:
    """Sign with this key from now on.

    The one before becomes old and still verifies; it may be activated again.
    """

    async def work(base: Base) -> tuple[KeyInfo, KeyInfo | None]:
        keys = await _keys_of(base, sdkappid)
        key = keychange.found(keys, sdkappid, key_id)
        check_step(key, KeyState.ACTIVE)
        former = keychange.active(keys)
        if former == key:
            return key, None
        kind = keychange.kind(key.format, key.curve)
        warnings = await keychange.doubted(base, key)
        warnings += keychange.replaced(former, f"key {key_id}, {kind}, {key.fingerprint}")
        calls.ask(warnings, yes=yes)
        key = await base.catalog.set_key_state(sdkappid, key_id, KeyState.ACTIVE, base.clock())
        return key, former

    key, former = calls.with_base(config, work)
    _print(key, as_json)
    keychange.taken_back_by(former)


@app.command("taint")
def taint(
    sdkappid: calls.AppId,
    key_id: KeyId,
    yes: calls.Yes = False,
    force: Force = False,
    config: calls.Config = None,
    as_json: calls.AsJson = False,
) -> None:
    """Stop a key that somebody else may have.

    It signs nothing more, and its sigs are replaced as they are asked for or fall due.
    """
    what = f"Key {key_id} of app {sdkappid} will sign nothing any more; this cannot be undone."
    _print(_ended(what, sdkappid, key_id, KeyState.TAINTED, config, yes, force), as_json)


@app.command("revoke")
def revoke(
    sdkappid: calls.AppId,
    key_id: KeyId,
    yes: calls.Yes = False,
    force: Force = False,
    config: calls.Config = None,
    as_json: calls.AsJson = False,
) -> None:
    """End a tainted key: none of its sigs counts as good.

    The last step; a key is tainted first, so that its sigs are replaced meanwhile.
    """
    what = f"Sigs of key {key_id} of app {sdkappid} will count as dead; this cannot be undone."
    _print(_ended(what, sdkappid, key_id, KeyState.REVOKED, config, yes, force), as_json)


def _ended(
    what: str,
    sdkappid: int,
    key_id: int,
    state: KeyState,
    config: str | None,
    yes: bool,
    force: bool,
) -> KeyInfo:
    """Taint or revoke, if all confirmations are given."""

    async def work(base: Base) -> KeyInfo:
        keys = await _keys_of(base, sdkappid)
        key = keychange.found(keys, sdkappid, key_id)
        check_step(key, state)
        if key.state is state:
            return key
        last = await keychange.end_of(base, key, keys, state)
        calls.ask([what, *last], yes=yes, force=force if last else None)
        return await base.catalog.set_key_state(sdkappid, key_id, state, base.clock())

    return calls.with_base(config, work)
