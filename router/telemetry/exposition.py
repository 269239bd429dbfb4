"""The page that Prometheus reads: the table of `names.py` filled from the request counts and the process's state."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from prometheus_client import exposition as text_format
from prometheus_client import metrics_core
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector

from router.telemetry import names
from router.telemetry.metrics import Histogram, RequestMetrics
from router.telemetry.names import Kind, Metric

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


@dataclass(frozen=True, slots=True)
class Gauges:
    """The process at this moment; numbers that only grow are counted from its start."""

    config_version: str
    draining: bool
    in_flight: Mapping[str, int]  # by workload
    deployments: Sequence[DeploymentReading]
    client_connections: int
    buffered_bytes: int
    dials: int
    reuses: int
    violations: int
    reloads: Mapping[str, int]  # by result
    access_log_dropped: int
    loop_lag_s: float


class MetricsPage(Collector):
    """Renders all metrics. `read_gauges` is called once a scrape, on the event loop."""

    def __init__(self, requests: RequestMetrics, read_gauges: Callable[[], Gauges]) -> None:
        self._requests, self._read_gauges = requests, read_gauges

    def render(self, accept: str) -> tuple[bytes, str]:
        """Returns the page and its content type: OpenMetrics where `accept` names it, else Prometheus' text."""
        if "application/openmetrics-text" in accept:
            page: bytes = openmetrics.generate_latest(self)  # type: ignore[no-untyped-call]
            return page, openmetrics.CONTENT_TYPE_LATEST
        return text_format.generate_latest(self), text_format.CONTENT_TYPE_PLAIN_0_0_4

    def collect(self) -> Iterator[metrics_core.Metric]:
        gauges = self._read_gauges()
        numbers = _request_numbers(self._requests) | _process_numbers(gauges) | _deployment_numbers(gauges.deployments)
        histograms = _request_histograms(self._requests)
        for metric in names.METRICS:
            if metric.kind is Kind.HISTOGRAM:
                yield _histogram_family(metric, histograms[metric.name])
            else:
                yield _number_family(metric, numbers[metric.name])


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
        names.PLACEMENT_VIOLATIONS.name: [((), gauges.violations)],
        names.CLIENT_CONNECTIONS.name: [((), gauges.client_connections)],
        names.BUFFERED_BYTES.name: [((), gauges.buffered_bytes)],
        names.EVENT_LOOP_LAG.name: [((), gauges.loop_lag_s)],
        names.CONFIG.name: [((gauges.config_version,), 1)],
        names.DRAINING.name: [((), gauges.draining)],
        names.RELOADS.name: [((result,), count) for result, count in gauges.reloads.items()],
        names.ACCESS_LOG_DROPPED.name: [((), gauges.access_log_dropped)],
    }


def _deployment_numbers(deployments: Sequence[DeploymentReading]) -> dict[str, Numbers]:
    return {
        names.ATTEMPTS_IN_FLIGHT.name: [((d.deployment,), d.in_flight) for d in deployments],
        names.DEPLOYMENT_AVAILABLE.name: [((d.deployment, d.cloud), d.available) for d in deployments],
        names.UPSTREAM_CONNECTIONS.name: [
            ((d.deployment, state), count) for d in deployments for state, count in (("idle", d.idle), ("busy", d.busy))
        ],
    }


def _number_family(metric: Metric, numbers: Numbers) -> metrics_core.Metric:
    # Built from samples: a counter's or an info's family differs from a gauge's in nothing but the name it goes by.
    family = metrics_core.Metric(_family_name(metric), metric.help, metric.kind.value, metric.unit)
    for labels, value in numbers:
        family.add_sample(metric.name, dict(zip(metric.labels, labels, strict=True)), value)
    return family


def _family_name(metric: Metric) -> str:
    """OpenMetrics names a family without the suffix that its kind gives to its samples."""
    suffix = {Kind.COUNTER: "_total", Kind.INFO: "_info"}.get(metric.kind, "")
    return metric.name.removesuffix(suffix)


def _histogram_family(metric: Metric, histograms: Histograms) -> metrics_core.Metric:
    family = metrics_core.HistogramMetricFamily(metric.name, metric.help, labels=metric.labels, unit=metric.unit)
    bounds = [*map(repr, metric.bounds), "+Inf"]
    for labels, histogram in histograms:
        buckets = list(zip(bounds, histogram.cumulated(), strict=True))
        family.add_metric(labels, buckets, histogram.sum_ms / 1000.0)
    return family
