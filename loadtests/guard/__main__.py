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


def usable(names: Sequence[str]) -> list[Method]:
    """The methods that were asked for; without a name, those that can run here."""
    if names:
        return [method for method in METHODS if method.name in names]
    try:
        find_valgrind()
    except BenchError:
        return [method for method in METHODS if not isinstance(method, Instructions)]
    return list(METHODS)


def tell(console: Console, findings: Sequence[Finding]) -> None:
    """A line a scene; where it grew, the functions that did."""
    for finding in findings:
        console.print(told(finding), highlight=False)
        if finding.grown or finding.stale:
            for name, change in finding.culprits():
                console.print(f"    {change:+10,.1f}  {escape(name)}", highlight=False)


def told(finding: Finding) -> str:
    before, now = finding.before.total, finding.now.total
    verdict = ""
    if finding.grown:
        verdict = f"  [red]grew: at most {finding.method.tolerance:+.0%}[/red]"
    elif finding.stale:
        verdict = "  [yellow]far below: write it anew with --update[/yellow]"
    numbers = f"{before:>12,.1f} → {now:>12,.1f}  {finding.growth:+7.2%}"
    return f"{finding.method.name:<13} {finding.scene:<13} {numbers}{verdict}"


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

    Exit: 0 when nothing grew, 1 when something failed, 2 when a cost grew beyond its tolerance.
    """
    console = Console(width=160)
    try:
        findings: list[Finding] = []
        costs: dict[Method, Mapping[str, Cost]] = {}
        for method in usable(names):
            before = measure(method, against.resolve()) if against else _held(method, update)
            costs[method] = measure(method, (tree or ROOT).resolve())
            findings += baseline.compared(method, before or costs[method], costs[method])
            tell(console, [finding for finding in findings if finding.method is method])
        if update:
            baseline.write(costs)
            console.print(f"written: {baseline.FILE.relative_to(ROOT)}", highlight=False)
    except BenchError as error:
        console.print(f"[red]{escape(str(error))}[/red]", highlight=False)
        sys.exit(1)
    sys.exit(2 if any(finding.grown for finding in findings) and not update else 0)


def _held(method: Method, update: bool) -> Mapping[str, Cost]:
    """The baseline's costs. Raises BenchError where there are none, or they were counted with something else."""
    if not baseline.FILE.exists():
        if update:
            return {}
        raise BenchError("there is no baseline yet: `make guard ARGS=--update`")
    if not update and (different := baseline.differing()):
        listed = "; ".join(f"{name}: {was}, here {here}" for name, (was, here) in different.items())
        raise BenchError(f"the baseline was made with other versions, so counts differ anyway ({listed})")
    return baseline.read().get(method.name, {})


if __name__ == "__main__":
    main()
