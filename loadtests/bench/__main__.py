"""`python -m loadtests.bench`: measure the router beside nginx and a naive gateway."""

import os
import resource
import signal
import sys
from collections.abc import Sequence
from datetime import UTC, datetime

import click
from rich.console import Console

from loadtests.bench.document import write_json
from loadtests.bench.figures import DIRECT
from loadtests.bench.mode import Mode, Options
from loadtests.bench.modes import MODES
from loadtests.bench.processes import BenchError, Cores
from loadtests.bench.report import print_round, print_table
from loadtests.bench.rounds import Result, run_mode
from loadtests.bench.subjects import ROOT, SUBJECTS

TABLE_WIDTH = 160
ROUNDS = ("rounds", "latency_rounds", "frontier_rounds", "memory_rounds")
QUICK = {
    **dict.fromkeys(ROUNDS, 1),
    **dict.fromkeys(("seconds", "latency_seconds", "stream_seconds", "recovery_s"), 1.0),
    "frontier_seconds": 0.3,
    "idle_streams": 200,
    "open_streams": 200,
    "burst": 50,
}


def chosen(text: str, known: Sequence[str], what: str) -> list[str]:
    """Splits a list with commas; empty means all. Raises BadParameter with what there is."""
    names = [name.strip() for name in text.split(",") if name.strip()] or list(known)
    if unknown := set(names) - set(known):
        raise click.BadParameter(f"unknown {what} {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    return [name for name in known if name in names]


def run_all(modes: Sequence[Mode], options: Options, subjects: Sequence[str], console: Console) -> list[Result]:
    """Runs the modes one after the other; Ctrl-C keeps those that are complete."""
    results: list[Result] = []
    try:
        for mode in modes:
            names = [name for name in mode.subjects if name in subjects or name == DIRECT]
            if [name for name in names if name != DIRECT]:
                results.append(run_mode(mode, options, names, lambda result: print_round(console, result)))
    except KeyboardInterrupt:
        console.print("[yellow]stopped[/yellow]")
    return results


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option("--modes", default="", help=f"Comma-separated: {', '.join(mode.name for mode in MODES)}. Empty: all.")
@click.option("--subjects", default="", help=f"Comma-separated: {', '.join(SUBJECTS)}. Empty: all.")
@click.option("--rounds", type=click.IntRange(1), help="Rounds that must count.  [default: 7; added-p99: 20]")
@click.option("--seconds", type=click.IntRange(1), help="For each subject in a round.  [default: 3; added-p99: 5]")
@click.option("--quick", is_flag=True, help="Two short rounds: shows that everything runs, proves no figure.")
@click.option("--write/--no-write", default=True, help="Write the result to loadtests/results/.")
def main(modes: str, subjects: str, rounds: int | None, seconds: int | None, quick: bool, write: bool) -> None:
    """Measures CPU, latency and memory of the router beside nginx, in interleaved rounds.

    Exit: 0 when every mode has its rounds, 3 when too many were void, 1 when something failed.
    """
    console = Console()
    console.width = max(console.width, TABLE_WIDTH)  # a pipe says 80, which would break every line
    wanted = chosen(modes, [mode.name for mode in MODES], "mode")
    named = chosen(subjects, list(SUBJECTS), "subject")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends what was started, as Ctrl-C does
    try:
        cores = Cores.of_this_machine()
        os.sched_setaffinity(0, {int(cores.load)})
        _raise_file_limit()
        settings: dict[str, float] = dict(QUICK) if quick else {}
        settings |= {name: rounds for name in ROUNDS if rounds}
        settings |= {name: seconds for name in ("seconds", "latency_seconds") if seconds}
        options = Options(cores, **settings)  # type: ignore[arg-type]
        results = run_all([mode for mode in MODES if mode.name in wanted], options, named, console)
    except BenchError as error:
        console.print(f"[red]{error}[/red]", highlight=False)
        sys.exit(1)
    if not results:
        sys.exit(1)
    print_table(console, results, quick=quick)
    if write:
        console.print(f"written: {write_json(results, options, datetime.now(UTC)).relative_to(ROOT)}", highlight=False)
    sys.exit(0 if all(result.complete for result in results) else 3)


def _raise_file_limit() -> None:
    """2,000 streams are 4,000 sockets of the proxy; children inherit the limit."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


if __name__ == "__main__":
    main()
