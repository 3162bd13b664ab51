"""``sigmgr demo``: the main job on embedded parts, with emulated users to watch."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sigmgr.cli import calls, output
from sigmgr.cli.frame import command_app
from sigmgr.model.numbers import between

if TYPE_CHECKING:
    from sigmgr.settings import Settings
    from sigmgr.sim.cloud import Cloud
    from sigmgr.wiring.base import Base
    from sigmgr.wiring.service import Service

app = command_app("Watch sigmgr at work.")

#: One app of each format, with invented numbers.
_APPS = ((1400000001, "v1"), (1400000002, "v2"))


#: Seconds; a shorter life would end before its renewal can be seen.
_SHORTEST = 15


@app.command("demo")
def demo(
    seconds: Annotated[
        int | None,
        typer.Option(
            "--seconds", metavar="N", parser=between(1), help="Stop after so long; else Ctrl-C."
        ),
    ] = None,
    port: Annotated[
        int,
        typer.Option(
            "--port", metavar="N", parser=between(0, 65535), help="Where the service listens."
        ),
    ] = 8080,
    clients: Annotated[
        int, typer.Option("--clients", metavar="N", parser=between(2), help="Emulated users.")
    ] = 200,
    ttl: Annotated[
        str, typer.Option("--ttl", metavar="TIME", help="Life of a sig, 15s or more.")
    ] = "30s",
) -> None:
    """The whole service in one process, an emulated cloud, and users with short sigs.

    Everything lives in a temporary directory that is gone at the end. Exit status 0 only
    if sigs were renewed, all of them acked, and nobody was kicked.
    """
    import uvloop

    from sigmgr import telemetry

    life = calls.duration(ttl)
    if life < _SHORTEST:
        raise output.Misuse(f"--ttl {ttl} is too short to watch", f"Take {_SHORTEST}s or more.")
    telemetry.configure_logging(level="warning")
    with (
        tempfile.TemporaryDirectory(prefix="sigmgr-demo-", ignore_cleanup_errors=True) as home,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        status = runner.run(_demo(_settings(Path(home), port), seconds, clients, life))
    raise typer.Exit(status)


#: Pages on this machine may talk to the demo.
_PAGES = ("http://localhost:*", "http://127.0.0.1:*")


def _settings(home: Path, port: int) -> Settings:
    """Embedded parts, whatever the environment contains: a demo uses nobody's data."""
    import base64
    import secrets

    from sigmgr.settings import Settings

    return Settings.model_validate(
        {
            "database": {"url": f"sqlite+aiosqlite:///{home / 'demo.db'}"},
            "redis": {"url": "memory://"},
            "http": {"port": port, "allowed_origins": _PAGES},
            "scheduler": {"renew_every": 0.5, "warn_every": 1.0},
            "master_key": base64.b64encode(secrets.token_bytes(32)).decode(),
        }
    )


async def _demo(settings: Settings, seconds: int | None, clients: int, ttl: int) -> int:
    from sigmgr.cli.serve import roles_of, stopping, upgraded
    from sigmgr.sim.cloud import Cloud
    from sigmgr.sim.demo import run_demo
    from sigmgr.sim.display import Printer, verdict
    from sigmgr.wiring.base import open_base
    from sigmgr.wiring.clock import wall_clock
    from sigmgr.wiring.service import open_service

    stop, over, cloud = stopping(), asyncio.Event(), Cloud()
    await upgraded(settings, quiet=True)
    async with open_base(settings) as base:
        token = await _furnish(base, cloud, ttl)
    async with open_service(settings, roles_of("all")) as service:
        serving, bound = await _started(service, over)
        try:
            stats = await run_demo(
                base_urls=[f"http://127.0.0.1:{bound}"],
                token=token,
                apps=[sdkappid for sdkappid, _ in _APPS],
                cloud=cloud,
                seconds=seconds,
                print_line=Printer(sys.stdout),
                clock=wall_clock,
                clients=clients,
                ttl=ttl,
                stop=stop,
            )
        finally:
            over.set()
            await serving
    return verdict(stats)


async def _started(service: Service, over: asyncio.Event) -> tuple[asyncio.Task[None], int]:
    port: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    serving = asyncio.create_task(service.run(over, bound=port.set_result))
    started: list[asyncio.Future[Any]] = [serving, port]
    await asyncio.wait(started, return_when=asyncio.FIRST_COMPLETED)
    if serving.done():
        serving.result()
    return serving, port.result()


async def _furnish(base: Base, cloud: Cloud, ttl: int) -> str:
    """Two apps with new keys, registered with the cloud; returns a backend token."""
    from sigmgr.keys.keychain import generate
    from sigmgr.model.policy import Policy
    from sigmgr.model.usersig import FORMATS

    for sdkappid, format_ in _APPS:
        material = generate(format_)
        policy = Policy(ttl=ttl)
        await base.catalog.add_app(sdkappid, f"demo {format_}", policy=policy, now=base.clock())
        await base.add_key(sdkappid, format_, material, activate=True)
        cloud.introduce(sdkappid, FORMATS.named(format_).keys.signer(material).public_pem, material)
    text, _ = await base.add_token("backend", sdkappid=0, name="demo")
    return text
