"""The frame around all commands: finding them, running one, and the exit status.

Exit status: 0 done, 1 a negative answer (a sig that is not valid), 2 the command line or its input
is wrong, 3 a failure.

A command group is one module with ``app`` in it, named in :data:`GROUPS`; a command that stands
alone is named in :data:`COMMANDS`. A module is imported when its command is called or help is
shown, and imports heavy parts inside its functions, so that help is quick.
"""

from __future__ import annotations

import re
import sys
import traceback
from collections.abc import Sequence
from importlib import import_module
from types import SimpleNamespace
from typing import Annotated, Any

import typer
import typer.core
import typer.main

from sigmgr.cli import missing, output
from sigmgr.model.errors import InputError, SigmgrError
from sigmgr.model.shown import MOST_SHOWN, shown

OK, NEGATIVE, USAGE, FAILURE = 0, 1, 2, 3

#: ``sigmgr NAME SUBCOMMAND``: the module's ``app`` is the group.
GROUPS = {
    "sig": "sigmgr.cli.sig",
    "db": "sigmgr.cli.db",
    "app": "sigmgr.cli.apps",
    "key": "sigmgr.cli.key_commands",
    "token": "sigmgr.cli.tokens",
}

#: ``sigmgr NAME``: the command of that name in the module's ``app``.
COMMANDS = {
    "keygen": "sigmgr.cli.keygen",
    "serve": "sigmgr.cli.serve",
    "doctor": "sigmgr.cli.doctor",
    "demo": "sigmgr.cli.demo",
    "simulate": "sigmgr.cli.simulate",
    "issue": "sigmgr.cli.users",
    "show": "sigmgr.cli.users",
    "reissue": "sigmgr.cli.users",
    "revoke": "sigmgr.cli.users",
}

#: Plainer words for messages of the option parser.
_PLAINER = {
    "Value error, ": "",
    "Input should be a valid integer, unable to parse string as an integer": "it is no number",
    "Input should be": "it is to be",
}


#: A value as the option parser quotes it.
_QUOTED = re.compile(r"'([^']*)'")


class Group(typer.core.TyperGroup):
    """A group that shows its help when called without arguments; that is exit status 2. Its list
    shows the first sentence of each command's help, in full."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not args and not ctx.resilient_parsing:
            print(ctx.get_help(), file=sys.stderr)
            raise typer.Exit(USAGE)
        return super().parse_args(ctx, args)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        found = {name: self.get_command(ctx, name) for name in self.list_commands(ctx)}
        rows = [(name, first_sentence(command.help)) for name, command in found.items() if command]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


def first_sentence(text: str | None) -> str:
    """The first sentence of a help text, on one line."""
    paragraph = " ".join((text or "").strip().split("\n\n")[0].split())
    return paragraph.split(". ")[0].rstrip(".") + "."


class LazyGroup(Group):
    """The top group: knows the commands by name and imports a module when it is needed."""

    def list_commands(self, ctx: Any) -> list[str]:
        return [*GROUPS, *COMMANDS]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in self.commands and cmd_name in {*GROUPS, *COMMANDS}:
            self.commands[cmd_name] = _load(cmd_name)
        return self.commands.get(cmd_name)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        # Suggestions for a mistyped name are made from self.commands.
        if args and self.get_command(ctx, args[0]) is None:
            for name in self.list_commands(ctx):
                self.get_command(ctx, name)
        return super().resolve_command(ctx, args)


def command_app(help: str, *, cls: type[Group] = Group) -> typer.Typer:  # noqa: A002
    """A Typer instance for a module of commands: plain text, no tracebacks."""
    return typer.Typer(
        help=help,
        cls=cls,
        rich_markup_mode=None,
        add_completion=False,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": output.WIDTH},
    )


def _load(name: str) -> Any:
    app = import_module(GROUPS.get(name) or COMMANDS[name]).app
    group = typer.main.get_group(app)
    if name in COMMANDS:
        return group.commands[name]
    group.name = name
    return group


app = command_app(
    """Keeps every user of a Tencent Cloud IM / TRTC application signed in.

    \b
    Try it without a server:
      sigmgr keygen --format v2 --out secret.txt
      sigmgr sig sign --format v2 --sdkappid 1400000000 --userid alice \\
        --key secret.txt

    \b
    Exit status: 0 done, 1 a negative answer (such as a sig that is not valid),
    2 wrong usage or input, 3 a failure.
    """,
    cls=LazyGroup,
)


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        output.print_line(f"sigmgr {version('sigmgr')}")
        raise typer.Exit(OK)


@app.callback()
def top(
    ctx: typer.Context,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of an unexpected error.")
    ] = False,
    version: Annotated[
        bool,
        typer.Option("--version", is_eager=True, callback=_show_version, help="Show the version."),
    ] = False,
) -> None:
    """The global options."""
    ctx.obj.debug = debug


def run(arguments: Sequence[str]) -> int:
    """Run one command line and answer its exit status. Raises nothing but SystemExit."""
    frame = SimpleNamespace(debug=False)
    try:
        status = typer.main.get_group(app).main(
            args=list(arguments), prog_name="sigmgr", standalone_mode=False, obj=frame
        )
        return status if isinstance(status, int) else OK
    except SigmgrError as error:
        output.complain_about(error)
        status = USAGE if isinstance(error, InputError) else FAILURE
    except typer.TyperException as error:
        status = _usage(error)
    except Exception as error:  # noqa: BLE001 - the last line before the user
        _unexpected(error, frame.debug)
        status = FAILURE
    return status


def _usage(error: Any) -> int:
    context = getattr(error, "ctx", None)
    path = context.command_path if context else "sigmgr"
    # The library has no public name for the class.
    if type(error).__name__ == "MissingParameter" and context and error.param:
        text, advice = missing.message(error.param, context)
        output.complain(text, "usage", f"{advice}; or see '{path} --help'.")
        return USAGE
    text = getattr(error, "format_message", lambda: "")() or "aborted"
    for wording, plain in _PLAINER.items():
        text = text.replace(wording, plain)
    text = _QUOTED.sub(
        lambda value: shown(value[1]) if len(value[1]) > MOST_SHOWN else value[0], text
    )
    output.complain(text, "usage", f"See '{path} --help'.")
    return USAGE


def _unexpected(error: Exception, debug: bool) -> None:
    """The text of an unknown exception might carry a secret; its type cannot."""
    detail = f": {error.strerror}" if isinstance(error, OSError) and error.strerror else ""
    output.complain(
        f"unexpected {type(error).__name__}{detail}",
        SigmgrError.code,
        "Run the command again as 'sigmgr --debug ...' and report what it shows.",
    )
    if debug:
        traceback.print_exception(error)
