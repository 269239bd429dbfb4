"""The page that Prometheus reads: a reading, written by the table of `names.py`.

The text is written here and not by the client library, whose 6 µs a line would hold the event loop for 17 ms where
1,400 label sets have been seen; its two parsers judge the page in the tests.
"""

from collections.abc import Iterator
from functools import lru_cache
from itertools import accumulate
from typing import Final

from router.telemetry.names import METRICS, PROCESS, Kind, Metric
from router.telemetry.reading import Buckets, Exemplar, Labels, Number, Reading

TEXT: Final = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS: Final = "application/openmetrics-text; version=1.0.0; charset=utf-8"
_BOUNDS: Final = {m.name: (*map(repr, m.bounds), "+Inf") for m in METRICS if m.kind is Kind.HISTOGRAM}


def render(reading: Reading, accept: str) -> tuple[bytes, str]:
    """Returns the page and its content type: OpenMetrics where `accept` names it, else Prometheus' text."""
    openmetrics = "application/openmetrics-text" in accept
    lines: list[str] = []
    for metric in (*METRICS, *PROCESS):
        lines += _head(metric, openmetrics=openmetrics)
        if metric.kind is Kind.HISTOGRAM:
            for labels, buckets in reading.histograms.get(metric.name, {}).items():
                lines += _histogram_lines(metric, labels, buckets, exemplars=openmetrics)
        else:
            lines += _number_lines(metric, reading.numbers.get(metric.name, {}))
    if openmetrics:
        lines.append("# EOF\n")
    return "".join(lines).encode(), OPENMETRICS if openmetrics else TEXT


def _head(metric: Metric, *, openmetrics: bool) -> Iterator[str]:
    family, kind = metric.name, metric.kind.value
    if openmetrics:  # names a family without the suffix that its kind gives to its samples
        family = family.removesuffix({Kind.COUNTER: "_total", Kind.INFO: "_info"}.get(metric.kind, ""))
    elif metric.kind is Kind.INFO:
        kind = Kind.GAUGE.value
    yield f"# HELP {family} {_escaped(metric.help)}\n# TYPE {family} {kind}\n"
    if openmetrics and metric.unit:
        yield f"# UNIT {family} {metric.unit}\n"


def _number_lines(metric: Metric, series: dict[Labels, Number]) -> Iterator[str]:
    for labels, value in series.items():
        yield f"{metric.name}{_braced(_label_text(metric.labels, labels))} {value}\n"


def _histogram_lines(metric: Metric, labels: Labels, buckets: Buckets, *, exemplars: bool) -> Iterator[str]:
    text = _label_text(metric.labels, labels)
    first = f"{text}," if text else ""
    known = buckets.exemplars if exemplars else {}
    total = 0
    for number, (bound, total) in enumerate(zip(_BOUNDS[metric.name], accumulate(buckets.counts), strict=True)):
        seen = _exemplar_text(known[number]) if number in known else ""
        yield f'{metric.name}_bucket{{{first}le="{bound}"}} {total}{seen}\n'
    yield f"{metric.name}_count{_braced(text)} {total}\n"
    yield f"{metric.name}_sum{_braced(text)} {buckets.sum}\n"


def _exemplar_text(exemplar: Exemplar) -> str:
    return f' # {{trace_id="{_escaped(exemplar.trace_id)}"}} {exemplar.value} {exemplar.at}'


@lru_cache(maxsize=16384)  # as many as a page may well have: each is the same at every scrape
def _label_text(names: Labels, values: Labels) -> str:
    return ",".join([f'{name}="{_escaped(value)}"' for name, value in zip(names, values, strict=True)])


def _braced(labels: str) -> str:
    return f"{{{labels}}}" if labels else ""


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
