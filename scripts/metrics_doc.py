"""Writes docs/metrics.md from the table of metrics: `python -m scripts.metrics_doc`. A test fails where it is stale."""

import sys
from pathlib import Path
from typing import Final

from router.telemetry.names import METRICS, PROCESS, Kind, Metric

PAGE: Final = Path(__file__).parent.parent / "docs" / "metrics.md"
_HEAD: Final = """# Metrics

What `GET /metrics` on the control port tells, as Prometheus' text or, where `Accept` asks for it, as OpenMetrics with
exemplars: traced requests have their trace id beside the bucket that they fell into. This page is made from
`router/telemetry/names.py` by `python -m scripts.metrics_doc`.

Label values come from the configuration or from fixed sets, never from a client's words, so the configuration bounds
the number of series. `other`: the value was not known yet when the request ended; `none`: no cloud served it.

With several workers each number is that of all processes: the sum where nothing else is said. Counters keep what a
worker that ended had counted.
"""


def page() -> str:
    """Returns the whole page."""
    lines = [
        _HEAD,
        "| metric | kind | unit | labels | what | workers |",
        "|---|---|---|---|---|---|",
        *map(_row, METRICS),
        "",
        "Of any process:",
        "",
        "| metric | kind | unit | labels | what | workers |",
        "|---|---|---|---|---|---|",
        *map(_row, PROCESS),
        "",
        "Bounds of the histograms, in seconds:",
        "",
        "| histogram | up to |",
        "|---|---|",
        *(f"| `{m.name}` | {', '.join(f'{b:g}' for b in m.bounds)} |" for m in METRICS if m.kind is Kind.HISTOGRAM),
    ]
    return "\n".join(lines) + "\n"


def _row(metric: Metric) -> str:
    labels = ", ".join(metric.labels) or "–"
    cells = (f"`{metric.name}`", metric.kind.value, metric.unit or "–", labels, metric.help, metric.across.value)
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    sys.stdout.write(f"{PAGE} is written\n")
