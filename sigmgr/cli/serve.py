"""``sigmgr serve``: the service, all of it in one process or one role of it."""

from __future__ import annotations

import asyncio
import signal
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sigmgr.cli import calls, output
from sigmgr.cli.frame import command_app

if TYPE_CHECKING:
    from sigmgr.settings import Settings

app = command_app("Run the service.")


class Role(StrEnum):
    """What this process does."""

    API = "api"
    GATEWAY = "gateway"
    WORKER = "worker"
    ALL = "all"


def roles_of(role: str) -> frozenset[str]:
    """The parts that a role stands for."""
    if role == Role.ALL.value:
        return frozenset(r.value for r in Role if r is not Role.ALL)
    return frozenset({role})


@app.command("serve")
def serve(
    role: Annotated[Role, typer.Option("--role", help="Which part this process is.")] = Role.ALL,
    host: Annotated[str | None, typer.Option("--host", help="Where to listen.")] = None,
    port: Annotated[int | None, typer.Option("--port", help="0 takes any free one.")] = None,
    upgrade: Annotated[
        bool, typer.Option("--upgrade", help="Bring the database up to date first.")
    ] = False,
    config: calls.Config = None,
) -> None:
    """Run the service until it is told to stop (SIGTERM or Ctrl-C).

    \b
    One process does everything on a laptop. Over PostgreSQL and Redis run as many
    of each as you need, in any order; there is no leader:
      sigmgr serve --role api      answers backends
      sigmgr serve --role gateway  holds the clients' streams
      sigmgr serve --role worker   renews, relays, warns, cleans up
    """
    import uvloop

    from sigmgr import settings as tree
    from sigmgr import telemetry

    loaded = tree.load(config)
    listen = {k: v for k, v in {"host": host, "port": port}.items() if v is not None}
    loaded = loaded.model_copy(update={"http": loaded.http.model_copy(update=listen)})
    telemetry.configure_logging(level=loaded.log.level, as_json=loaded.log.as_json)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(loaded, role, upgrade))


async def _serve(settings: Settings, role: Role, upgrade: bool) -> None:
    from sigmgr import wiring
    from sigmgr.telemetry import get_logger

    if upgrade:
        await upgraded(settings)
    stop = stopping()
    log = get_logger("sigmgr.serve")
    async with wiring.open_service(settings, roles_of(role.value)) as service:

        def bound(port: int) -> None:
            log.info(
                "sigmgr serves",
                action="serving",
                url=f"http://{settings.http.host}:{port}",
                role=role.value,
            )

        await service.run(stop, bound=bound)
    log.info("sigmgr has stopped", action="stopped", role=role.value)


async def upgraded(settings: Settings, *, quiet: bool = False) -> None:
    """Migrate before serving."""
    from sigmgr import wiring
    from sigmgr.store import migrate

    engine = wiring.open_database(settings)
    try:
        for revision in await migrate.upgrade(engine):
            if not quiet:
                output.note(f"database: applied {revision}")
    finally:
        await engine.close()


def stopping() -> asyncio.Event:
    """An event that SIGTERM and Ctrl-C set; a second signal ends the process at once."""
    loop, stop = asyncio.get_running_loop(), asyncio.Event()

    def told(number: Any) -> None:
        if stop.is_set():
            raise SystemExit(128 + int(number))
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told, number)
    return stop
