"""`python -m loadtests.limits`: measure how exactly limits are kept, and say which bars are."""

import sys
from datetime import UTC, datetime
from typing import Final

import click
from rich.console import Console

from loadtests.bench.__main__ import chosen
from loadtests.bench.processes import BenchError
from loadtests.bench.subjects import ROOT
from loadtests.drills.__main__ import run
from loadtests.drills.outcome import Drill
from loadtests.drills.report import print_table, write_json
from loadtests.limits import accuracy, redis

DRILLS: Final[tuple[Drill, ...]] = (*accuracy.DRILLS, *redis.DRILLS)
_NAMES: Final = [drill.name for drill in DRILLS]


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option("--only", default="", help=f"Comma-separated: {', '.join(_NAMES)}. Empty: all.")
@click.option("--quick", is_flag=True, help="Shorter: shows that everything runs and that no limit is passed.")
@click.option("--write/--no-write", default=True, help="Write the result to loadtests/results/.")
def main(only: str, quick: bool, write: bool) -> None:
    """Sends more than is allowed, and counts what arrives at the cloud.

    Exit: 0 when every bar was kept, 3 when one was not or was void, 1 when something could not be run.
    """
    console = Console()
    console.width = max(console.width, 120)
    wanted = chosen(only, _NAMES, "measurement")
    try:
        runs = [run(drill, quick=quick, console=console) for drill in DRILLS if drill.name in wanted]
    except BenchError as error:
        console.print(str(error), style="red", highlight=False, markup=False)
        sys.exit(1)
    print_table(console, runs)
    if write:
        path = write_json(runs, datetime.now(UTC), quick=quick, name="limits")
        console.print(f"written: {path.relative_to(ROOT)}", highlight=False)
    sys.exit(0 if all(each.outcome.kept and not each.outcome.void for each in runs) else 3)


if __name__ == "__main__":
    main()
