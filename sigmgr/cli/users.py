"""``sigmgr issue``, ``show``, ``reissue``, ``revoke``: one user's sigs, from the shell."""

from __future__ import annotations

from typing import Annotated, Any, cast

import typer

from sigmgr.cli import calls, output
from sigmgr.cli.frame import FAILURE, command_app
from sigmgr.model.errors import HolderUnknown
from sigmgr.model.holder import (
    ALL_PRIVILEGES,
    Holder,
    Kind,
    check_privileges,
    check_room,
    check_userid,
)
from sigmgr.model.numbers import natural, whole
from sigmgr.model.sig import Current, Reason, Record

app = command_app("One user's sigs.")

_REASONS = "Forced, KeyRotated, KeyTainted, PolicyChanged or ClientRequested."

Why = Annotated[str, typer.Option("--reason", metavar="WORD", help=_REASONS)]
Replaces = Annotated[
    int | None,
    typer.Option(
        "--replaces", metavar="T", parser=natural, help="Only if the current one was issued then."
    ),
]
Create = Annotated[bool, typer.Option("--create", help="Issue the first one, if there was none.")]
UserId = Annotated[str, typer.Argument(metavar="USERID", help="The user's id.")]


def _current(current: Current, as_json: bool) -> None:
    if as_json:
        shown = {**current._asdict(), **current.holder._asdict()}
        del shown["holder"]
        output.print_json(shown)
        return
    output.print_line(current.usersig)
    left = current.expires_at - current.issued_at
    output.note(
        f"{current.format}, key {current.key_id}, issued {output.iso(current.issued_at)},"
        f" lives {output.duration(left)}, renewal planned {output.iso(current.renew_at)}"
    )


@app.command("issue")
def issue(
    sdkappid: calls.AppId,
    userid: UserId,
    admin: Annotated[bool, typer.Option("--admin", help="A sig for REST calls.")] = False,
    room: Annotated[
        int | None,
        typer.Option("--room", metavar="ID", parser=whole, help="A room key for this room."),
    ] = None,
    room_name: Annotated[
        str | None, typer.Option("--room-name", metavar="NAME", help="Or for this one.")
    ] = None,
    privileges: Annotated[
        int | None,
        typer.Option(
            "--privileges", metavar="MASK", parser=whole, help="For a room: 1 to 255 (the default)."
        ),
    ] = None,
    config: calls.Config = None,
    as_json: calls.AsJson = False,
) -> None:
    """The user's current sig, issued if there is none."""
    check_userid(userid)
    in_room = None if room is None and room_name is None else check_room(room, room_name)
    mask = check_privileges(ALL_PRIVILEGES if privileges is None else privileges)
    if in_room is not None and admin:
        raise output.Misuse("a room key is no admin sig", "Leave out --admin or the room.")
    if in_room is None and privileges is not None:
        raise output.Misuse("privileges belong to a room", "Name it: --room or --room-name.")

    async def work(parts: Any) -> Current:
        now = parts.base.clock()
        if in_room is None:
            holder = Holder(sdkappid, userid, (Kind.ADMIN if admin else Kind.USER).value)
            return cast("Current", await parts.flows.issue.current(holder, now))
        made = await parts.flows.room_keys.current(
            sdkappid, userid, in_room, privileges=mask, ttl=None, now=now
        )
        return cast("Current", made)

    _current(calls.with_parts(config, work), as_json)


@app.command("show")
def show(
    sdkappid: calls.AppId,
    userid: UserId,
    config: calls.Config = None,
    as_json: calls.AsJson = False,
) -> None:
    """What is known of a user: times, keys, delivery, history. Never a sig."""
    check_userid(userid)
    records, now = calls.with_base(config, lambda base: base.holders_of(sdkappid, userid))
    if as_json:
        output.print_json([record._asdict() for record in records])
        return
    for at, record in enumerate(records):
        if at:
            output.print_line("")
        output.print_table(_facts(record, now))


