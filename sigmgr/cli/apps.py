"""``sigmgr app``: the Tencent applications that this service signs for."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any, Literal

import typer

from sigmgr.cli import calls, output
from sigmgr.cli.frame import FAILURE, command_app
from sigmgr.model.app import App
from sigmgr.model.errors import ConflictError
from sigmgr.model.policy import Policy
from sigmgr.model.shown import masked

app = command_app("Manage applications.")

Ttl = Annotated[
    str | None, typer.Option("--ttl", metavar="TIME", help="Life of a UserSig, such as 90d or 30s.")
]
RoomTtl = Annotated[
    str | None, typer.Option("--room-ttl", metavar="TIME", help="Life of a room key, such as 6h.")
]
Extra = Annotated[
    list[str] | None,
    typer.Option("--policy", metavar="NAME=VALUE", help="Any policy setting; may be repeated."),
]


def _shown(one: App) -> dict[str, Any]:
    default, policy = asdict(Policy()), asdict(one.policy)
    return {
        "sdkappid": one.sdkappid,
        "name": masked(one.name),
        "paused": one.paused,
        "ttl": one.policy.ttl,
        "policy": {name: value for name, value in policy.items() if value != default[name]},
        "created_at": one.created_at,
        "feed": one.feed or None,
    }


def _line(one: App) -> str:
    state, ttl = "paused" if one.paused else "on", output.duration(one.policy.ttl)
    return f"{one.sdkappid:<12} {ttl:<10} {state:<7} {masked(one.name)}"


def _table(one: App) -> list[tuple[str, str]]:
    shown = _shown(one)
    overrides = ", ".join(f"{k}={v}" for k, v in shown["policy"].items()) or "defaults"
    return [
        ("sdkappid", str(one.sdkappid)),
        ("name", masked(one.name) or "-"),
        ("renewal", "paused (emergencies go on)" if one.paused else "on"),
        ("ttl", output.duration(one.policy.ttl)),
        ("policy", overrides),
        ("created", output.iso(one.created_at)),
        ("feed", f"on ({one.feed})" if one.feed else "off"),
    ]


@app.command("add")
def add(
    sdkappid: calls.AppId,
    name: calls.Name = "",
    ttl: Ttl = None,
    room_ttl: RoomTtl = None,
    policy: Extra = None,
    config: calls.Config = None,
    as_json: calls.AsJson = False,
) -> None:
    """Make an application known. Next: give it a key with 'sigmgr key add'."""
    from sigmgr.model.holder import check_sdkappid

    check_sdkappid(sdkappid)
    wanted = calls.changed_policy(Policy(), ttl, room_ttl, policy or [])
    added = calls.with_base(
        config,
        lambda base: base.catalog.add_app(sdkappid, name, policy=wanted, now=base.clock()),
    )
    output.print_json(_shown(added)) if as_json else output.print_table(_table(added))
    output.note(
        f"Next: sigmgr key add {sdkappid} --file KEYFILE --activate, or to try things out:"
        f" sigmgr key generate {sdkappid} --format v2 --activate"
    )


@app.command("list")
def list_apps(config: calls.Config = None, as_json: calls.AsJson = False) -> None:
    """All applications."""
    apps = calls.with_base(config, lambda base: base.catalog.list_apps())
    output.listing(apps, as_json, _shown, _line, "sigmgr app add SDKAPPID")


@app.command("show")
def show(sdkappid: calls.AppId, config: calls.Config = None, as_json: calls.AsJson = False) -> None:
    """One application with its policy."""
    one = calls.with_base(config, lambda base: base.catalog.get_app(sdkappid))
    output.print_json(_shown(one)) if as_json else output.print_table(_table(one))


_ENDS_FEED = (
    "This ends the feed: readers that have not read all of it lose the rest, and where they are"
    " means nothing to the next one."
)


@app.command("set")
def set_app(
    sdkappid: calls.AppId,
    name: calls.NewName = None,
    pause: Annotated[
        bool | None,
        typer.Option("--pause/--resume", help="Stop or resume ordinary renewals."),
    ] = None,
    feed: Annotated[
        Literal["on", "off"] | None,
        typer.Option("--feed", help="Keep the app's events for durable readers for 7 days."),
    ] = None,
    ttl: Ttl = None,
    room_ttl: RoomTtl = None,
    policy: Extra = None,
    yes: calls.Yes = False,
    config: calls.Config = None,
    as_json: calls.AsJson = False,
) -> None:
    """Change an application. A new lifetime applies to sigs that are made from now on, a feed
    begins with what is committed from now on; off and on again makes it another one."""

    async def work(base: Any) -> App:
        before = await base.catalog.get_app(sdkappid)
        if feed == "off" and before.feed:
            calls.ask([_ENDS_FEED], yes=yes)
        changed: App = await base.catalog.set_app(
            sdkappid,
            name=name,
            policy=lambda held: calls.changed_policy(held, ttl, room_ttl, policy or []),
            paused=pause,
        )
        if feed is not None:
            changed = await base.catalog.set_feed(sdkappid, on=feed == "on")
        return changed

    one = calls.with_base(config, work)
    output.print_json(_shown(one)) if as_json else output.print_table(_table(one))


@app.command("remove")
def remove(
    sdkappid: calls.AppId,
    force: Annotated[bool, typer.Option("--force", help="Even while it has holders.")] = False,
    yes: calls.Yes = False,
    config: calls.Config = None,
) -> None:
    """Forget an application, its keys and, with --force, all its holders."""
    one = calls.with_base(config, lambda base: base.catalog.get_app(sdkappid))
    what = f"This forgets app {sdkappid} ({one.name or 'no name'}), its keys and its holders."
    calls.ask([what], yes=yes)
    try:
        calls.with_base(config, lambda base: base.catalog.remove_app(sdkappid, force=force))
    except ConflictError as error:
        output.complain(error.text, error.code, "Add --force to forget its holders too.")
        raise typer.Exit(FAILURE) from None
    output.print_line(f"app {sdkappid} is forgotten")
