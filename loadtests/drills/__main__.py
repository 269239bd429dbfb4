"""`python -m loadtests.drills`: run the drills, and say which bars are kept."""

import asyncio
import sys
import time
from datetime import UTC, datetime
from typing import Final

import click
from rich.console import Console

from loadtests.bench.__main__ import chosen
from loadtests.bench.processes import BenchError
from loadtests.bench.subjects import ROOT
from loadtests.drills import chaos, fairness, outages, quota, regions
from loadtests.drills.outcome import Drill
from loadtests.drills.report import Run, print_table, write_json
from router.base.loops import new_loop

DRILLS: Final[tuple[Drill, ...]] = (*chaos.DRILLS, *regions.DRILLS, *quota.DRILLS, *outages.DRILLS, *fairness.DRILLS)
VOID_RUNS_MAX: Final = 3
_NAMES: Final = [drill.name for drill in DRILLS]


def run(drill: Drill, *, quick: bool, console: Console) -> Run:
    """One drill, from the start of its programs to their end; again where it was void, but not for ever."""
    scale = drill.quick if quick else drill.full
    rate = f"{scale.rate:g} requests/s" if scale.rate else "at a rate that is measured first"
    console.print(f"[bold]{drill.name}[/bold]  [dim]{rate}[/dim]", highlight=False)
    void_runs = 0
    while True:
        began = time.monotonic()
        with asyncio.Runner(loop_factory=new_loop) as runner:
            outcome = runner.run(drill.run(scale))
        if outcome.void:
            void_runs += 1
            console.print(f"[yellow]void[/yellow]: the load itself left {outcome.late_ms:.0f} ms late", highlight=False)
        if not outcome.void or void_runs == VOID_RUNS_MAX:
            return Run(drill, scale, outcome, time.monotonic() - began, void_runs)


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option("--only", default="", help=f"Comma-separated: {', '.join(_NAMES)}. Empty: all.")
@click.option(
    "--quick", is_flag=True, help="Shorter and smaller: shows that everything runs and that no rule is broken."
)
@click.option("--write/--no-write", default=True, help="Write the result to loadtests/results/.")
def main(only: str, quick: bool, write: bool) -> None:
    """Breaks clouds under load and measures what clients notice.

    Exit: 0 when every bar was kept, 3 when one was not or was void, 1 when something could not be run.
    """
    console = Console()
    console.width = max(console.width, 120)
    wanted = chosen(only, _NAMES, "drill")
    runs: list[Run] = []
    try:
        for drill in DRILLS:
            if drill.name in wanted:
                runs.append(run(drill, quick=quick, console=console))
                print_table(console, runs[-1:])
    except BenchError as error:
        console.print(str(error), style="red", highlight=False, markup=False)
        sys.exit(1)
    except KeyboardInterrupt:
        console.print("[yellow]stopped[/yellow]")
    if write and runs:
        path = write_json(runs, datetime.now(UTC), quick=quick)
        console.print(f"written: {path.relative_to(ROOT)}", highlight=False)
    sys.exit(0 if runs and all(each.outcome.kept and not each.outcome.void for each in runs) else 3)


if __name__ == "__main__":
    main()
