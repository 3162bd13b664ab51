"""``sigmgr sig``: make, check and read sigs with a key file, without any service."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sigmgr.cli import calls, formats, keyfile, output
from sigmgr.cli.frame import NEGATIVE, command_app
from sigmgr.model.numbers import natural, whole

if TYPE_CHECKING:
    from sigmgr.model.holder import Holder

app = command_app("Make, check and read sigs with a key file; needs no service.")

_NUMBER = re.compile(r"0x[0-9a-f]{1,8}|[0-9]{1,10}")
_SIG_HELP = "The sig; - reads it from standard input, out of sight of the process list."
_SO_CALLED_VIEWER = 0xAB

Sig = Annotated[str, typer.Argument(metavar="SIG", help=_SIG_HELP)]
SdkAppId = Annotated[
    int, typer.Option("--sdkappid", metavar="N", parser=whole, help="The application.")
]
UserId = Annotated[str, typer.Option("--userid", metavar="U", help="Whose sig it is.")]
SigningKeyFile = Annotated[str, typer.Option("--key", metavar="FILE", help=formats.PRIVATE_FILE)]
Ttl = Annotated[
    str, typer.Option("--ttl", metavar="S", help="Lifetime: seconds, or such as 15m, 90d.")
]
RoomId = Annotated[
    int | None,
    typer.Option("--room", metavar="ID", parser=whole, help="Bind it to a numeric room."),
]
RoomName = Annotated[
    str | None, typer.Option("--room-name", metavar="S", help="Bind it to a named room.")
]
Privileges = Annotated[
    str | None,
    typer.Option(
        "--privileges", metavar="MASK", help="In the room: 255, 0x2a, or enter,receive_audio."
    ),
]
At = Annotated[
    int | None,
    typer.Option("--at", metavar="T", parser=natural, help="Unix seconds to take as now."),
]


@app.command("sign")
def sign(
    format: formats.Format,  # noqa: A002
    sdkappid: SdkAppId,
    userid: UserId,
    key: SigningKeyFile,
    ttl: Ttl = "90d",
    at: At = None,
    room: RoomId = None,
    room_name: RoomName = None,
    privileges: Privileges = None,
    as_json: calls.AsJson = False,
) -> None:
    """Make a sig and print it, alone on its line.

    With a room it is a privateMapKey: a sig that carries the room and what its holder may
    do there.

    \b
    Examples:
      sigmgr sig sign --format v2 --sdkappid 1400000000 --userid alice \\
        --key secret.txt
      sigmgr sig sign --format v1 --sdkappid 1400000000 --userid alice \\
        --key app.pem --ttl 30d --json
      sigmgr sig sign --format v2 --sdkappid 1400000000 --userid alice \\
        --key secret.txt --room 10000 --privileges enter,receive_audio --ttl 6h
    """
    from sigmgr.keys.acceptance import acceptable
    from sigmgr.model import usersig
    from sigmgr.model.sig import SigFacts

    holder = _holder(sdkappid, userid, room, room_name, privileges)
    mask = _mask(privileges) if privileges is not None else 0
    found = keyfile.signing_key(key, format)
    facts = SigFacts(holder, format, 0, _now(at), calls.duration(ttl, bare=True), mask)
    text = usersig.sign(facts, found.key)
    acceptable(facts, text, found.key)
    _warn(found.odd, mask)
    if as_json:
        output.print_json({"usersig": text, **usersig.decode(text).fields()})
    else:
        output.print_line(text)


@app.command("verify")
def verify(
    sig: Sig,
    key: Annotated[
        list[str],
        typer.Option("--key", metavar="FILE", help=f"{formats.PUBLIC_FILE} May be repeated."),
    ],
    userid: Annotated[
        str | None, typer.Option("--userid", metavar="U", help="It must be this user's.")
    ] = None,
    sdkappid: Annotated[
        int | None,
        typer.Option("--sdkappid", metavar="N", parser=whole, help="It must be for this app."),
    ] = None,
    at: At = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="The answer is JSON with or without this.")
    ] = False,
) -> None:
    """Check a sig against keys; exit status 0 if it is valid, 1 if not.

    The answer is JSON: valid, reason (null, or such as expired, wrong-user, url-encoded),
    what to do, and what the sig says. Where it is not valid, that is not to be trusted.
    issued_in_future tells by how many seconds a sig is ahead of now; beyond a day it is
    not valid.

    \b
    Examples:
      sigmgr sig verify - --key secret.txt < sig.txt
      sigmgr sig verify "$SIG" --key app.pem.pub --userid alice
      sigmgr sig verify "$SIG" --key old.pem --key new.pem --at 1800000000
    """
    from sigmgr.model import errors, usersig

    keyfile.one_from_stdin(sig, *key)
    keys = keyfile.verifying_keys(key)
    text = keyfile.sig_text(sig)
    now = _now(at)
    try:
        decoded = usersig.verify(text, keys, now=now, userid=userid, sdkappid=sdkappid)
    except errors.BadSig as error:
        refused = {"valid": False, "reason": error.reason.value, "detail": error.text}
        output.print_json({**refused, "advice": error.advice, **_claims(text)})
        raise typer.Exit(NEGATIVE) from None
    ahead = usersig.issued_in_future(decoded.issued_at, now)
    output.print_json(
        {"valid": True, "reason": None, "issued_in_future": ahead, **decoded.fields()}
    )


@app.command("decode")
def decode(sig: Sig, at: At = None, as_json: calls.AsJson = False) -> None:
    """Show what a sig says. Without a key nothing is verified.

    \b
    Examples:
      sigmgr sig decode - < sig.txt
      sigmgr sig decode "$SIG" --json
    """
    from sigmgr.model import usersig

    fields = usersig.decode(keyfile.sig_text(sig)).fields()
    now = _now(at)
    if as_json:
        ahead = usersig.issued_in_future(fields["issued_at"], now)
        left = fields["expires_at"] - now
        decoded = {"verified": False, **fields, "remaining": left, "issued_in_future": ahead}
        output.print_json(decoded)
        return
    output.print_table(_rows(fields, now))
    output.print_line("Nothing was verified: anybody can make a sig that says this.")


def _now(at: int | None) -> int:
    if at is not None:
        return at
    from sigmgr.wiring.clock import wall_clock

    return wall_clock()


def _holder(
    sdkappid: int, userid: str, room: int | None, room_name: str | None, privileges: str | None
) -> Holder:
    from sigmgr.model.holder import Holder, Kind, check_room

    if room is None and room_name is None:
        if privileges is not None:
            raise output.Misuse("--privileges without a room", "Add --room or --room-name.")
        return Holder(sdkappid, userid)
    if privileges is None:
        raise output.Misuse(
            "a room without --privileges",
            "Add --privileges: 255 is everything, 42 is to enter, hear and see.",
        )
    scope = check_room(room, room_name).scope
    return Holder(sdkappid, userid, Kind.ROOM.value, scope)


def _mask(text: str) -> int:
    """A number, decimal or hexadecimal, or names between commas."""
    from sigmgr.model.holder import check_privileges

    plain = text.strip().lower()
    if _NUMBER.fullmatch(plain):
        return check_privileges(int(plain, 16 if plain.startswith("0x") else 10))
    return check_privileges([name.strip() for name in plain.split(",")])


def _warn(odd: str, mask: int) -> None:
    if odd:
        output.warn(odd)
    if mask == _SO_CALLED_VIEWER:
        output.warn(
            "0xab is often called the mask of a viewer, but it lets its holder create rooms;"
            " to enter, hear and see is 42 (0x2a)"
        )


def _claims(text: str) -> dict[str, Any]:
    from sigmgr.model import errors, usersig

    try:
        return usersig.decode(text).fields()
    except errors.BadSig:
        return {}


def _rows(fields: dict[str, Any], now: int) -> list[tuple[str, str]]:
    left, ahead = fields["expires_at"] - now, fields["issued_at"] - now
    future = f", {output.duration(ahead)} in the future" if ahead > 0 else ""
    rows = [
        ("format", fields["format"]),
        ("user", _printable(fields["userid"])),
        ("app", str(fields["sdkappid"])),
        ("issued", f"{output.iso(fields['issued_at'])} ({fields['issued_at']}){future}"),
        ("expires", f"{output.iso(fields['expires_at'])} ({fields['expires_at']})"),
        ("lifetime", f"{output.duration(fields['ttl'])} ({fields['ttl']} s)"),
        ("remaining", output.remaining(left)),
    ]
    return rows + _room_rows(fields["userbuf"])


def _room_rows(userbuf: dict[str, Any] | None) -> list[tuple[str, str]]:
    if userbuf is None:
        return []
    if "privilege_mask" not in userbuf:
        return [("userbuf", f"not a privateMapKey's: {userbuf['base64']}")]
    name, mask = userbuf.get("room_name"), userbuf["privilege_mask"]
    granted = ", ".join(userbuf["privileges"]) or "none"
    return [
        ("room", f"id {userbuf['room_id']}" if name is None else f"name {name}"),
        ("may", f"{granted} (mask {mask}, {mask:#x})"),
        ("room user", f"{userbuf['userid']} in app {userbuf['sdkappid']}"),
        ("room until", f"{output.iso(userbuf['expires_at'])} ({userbuf['expires_at']})"),
    ]


def _printable(text: str) -> str:
    """The text of a foreign sig with control characters escaped."""
    return text if text.isprintable() else ascii(text)
