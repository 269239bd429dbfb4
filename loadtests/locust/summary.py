"""What one run of Locust came to, as JSON values and as a table for its report. Pure."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from loadtests.locust.limits import Figures, Verdict, percentile
from loadtests.locust.shapes import Plan


def summary(
    shape: str, figures: Figures, verdicts: Sequence[Verdict], generator_cpu: float, chosen: Plan | None
) -> dict[str, Any]:
    """As JSON values. `generator_cpu`: cores, of Locust's busiest process at its busiest."""
    rows = [
        {"type": one.type, "name": one.name, "count": one.count, "failures": one.failures, **_percentiles(one.times)}
        for one in sorted(figures.statistics, key=lambda one: (one.type, one.name))
    ]
    windows = [
        {
            "stage": one.stage,
            "users": one.users,
            "rate": round(one.rate, 1),
            "error_share": round(one.error_share, 5),
            **_percentiles(one.times),
        }
        for one in figures.windows
    ]
    return {
        "shape": shape,
        "verdicts": [as_json(each) for each in verdicts],
        "statistics": rows,
        "errors": dict(figures.errors),
        "stages": windows,
        "ended_because": chosen.stopped_by if chosen is not None else "",
        "generator_cpu_max": round(generator_cpu, 2),
    }


def as_json(each: Verdict) -> dict[str, Any]:
    return {"what": each.what, "limit": each.limit, "figure": each.figure, "kept": each.kept}


def with_verdicts(html: str, verdicts: Sequence[Verdict]) -> str:
    """Locust's report with the verdict above it."""
    table = f'<section id="verdicts" style="font-family:sans-serif;padding:1em 2em"><h2>Limits</h2>{as_table(verdicts)}'
    return html.replace('<div id="root">', f'{table}</section>\n    <div id="root">', 1)


def as_table(verdicts: Sequence[Verdict]) -> str:
    rows = "".join(
        f'<tr class="{"kept" if each.kept else "broken"}"><td>{escape(each.what)}</td><td>{escape(each.limit)}</td>'
        f"<td>{escape(each.figure)}</td><td>{'kept' if each.kept else '<b>broken</b>'}</td></tr>"
        for each in verdicts
    )
    return f"<table><tr><th>what</th><th>limit</th><th>measured</th><th></th></tr>{rows}</table>"


def _percentiles(times: Mapping[int, int]) -> dict[str, float | None]:
    return {f"p{share * 100:g}": percentile(times, share) for share in (0.5, 0.95, 0.99)}
