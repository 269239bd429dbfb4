"""Pictures of a run, by what they show. A mode that was not run, or has no round that counts, is left out."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Final

from loadtests.bench.figures import BASELINE, Round, Spread
from loadtests.bench.frontier import BOUNDS_MS
from loadtests.bench.rounds import Result, compared, figures
from loadtests.plots import bars, curves
from loadtests.plots.curves import Points

CPU: Final = ("json-1k", "json-16k", "json-128k", "tls-json-1k", "stream-50", "stream-paced", "stream-hidden-usage")
PEERS: Final = ("peers-json-1k", "peers-stream-50")  # apart: beside the slowest of them all others look alike
LATENCY: Final = ("added-c1",)
GAPS: Final = ("fidelity", "added-ttft-500", "streams-5000")


def drawn(results: Sequence[Result]) -> dict[str, str]:
    """SVG by the word that goes into its file's name."""
    found = {result.mode.name: result for result in results if result.valid}
    pictures: dict[str, str] = {}
    for picture, names in (("cpu", CPU), ("peers", PEERS)):
        if groups := [_group(found[name]) for name in names if name in found]:
            pictures[picture] = bars.drawn("CPU of the proxying process, median of the rounds", groups)
    if frontier := found.get("frontier"):
        lines = medians(frontier)
        highest = max(rate for points in lines.values() for rate, _ in points)
        axis = curves.linear("requests a second, open loop at a constant rate", highest)
        title = "Latency over rate; direct is the load generator's own limit"
        pictures["frontier"] = curves.drawn(title, "p99, ms", axis, lines, BOUNDS_MS)
    for name in (*LATENCY, *GAPS):
        if name in found:
            what = "time to an answer, ms" if name in LATENCY else "time between the reads of a stream's events, ms"
            axis = curves.nines("percentile")
            pictures[name] = curves.drawn(f"{name}: median of the rounds", what, axis, medians(found[name]))
    return pictures


def _group(result: Result) -> bars.Group:
    against = compared(result)
    notes = {name: f"{spread.median:.2f} × {BASELINE}" for name, spread in against.items()}
    return bars.Group(result.mode.name, result.mode.unit, {n: s.median for n, s in figures(result).items()}, notes)


def medians(result: Result) -> dict[str, Points]:
    """For each subject a curve through the median, over the rounds, of what was seen at each place."""
    return {name: _curve(result.valid, name) for name in result.subjects}


def _curve(rounds: Sequence[Round], name: str) -> Points:
    seen: defaultdict[float, list[float]] = defaultdict(list)
    for r in rounds:
        for at, value in r.samples[name].curve:
            seen[at].append(value)
    return [(at, Spread.of(values).median) for at, values in sorted(seen.items())]
