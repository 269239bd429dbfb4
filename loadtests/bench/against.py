"""The router beside other gateways: what each costs, against nginx and against the router in the same rounds."""

import math
from collections.abc import Sequence
from dataclasses import astuple
from typing import Final

from rich.console import Console
from rich.table import Table

from loadtests.baselines.peers import PEERS
from loadtests.bench.bars import ROUTER
from loadtests.bench.figures import BASELINE, Spread
from loadtests.bench.rounds import Result

HEADINGS: Final = ("against peers", "kind", "unit", "CPU µs", "÷ nginx", "router ÷ it")


def print_against(console: Console, results: Sequence[Result]) -> None:
    """A row for each gateway in each mode that has some, and how to install those that are missing."""
    found = [result for result in results if result.valid and result.mode.name.startswith("peers-")]
    if not found:
        return
    table = Table(title="Against peers: median of the rounds that count (lowest to highest)")
    for heading in HEADINGS:
        table.add_column(heading, justify="left" if heading in HEADINGS[:3] else "right", no_wrap=True)
    for result in found:
        for name, kind in _kinds(result).items():
            table.add_row(name, kind, result.mode.unit, *compared(result, name))
        table.add_section()
    console.print(table)
    for peer in PEERS:
        if peer.missing:
            console.print(f"[yellow]{peer.missing}[/yellow]", highlight=False)


def compared(result: Result, name: str) -> tuple[str, str, str]:
    """Its figure, that over nginx's, and the router's over it, each within the round; empty where one was left out."""
    return (
        _shown([r.samples[name].value for r in result.valid]),
        _ratio(result, name, BASELINE),
        _ratio(result, ROUTER, name),
    )


def _kinds(result: Result) -> dict[str, str]:
    kinds = {BASELINE: "proxy", ROUTER: "this router"}
    kinds |= {peer.name: "knows LLM requests" if peer.aware else "proxy" for peer in PEERS}
    return {name: kind for name, kind in kinds.items() if name in result.subjects}


def _ratio(result: Result, above: str, below: str) -> str:
    if above == below or not {above, below} <= set(result.subjects):
        return ""
    return _shown([r.samples[above].value / r.samples[below].value for r in result.valid])


def _shown(values: Sequence[float]) -> str:
    median, low, high = (f"{value:,.{_digits(value)}f}" for value in astuple(Spread.of(values)))
    return f"{median} ({low}-{high})"


def _digits(value: float) -> int:
    """Three that say something: the router's share of LiteLLM's cost is thousandths, LiteLLM's of nginx's hundreds."""
    return max(0, 2 - math.floor(math.log10(value)))
