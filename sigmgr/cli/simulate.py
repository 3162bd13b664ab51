"""``sigmgr simulate``: hundreds of virtual days with faults, in a minute or two."""

from __future__ import annotations

import asyncio
import json
import random
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sigmgr.cli import calls, output
from sigmgr.cli.frame import NEGATIVE, command_app
from sigmgr.model.numbers import between, natural

if TYPE_CHECKING:
    from sigmgr.sim.virtual_time import Report

app = command_app("Run virtual months.")


@app.command("simulate")
def simulate(
    days: Annotated[
        int, typer.Option("--days", metavar="N", parser=between(5), help="Virtual days.")
    ] = 400,
    holders: Annotated[
        int, typer.Option("--holders", metavar="N", parser=between(10), help="Emulated users.")
    ] = 2000,
    seed: Annotated[
        int | None,
        typer.Option(
            "--seed", metavar="N", parser=natural, help="Replays a run; drawn where left out."
        ),
    ] = None,
    as_json: calls.AsJson = False,
) -> None:
    """Drive the real flows, store and cache through months with seeded faults.

    Errors, lost answers, crashes, a wiped Redis, outages of days and a clock that is
    wrong by minutes hit every part, while emulated users come and go. Exit status 1
    where a rule was broken; the seed that is printed replays the run.
    """
    from sigmgr import telemetry

    telemetry.configure_logging(level="error")
    drawn = random.SystemRandom().randrange(1_000_000) if seed is None else seed
    begun = time.monotonic()
    report = asyncio.run(_run(days, holders, drawn, quiet=as_json))
    spent = time.monotonic() - begun
    if as_json:
        shown: dict[str, Any] = {name: getattr(report, name) for name in report.__slots__}
        print(json.dumps({**shown, "ok": report.ok, "seconds": round(spent, 1)}, default=str))
    else:
        _summary(report, spent)
    if not report.ok:
        raise typer.Exit(NEGATIVE)


async def _run(days: int, holders: int, seed: int, *, quiet: bool) -> Report:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    from sigmgr.wiring.simulation import open_simulation

    columns = (
        TextColumn("day {task.completed:>4}/{task.total}"),
        BarColumn(bar_width=24),
        TimeRemainingColumn(compact=True),
        TextColumn("{task.description}"),
    )
    console = Console(stderr=True)
    # Without a terminal the bar would leave an empty line.
    hidden = quiet or not console.is_terminal
    with Progress(*columns, console=console, disable=hidden, transient=True) as bar:
        task = bar.add_task("", total=days)

        def show(day: int, so_far: Report) -> None:
            text = f"{so_far.issued} sigs, {so_far.faults} faults, {so_far.kicked} kicked"
            bar.update(task, completed=day, description=text)

        async with open_simulation(
            seed=seed, days=days, holders=holders, progress=show
        ) as simulation:
            return await simulation.run()


def _summary(report: Report, spent: float) -> None:
    retried = ", each tried again later" if report.failures else ""
    output.print_table(
        [
            ("seed", str(report.seed)),
            ("virtual time", f"{report.days} days in {spent:.0f} s"),
            ("users", str(report.holders)),
            ("sigs made", str(report.issued)),
            ("pushed", f"{report.delivered} sigs over streams that were open"),
            ("acks", f"{report.acked}: of pushes, and of the sig that each stream opens with"),
            ("faults", _faults(report)),
            ("failed renewals", f"{report.failures}{retried}"),
            ("kicked", str(report.kicked)),
            ("rules broken", str(len(report.violations))),
        ]
    )
    for violation in report.violations[:10]:
        output.print_line(
            f"  rule {violation.rule} at {output.iso(violation.at)}: {violation.text}"
        )
    if report.ok:
        output.note("Every rule held.")
        return
    if not report.violations and not report.kicked:
        output.note("Nothing was pushed: too few users or days to say anything.")
        return
    output.note(
        f"Replay it with: sigmgr simulate --seed {report.seed} --days {report.days}"
        f" --holders {report.holders}"
    )


def _faults(report: Report) -> str:
    crashes = "1 a crash" if report.crashes == 1 else f"{report.crashes} of them crashes"
    wipes = "once" if report.wipes == 1 else f"{report.wipes} times"
    return f"{report.faults}, {crashes}; Redis wiped {wipes}"
