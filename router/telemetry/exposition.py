"""The page that Prometheus reads: the table of `names.py` filled from the request counts and the process's state.

The text is written here and not by the client library, whose 6 µs a line would hold the event loop for 17 ms where
1,400 label sets have been seen; its two parsers judge the page in the tests.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, TypeAlias

from prometheus_client import CollectorRegistry, GCCollector, ProcessCollector
from prometheus_client import generate_latest as prometheus_text
from prometheus_client.openmetrics.exposition import generate_latest as openmetrics_text

from router.telemetry import names
from router.telemetry.metrics import Histogram, RequestMetrics
from router.telemetry.names import Kind, Metric

VERDICTS: Final = ("up", "degraded", "throttled", "ejected", "probing", "draining", "unknown")
TEXT: Final = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS: Final = "application/openmetrics-text; version=1.0.0; charset=utf-8"

Numbers: TypeAlias = Iterable[tuple[tuple[str, ...], float]]
Histograms: TypeAlias = Iterable[tuple[tuple[str, ...], Histogram]]


@dataclass(frozen=True, slots=True)
class DeploymentReading:
    """One deployment at this moment."""

    deployment: str
    cloud: str
    in_flight: int
    idle: int
    busy: int
    available: bool
    verdict: str  # of `VERDICTS`
    in_flight_max: int
    quota_avoided: int


@dataclass(frozen=True, slots=True)
class WorkloadReading:
    """One workload at this moment."""

    workload: str
    retries: int
    hedges: int
    budget_left: float


@dataclass(frozen=True, slots=True)
class Gauges:
    """The process at this moment; numbers that only grow are counted from its start."""

    config_version: str
    draining: bool
    in_flight: Mapping[str, int]  # by workload
    deployments: Sequence[DeploymentReading]
    workloads: Sequence[WorkloadReading]
    waiting: Mapping[str, int]  # by model
    credential_failures: Mapping[str, int]  # by endpoint
    decisions: int
    decisions_dropped: int
    anchor_failures: int
    client_connections: int
    buffered_bytes: int
    dials: int
    reuses: int
    violations: int
    reloads: Mapping[str, int]  # by result
    access_log_dropped: int
    loop_lag_s: float


class MetricsPage:
    """Renders all metrics. `read_gauges` is called once a page."""

    def __init__(self, requests: RequestMetrics, read_gauges: Callable[[], Gauges]) -> None:
        self._requests, self._read_gauges = requests, read_gauges
        self._process = CollectorRegistry()
        ProcessCollector(registry=self._process)
        GCCollector(registry=self._process)

    def render(self, accept: str) -> tuple[bytes, str]:
        """Returns the page and its content type: OpenMetrics where `accept` names it, else Prometheus' text."""
        openmetrics = "application/openmetrics-text" in accept
        gauges = self._read_gauges()
        numbers = _request_numbers(self._requests) | _process_numbers(gauges) | _deployment_numbers(gauges.deployments)
        histograms = _request_histograms(self._requests)
        lines: list[str] = []
        for metric in names.METRICS:
            lines += _head(metric, openmetrics=openmetrics)
            if metric.kind is Kind.HISTOGRAM:
                lines += _histogram_lines(metric, histograms[metric.name])
            else:
                lines += _number_lines(metric, numbers[metric.name])
        # What the library knows of any process: memory, CPU, open files, the collector of garbage.
        write_process: Callable[[CollectorRegistry], bytes] = openmetrics_text if openmetrics else prometheus_text
        return "".join(lines).encode() + write_process(self._process), OPENMETRICS if openmetrics else TEXT


# Dictionaries that requests write to are copied before they are walked, so that a page may be made on any thread.


def _request_numbers(requests: RequestMetrics) -> dict[str, Numbers]:
    kinds = ("prompt", "completion", "cached", "reasoning")
    return {
        names.REQUESTS.name: [(labels, cell.count) for labels, cell in list(requests.cells.items())],
        names.ATTEMPTS.name: list(requests.attempts.items()),
        names.TOKENS.name: [
            ((*labels, kind), getattr(tokens, kind))
            for labels, tokens in list(requests.tokens.items())
            for kind in kinds
        ],
        names.OFFERS.name: [*requests.accepted().items(), *list(requests.refusals.items())],
        names.DEPARTURES.name: list(requests.departures.items()),
        names.CLIENT_DISCONNECTS.name: [((), requests.count("client_gone"))],
        names.TRUNCATED_STREAMS.name: [((), requests.count("stream_broken"))],
    }


def _request_histograms(requests: RequestMetrics) -> dict[str, Histograms]:
    return {
        names.FIRST_BYTE.name: list(requests.first_byte.items()),
        names.REQUEST_DURATION.name: list(requests.request.items()),
        names.OVERHEAD.name: [((), requests.overhead)],
    }


