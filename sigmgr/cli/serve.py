"""``sigmgr serve``: the service, all of it in one process or one role of it."""

from __future__ import annotations

import asyncio
import signal
from ipaddress import ip_address
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from sigmgr.cli import calls, output
from sigmgr.cli.frame import command_app
from sigmgr.model.numbers import between

if TYPE_CHECKING:
    from sigmgr.settings import Settings

app = command_app("Run the service.")

_SET_STREAM_URL = (
    "set http.stream_url (SIGMGR_HTTP__STREAM_URL) to the address that clients reach the"
    " gateways at, such as https://sigmgr.example.com/v1/stream"
)


Role = Literal["api", "gateway", "worker", "all"]


def roles_of(role: Role) -> frozenset[str]:
    from sigmgr.http.services import EVERY_ROLE

    return EVERY_ROLE if role == "all" else frozenset({role})


@app.command("serve")
def serve(
    role: Annotated[Role, typer.Option("--role", help="Which part this process is.")] = "all",
    host: Annotated[
        str | None, typer.Option("--host", metavar="HOST", help="Where to listen.")
    ] = None,
    port: Annotated[
        int | None,
        typer.Option("--port", metavar="N", parser=between(0, 65535), help="0 takes any free one."),
    ] = None,
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
    from sigmgr.http.server import bracketed
    from sigmgr.telemetry import get_logger
    from sigmgr.wiring.service import open_service, tune_gc

    if upgrade:
        await upgraded(settings)
    stop = stopping()
    log = get_logger("sigmgr.serve")
    roles = roles_of(role)
    if missing := stream_url_missing(settings, roles):
        log.warning(missing, action="stream-url", advice=_SET_STREAM_URL)
    async with open_service(settings, roles) as service:
        tune_gc()

        def bound(port: int) -> None:
            log.info(
                "sigmgr serves",
                action="serving",
                url=f"http://{bracketed(settings.http.host)}:{port}",
                role=role,
            )

        await service.run(stop, bound=bound)
    log.info("sigmgr has stopped", action="stopped", role=role)


def stream_url_missing(settings: Settings, roles: frozenset[str]) -> str:
    """What is wrong with the stream address for clients; empty where nothing is."""
    if settings.http.stream_url or "api" not in roles:
        return ""
    host = settings.http.host
    problem = "http.stream_url is not set, so that backends tell clients to open streams at"
    if "gateway" not in roles:
        return f"{problem} this process, which serves none"
    try:
        everywhere = ip_address(host).is_unspecified
    except ValueError:
        everywhere = False
    return f"{problem} {host}, which nobody can reach" if everywhere else ""


async def upgraded(settings: Settings, *, quiet: bool = False) -> None:
    from sigmgr.store import migrate
    from sigmgr.wiring.base import open_database

    engine = open_database(settings, create=True)
    try:
        for revision in await migrate.upgrade(engine):
            if not quiet:
                output.note(f"database: applied {revision}")
    finally:
        await engine.close()


def stopping() -> asyncio.Event:
    """An event that SIGTERM and Ctrl-C set; a second signal ends the process at once."""
    loop, stop = asyncio.get_running_loop(), asyncio.Event()

    def on_signal(number: Any) -> None:
        if stop.is_set():
            raise SystemExit(128 + int(number))
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal, number)
    return stop
