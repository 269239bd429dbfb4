"""`python -m loadtests.lasting BAR...`: run what a router must last through, and say which bars are kept."""

import sys
from datetime import UTC, datetime
from typing import Final

import click
from rich.console import Console

from loadtests.bench.processes import BenchError
from loadtests.bench.subjects import ROOT
from loadtests.drills.__main__ import run
from loadtests.drills.outcome import Drill
from loadtests.drills.report import print_table, write_json
from loadtests.lasting import fuzz, kills, reloads, slow_loris, soak, spread, upgrades

BARS: Final[tuple[Drill, ...]] = (
    kills.DRILL,
    reloads.DRILL,
    spread.DRILL,
    upgrades.DRILL,
    slow_loris.DRILL,
    fuzz.DRILL,
    soak.DRILL,
)
_NAMES: Final = [bar.name for bar in BARS]


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.argument("bars", nargs=-1, type=click.Choice(_NAMES), required=True)
@click.option("--quick", is_flag=True, help="Shorter and smaller: shows that everything runs.")
@click.option("--inputs", type=click.IntRange(min=1), help="Of fuzz: so many.")
@click.option("--keep", is_flag=True, help="Write the result to loadtests/results/.")
def main(bars: tuple[str, ...], quick: bool, inputs: int | None, keep: bool) -> None:
    """Does to a router what years do to it, and says what its clients noticed.

    Exit: 0 when every bar was kept, 1 when one was not, was void, or could not be run.
    """
    console = Console()
    console.width = max(console.width, 120)
    try:
        chosen = [fuzz.of(inputs) if inputs and bar is fuzz.DRILL else bar for bar in BARS if bar.name in bars]
        runs = [run(bar, quick=quick, console=console) for bar in chosen]
    except BenchError as error:
        console.print(str(error), style="red", highlight=False, markup=False)
        sys.exit(1)
    print_table(console, runs)
    if keep:
        path = write_json(runs, datetime.now(UTC), quick=quick, name="-".join(["lasting", *bars]))
        console.print(f"written: {path.relative_to(ROOT)}", highlight=False)
    sys.exit(0 if all(each.outcome.kept and not each.outcome.void for each in runs) else 1)


if __name__ == "__main__":
    main()