def _process_numbers(gauges: Gauges) -> dict[str, Numbers]:
    return {
        names.REQUESTS_IN_FLIGHT.name: [((workload,), count) for workload, count in gauges.in_flight.items()],
        names.UPSTREAM_DIALS.name: [((), gauges.dials)],
        names.UPSTREAM_REUSES.name: [((), gauges.reuses)],
        names.RETRIES.name: [((w.workload,), w.retries) for w in gauges.workloads],
        names.HEDGES.name: [((w.workload,), w.hedges) for w in gauges.workloads],
        names.RETRY_BUDGET.name: [((w.workload,), w.budget_left) for w in gauges.workloads],
        names.WAITING.name: [((model,), count) for model, count in gauges.waiting.items()],
        names.CREDENTIAL_FAILURES.name: [((name,), count) for name, count in gauges.credential_failures.items()],
        names.DECISIONS.name: [((), gauges.decisions)],
        names.DECISIONS_DROPPED.name: [((), gauges.decisions_dropped)],
        names.ANCHOR_FAILURES.name: [((), gauges.anchor_failures)],
        names.PLACEMENT_VIOLATIONS.name: [((), gauges.violations)],
        names.CLIENT_CONNECTIONS.name: [((), gauges.client_connections)],
        names.BUFFERED_BYTES.name: [((), gauges.buffered_bytes)],
        names.EVENT_LOOP_LAG.name: [((), gauges.loop_lag_s)],
        names.CONFIG.name: [((gauges.config_version,), 1)],
        names.DRAINING.name: [((), int(gauges.draining))],
        names.RELOADS.name: [((result,), count) for result, count in gauges.reloads.items()],
        names.ACCESS_LOG_DROPPED.name: [((), gauges.access_log_dropped)],
    }


def _deployment_numbers(deployments: Sequence[DeploymentReading]) -> dict[str, Numbers]:
    return {
        names.ATTEMPTS_IN_FLIGHT.name: [((d.deployment,), d.in_flight) for d in deployments],
        names.DEPLOYMENT_AVAILABLE.name: [((d.deployment, d.cloud), int(d.available)) for d in deployments],
        names.VERDICT.name: [
            ((d.deployment, d.cloud, state), int(state == d.verdict)) for d in deployments for state in VERDICTS
        ],
        names.IN_FLIGHT_MAX.name: [((d.deployment,), d.in_flight_max) for d in deployments],
        names.QUOTA_AVOIDED.name: [((d.deployment,), d.quota_avoided) for d in deployments],
        names.UPSTREAM_CONNECTIONS.name: [
            ((d.deployment, state), count) for d in deployments for state, count in (("idle", d.idle), ("busy", d.busy))
        ],
    }


def _head(metric: Metric, *, openmetrics: bool) -> Iterator[str]:
    family, kind = metric.name, metric.kind.value
    if openmetrics:  # names a family without the suffix that its kind gives to its samples
        family = family.removesuffix({Kind.COUNTER: "_total", Kind.INFO: "_info"}.get(metric.kind, ""))
    elif metric.kind is Kind.INFO:
        kind = Kind.GAUGE.value
    yield f"# HELP {family} {_escaped(metric.help)}\n# TYPE {family} {kind}\n"
    if openmetrics and metric.unit:
        yield f"# UNIT {family} {metric.unit}\n"


def _number_lines(metric: Metric, numbers: Numbers) -> Iterator[str]:
    for labels, value in numbers:
        yield f"{metric.name}{_braced(_label_text(metric, labels))} {value}\n"


def _histogram_lines(metric: Metric, histograms: Histograms) -> Iterator[str]:
    bounds = [*map(repr, metric.bounds), "+Inf"]
    for labels, histogram in histograms:
        text = _label_text(metric, labels)
        first = f"{text}," if text else ""
        cumulated = histogram.cumulated()
        for bound, count in zip(bounds, cumulated, strict=True):
            yield f'{metric.name}_bucket{{{first}le="{bound}"}} {count}\n'
        yield f"{metric.name}_count{_braced(text)} {cumulated[-1]}\n"
        yield f"{metric.name}_sum{_braced(text)} {histogram.sum_ms / 1000.0}\n"


def _label_text(metric: Metric, values: tuple[str, ...]) -> str:
    return ",".join([f'{name}="{_escaped(value)}"' for name, value in zip(metric.labels, values, strict=True)])


def _braced(labels: str) -> str:
    return f"{{{labels}}}" if labels else ""


@lru_cache(maxsize=4096)
def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