def _facts(record: Record, now: int) -> list[tuple[str, str]]:
    rows = [("kind", f"{record.kind} {record.scope}".strip())]
    if record.issued_at == 0:
        rows.append(("state", "never issued"))
    elif record.issued_at <= record.revoked_at:
        rows.append(("state", f"revoked {output.iso(record.revoked_at)}"))
    else:
        left = record.expires_at - now
        state = f"good for {output.duration(left)}" if left > 0 else output.remaining(left)
        asleep = ", dormant" if record.due_at is None else ""
        rows += [
            ("state", state + asleep),
            ("issued", f"{output.iso(record.issued_at)} ({record.reason})"),
            ("renewal", output.iso(record.renew_at)),
            ("expires", output.iso(record.expires_at)),
            ("key", f"{record.key_id} ({record.format})"),
        ]
    if record.failures:
        again = output.iso(record.due_at) if record.due_at else "never"
        rows.append(("failing", f"{record.failures} times: {record.last_error}; again {again}"))
    acked = "never" if not record.acked else output.iso(record.acked_at)
    held = " (the current one)" if record.acked and record.acked == record.issued_at else ""
    rows.append(("acked", acked + held))
    rows.append(("seen", output.iso(record.seen_at) if record.seen_at else "never"))
    return rows


@app.command("reissue")
def reissue(
    sdkappid: calls.AppId,
    userid: UserId,
    reason: Why = Reason.FORCED.value,
    replaces: Replaces = None,
    create: Create = False,
    config: calls.Config = None,
    as_json: calls.AsJson = False,
) -> None:
    """The user's next sig, now; connected clients are told of it."""
    from sigmgr.http.backend import reason_of

    check_userid(userid)
    why = reason_of(reason)

    async def work(parts: Any) -> Current:
        made: Current = await parts.flows.issue.reissue(
            Holder(sdkappid, userid),
            parts.base.clock(),
            reason=why,
            replaces=replaces,
            create=create,
        )
        return made

    try:
        made = calls.with_parts(config, work)
    except HolderUnknown as error:
        hint = "Check the user id; to issue the first sig, add --create."
        output.complain(error.text, error.code, hint)
        raise typer.Exit(FAILURE) from None
    _current(made, as_json)


@app.command("revoke")
def revoke(
    sdkappid: Annotated[
        int,
        typer.Argument(
            metavar="SDKAPPID", parser=whole, help="The application; 0 with --all-users: every."
        ),
    ],
    userid: Annotated[str | None, typer.Argument(metavar="USERID", help="The user's id.")] = None,
    all_users: Annotated[
        bool, typer.Option("--all-users", help="Every user of the application.")
    ] = False,
    yes: calls.Yes = False,
    config: calls.Config = None,
) -> None:
    """End all sigs of a user, or of all users, and close their streams.

    Running processes refuse the old sigs within seconds, with or without Redis. The next
    sig is issued once the pause after a revocation is over.
    """
    if all_users == (userid is not None):
        raise output.Misuse("whom to revoke is not said", "Give a USERID, or --all-users.")
    _ask_first(sdkappid, userid, yes, config)
    if userid is None:
        until = calls.with_parts(
            config, lambda parts: parts.flows.revoke.everybody(sdkappid, parts.base.clock())
        )
        output.print_line(f"revoked up to {output.iso(until)}")
        return
    done = calls.with_parts(
        config, lambda parts: parts.flows.revoke.user(sdkappid, userid, parts.base.clock())
    )
    output.print_line(f"revoked up to {output.iso(done.revoked_at)}")
    if not done.known:
        output.note(f"No sig was ever issued for {userid}; the revocation holds all the same.")
    output.note("The cloud itself is told by your backend: its kick call ends the session there.")


def _ask_first(sdkappid: int, userid: str | None, yes: bool, config: str | None) -> None:
    """Print what would be done, and exit where --yes is missing. Raises AppUnknown, BadUserId."""
    if userid is not None:
        what = f"All sigs of {check_userid(userid)} in app {sdkappid} will be dead"
    elif sdkappid:
        what = f"All sigs of all users of app {sdkappid} will be dead"
    else:
        what = "All sigs of all users of every app will be dead"
    if not yes and (sdkappid or userid is not None):
        calls.with_base(config, lambda base: base.catalog.get_app(sdkappid))
    calls.ask([f"{what}; open streams are closed."], yes=yes)
