"""``sigmgr token``: bearer tokens for backends, ops and admins."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import typer

from sigmgr.cli import calls, output
from sigmgr.cli.frame import command_app
from sigmgr.model.app import Token
from sigmgr.model.numbers import whole
from sigmgr.model.shown import masked

app = command_app("Manage API tokens.")


def _shown(token: Token) -> dict[str, Any]:
    return {**token._asdict(), "name": masked(token.name)}


def _line(token: Token) -> str:
    where = f"app {token.sdkappid}" if token.sdkappid else "every app"
    state = f"revoked {output.iso(token.revoked_at)}" if token.revoked_at else "good"
    return f"{token.token_id:<6} {token.role:<8} {where:<16} {state:<8} {masked(token.name)}"


@app.command("create")
def create(
    role: Annotated[
        Literal["backend", "ops", "admin"], typer.Option("--role", help="What the token may reach.")
    ],
    sdkappid: Annotated[
        int,
        typer.Option(
            "--app",
            metavar="SDKAPPID",
            parser=whole,
            help="Bind it to one application; 0 is every one.",
        ),
    ] = 0,
    name: calls.Name = "",
    config: calls.Config = None,
    as_json: calls.AsJson = False,
) -> None:
    """Make a token. It is shown once; only a keyed digest of it is kept."""
    text, token = calls.with_base(
        config, lambda base: base.add_token(role, sdkappid=sdkappid, name=name)
    )
    if as_json:
        output.print_json({**_shown(token), "token": text})
        return
    output.print_line(text)
    output.note(f"token {token.token_id}, role {role}; it will not be shown again")


@app.command("list")
def list_tokens(config: calls.Config = None, as_json: calls.AsJson = False) -> None:
    """All tokens, without their secrets."""
    tokens = calls.with_base(config, lambda base: base.catalog.list_tokens())
    output.listing(tokens, as_json, _shown, _line, "sigmgr token create --role backend")


@app.command("revoke")
def revoke(
    token_id: Annotated[
        int,
        typer.Argument(
            metavar="TOKEN_ID", parser=whole, help="Its number, as 'token list' shows it."
        ),
    ],
    config: calls.Config = None,
    as_json: calls.AsJson = False,
) -> None:
    """End a token; processes that know it follow within seconds."""
    token = calls.with_base(config, lambda base: base.catalog.revoke_token(token_id, base.clock()))
    output.print_json(_shown(token)) if as_json else output.print_line(_line(token))
