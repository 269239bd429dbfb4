"""The result as people read it."""

from collections.abc import Sequence
from dataclasses import astuple
from typing import Final

from rich.console import Console
from rich.table import Table

from loadtests.bench.against import print_against
from loadtests.bench.bars import judged
from loadtests.bench.figures import Round, Spread
from loadtests.bench.rounds import Result, compared, figures, proxies

FOREIGN_QUIET: Final = 0.10  # interrupts of the benchmark itself come to half of it
HEADINGS: Final = ("mode", "subject", "figure", "÷ or − nginx", "bar", "p50 ms", "p99 ms", "a second", "rounds")


def print_round(console: Console, result: Result) -> None:
    """One line as soon as a round is over."""
    last = result.rounds[-1]
    figures = "  ".join(f"{name} {last.samples[name].value:.2f}" for name in result.subjects)
    counted = f"{len(result.valid)}/{result.wanted}"
    void = f"  [red]void: {last.void}[/red]" if last.void else ""
    gauge = f"gauge {last.gauge:.1f}, steal {last.steal:.1%}, others {last.foreign:.0%}"
    console.print(f"[bold]{result.mode.name}[/bold] {counted}  {figures}  [dim]{gauge}[/dim]{void}", highlight=False)


def print_table(console: Console, results: Sequence[Result], *, quick: bool = False) -> None:
    table = Table(title="Median of the rounds that count (lowest to highest)")
    for heading in HEADINGS:
        table.add_column(heading, justify="left" if heading in {"mode", "subject"} else "right", no_wrap=True)
    for result in results:
        if result.valid:
            _add_rows(table, result)
    console.print(table)
    if any(result.valid and result.valid[0].samples[result.subjects[0]].more for result in results):
        console.print(_further(results))
    print_against(console, results)
    console.print(_bars(results, "Bars (a quick run is too small to judge by)" if quick else "Bars"))
    for result in results:
        if not result.complete:
            console.print(f"[red]{result.mode.name}: only {len(result.valid)} of {result.wanted} rounds count[/red]")
        if (busiest := max((r.foreign for r in result.valid), default=0.0)) > FOREIGN_QUIET:
            console.print(
                f"[yellow]{result.mode.name}: other programs took up to {busiest:.0%} of the machine[/yellow]"
            )


def _add_rows(table: Table, result: Result) -> None:
    """A row a subject; the first two say beside them what was measured, and in which unit."""
    names, own, against = proxies(result), figures(result), compared(result)
    judged_one = "router" if "router" in names else names[-1]
    beside = [f"[bold]{result.mode.name}[/bold]", f"[dim]{result.mode.unit}[/dim]"]
    for index in range(max(len(names), len(beside))):
        label = beside[index] if index < len(beside) else ""
        if index >= len(names):
            table.add_row(label)
            continue
        name = names[index]
        table.add_row(
            label,
            name,
            _shown(own[name]),
            _shown(against[name]) if name in against else "",
            result.mode.bar if name == judged_one else "",
            _median_of(result.valid, name, "p50_ms"),
            _median_of(result.valid, name, "p99_ms"),
            _median_of(result.valid, name, "rate", "{:,.0f}"),
            f"{len(result.valid)} of {len(result.rounds)}" if index == 0 else "",
        )
    table.add_section()


def _further(results: Sequence[Result]) -> Table:
    """What a mode measures besides its one figure, as it was, the direct way beside the proxies."""
    table = Table(title="Further figures: medians")
    for heading in ("mode", "figure", *(names := _subjects_with_more(results))):
        table.add_column(heading, justify="left" if heading in {"mode", "figure"} else "right", no_wrap=True)
    for result in results:
        more = {name: result.valid[0].samples[name].more for name in result.subjects} if result.valid else {}
        for number, key in enumerate(dict.fromkeys(key for found in more.values() for key in found)):
            medians = [_median_more(result, name, key) if key in more.get(name, {}) else "" for name in names]
            table.add_row(f"[bold]{result.mode.name}[/bold]" if not number else "", key, *medians)
        table.add_section()
    return table


def _subjects_with_more(results: Sequence[Result]) -> list[str]:
    found = [
        name for result in results for name in result.subjects if result.valid and result.valid[0].samples[name].more
    ]
    return list(dict.fromkeys(found))


def _median_more(result: Result, name: str, key: str) -> str:
    return f"{Spread.of([r.samples[name].more[key] for r in result.valid]).median:,.6g}"


def _bars(results: Sequence[Result], title: str) -> Table:
    table = Table(title=title)
    for heading in ("what", "bar", "beyond", "found (lowest to highest)", "unit", "verdict"):
        table.add_column(heading, justify="left" if heading in {"what", "unit", "verdict"} else "right", no_wrap=True)
    for verdict in judged({result.mode.name: result.valid for result in results}):
        bar, words = verdict.bar, verdict.words
        colour = {"not met": "red", "not measured": "dim"}.get(words, "green")
        beyond = f"≤ {bar.beyond:g}" if bar.beyond is not None else ""
        found = _shown(verdict.found, 3) if verdict.found else ""
        table.add_row(bar.what, f"≤ {bar.limit:g}", beyond, found, bar.unit, f"[{colour}]{words}[/{colour}]")
    return table


def _shown(spread: Spread, digits: int = 2) -> str:
    median, low, high = (f"{value:,.{0 if abs(value) >= 1000 else digits}f}" for value in astuple(spread))
    return f"{median} ({low}-{high})"


def _median_of(rounds: Sequence[Round], name: str, attribute: str, form: str = "{:.2f}") -> str:
    found = [value for r in rounds if (value := getattr(r.samples[name], attribute)) is not None]
    return form.format(Spread.of(found).median) if found else ""
