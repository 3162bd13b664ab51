"""``sigmgr db``: bring the database to the schema of this version."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Annotated, Any

import typer

from sigmgr.cli import calls, output
from sigmgr.cli.frame import NEGATIVE, command_app
from sigmgr.model.errors import NotMigrated
from sigmgr.model.shown import shown

app = command_app("Migrate the database.")


def _with_engine(
    config: str | None, work: Callable[[Any], Awaitable[Any]], *, create: bool = False
) -> Any:
    from sigmgr.wiring.base import open_database

    settings = calls.settings_of(config)

    async def run() -> Any:
        engine = open_database(settings, create=create)
        try:
            return await work(engine)
        finally:
            await engine.close()

    return asyncio.run(run())


@app.command("upgrade")
def upgrade(config: calls.Config = None) -> None:
    """Create or update the tables. Safe to run again, and from several starts at once."""
    from sigmgr.store import migrate

    done = _with_engine(config, migrate.upgrade, create=True)
    output.print_line(f"applied: {', '.join(done)}" if done else "the database is up to date")


@app.command("current")
def current(config: calls.Config = None) -> None:
    """Show the schema revision; exit status 1 where it is not the newest."""
    from sigmgr.store import migrate

    try:
        revision = _with_engine(config, migrate.current)
    except NotMigrated as error:  # there is not even a file
        output.note(error.text)
        revision = ""
    newest = migrate.heads()
    output.print_line(f"revision {revision or 'none'}, this version wants {', '.join(newest)}")
    if revision not in newest:
        raise typer.Exit(NEGATIVE)


@app.command("downgrade")
def downgrade(
    revision: Annotated[
        str, typer.Argument(metavar="REVISION", help="Where to go back to, such as 0001, or base.")
    ],
    config: calls.Config = None,
    yes: calls.Yes = False,
) -> None:
    """Go back to an earlier revision; base removes all tables, and with them all that is known."""
    from sigmgr.store import migrate

    known = [*migrate.revisions(), "base"]
    if revision not in known:
        raise output.Misuse(
            f"there is no revision {shown(revision)}", f"Take one of {', '.join(known)}."
        )
    way = _with_engine(config, lambda engine: migrate.way_down(engine, revision))
    if not way:
        output.print_line("nothing to take back")
        return
    what = (
        f"This takes back {', '.join(way)}, with the tables and columns that came with it"
        " and all that is in them."
    )
    calls.ask([what], yes=yes)
    done = _with_engine(config, lambda engine: migrate.downgrade(engine, revision))
    output.print_line(f"taken back: {', '.join(done)}" if done else "nothing to take back")
