"""`python -m loadtests.guard`: hold what a request costs against the baseline, or one tree against another."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import click
from rich.console import Console
from rich.markup import escape

from loadtests.bench.processes import BenchError
from loadtests.bench.subjects import ROOT
from loadtests.guard import baseline
from loadtests.guard.baseline import Finding
from loadtests.guard.counting import METHODS, Instructions, Method, find_valgrind
from loadtests.guard.scenes import Cost, measure


def usable(names: Sequence[str], update: bool) -> list[Method]:
    """The methods that were asked for; without a name, those that can run here, and all where all are written."""
    if names:
        return [method for method in METHODS if method.name in names]
    try:
        find_valgrind()
    except BenchError:
        if update:
            raise
        return [method for method in METHODS if not isinstance(method, Instructions)]
    return list(METHODS)


def tell(console: Console, findings: Sequence[Finding]) -> None:
    for finding in findings:
        style = "red" if finding.grown else "yellow" if finding.stale else None
        console.print("\n".join(map(escape, finding.lines())), style=style, highlight=False)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--update", is_flag=True, help="Write the baseline anew.")
@click.option("--tree", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Count this checkout.")
@click.option(
    "--against", type=click.Path(exists=True, file_okay=False, path_type=Path), help="And hold it to this one."
)
@click.option(
    "--method", "names", multiple=True, type=click.Choice([method.name for method in METHODS]), help="Only this."
)
def main(update: bool, tree: Path | None, against: Path | None, names: Sequence[str]) -> None:
    """Counts what a 1 KB request, a 16 KB one and a stream's chunk cost, and compares with the baseline.

    The opcodes of Python always; the instructions of the whole process where there is valgrind. Where a cost grew, the
    functions that it grew in are named. Exit: 0 none grew beyond its tolerance, 1 one did, 2 they could not be counted.
    """
    console = Console(width=160)
    try:
        findings: list[Finding] = []
        costs: dict[Method, Mapping[str, Cost]] = {}
        for method in usable(names, update):
            before = measure(method, against.resolve()) if against else _held(method, update)
            costs[method] = measure(method, (tree or ROOT).resolve())
            findings += baseline.compared(method, before or costs[method], costs[method])
            tell(console, [finding for finding in findings if finding.method is method])
        if update:
            baseline.write(costs)
            console.print(f"written: {baseline.FILE.relative_to(ROOT)}", highlight=False)
    except BenchError as error:
        console.print(f"[red]{escape(str(error))}[/red]", highlight=False)
        sys.exit(2)
    grown = sum(finding.grown for finding in findings)
    if not update:
        verdict = f"broken: {grown} of {len(findings)} grew" if grown else "kept: nothing grew"
        console.print(f"{verdict} beyond its tolerance", style="red" if grown else "green", highlight=False)
    sys.exit(1 if grown and not update else 0)


def _held(method: Method, update: bool) -> Mapping[str, Cost]:
    """The baseline's costs. Raises BenchError where there are none, or they were counted with something else."""
    if not baseline.FILE.exists():
        if update:
            return {}
        raise BenchError("there is no baseline yet: `make guard ARGS=--update`")
    if not update and (different := baseline.differing(method)):
        raise BenchError(f"the baseline's {method.name} cannot be compared: {different}")
    return baseline.read().get(method.name, {})


if __name__ == "__main__":
    main()
