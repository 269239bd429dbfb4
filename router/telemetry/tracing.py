"""Which requests are traced. One that is not pays for a countdown, and one without this section for nothing.

While a request runs it has ids and nothing more: its spans are made from its record, once it has ended.
"""

import importlib.util
import math
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from router.model.fleet import Deployment, Secret
from router.model.outcome import RequestRecord
from router.telemetry.trace_context import Parent, Trace

INSTALL: Final = "pip install '.[otel]'"
_PACKAGES: Final = ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http")


@dataclass(frozen=True, slots=True)
class TracingSettings:
    """Where spans go, and of which requests. A reload can change `sample` and `respect_parent` alone."""

    endpoint: str  # OTLP over HTTP, with its path
    headers: Mapping[str, Secret] = field(default_factory=dict)
    ca_file: str | None = None  # whom an https endpoint's certificate may be of; None: whom the world trusts
    sample: float = 0.01  # of all requests; drawn here, so no client can raise it
    service_name: str = "inference-router"
    respect_parent: frozenset[str] = frozenset()  # workloads whose clients decide, by the flag of their traceparent


class Sampler:
    """Draws which requests are traced."""

    __slots__ = ("_left", "_log_miss", "_respected", "_rng", "_sample")

    def __init__(self, settings: TracingSettings, rng: random.Random) -> None:
        self._rng = rng
        self.adopt(settings)

    def adopt(self, settings: TracingSettings) -> None:
        """Goes by these settings from now on."""
        self._respected = settings.respect_parent
        self._sample = settings.sample
        self._log_miss = math.log1p(-settings.sample) if settings.sample < 1.0 else -math.inf
        self._left = self._gap()

    def admits(self, parent: Parent | None, workload: str) -> bool:
        """Whether this request is traced. `parent`: what its client said; that decides where clients are respected.

        Never by the trace id: whoever chooses the id would choose to be traced.
        """
        if parent is not None and workload in self._respected:
            return parent.sampled
        if self._left > 0:
            self._left -= 1
            return False
        self._left = self._gap()
        return True

    def _gap(self) -> float:
        """How many requests pass until the next traced one: geometric, so one draw does for all of them."""
        if self._sample <= 0.0:
            return math.inf
        return math.log(1.0 - self._rng.random()) // self._log_miss


class Tracing:
    """Samples requests, and sends the spans of those that were traced. Needs the extra `otel`."""

    def __init__(self, settings: TracingSettings, tell: Callable[[str], None], rng: random.Random) -> None:
        """`tell`: takes the name of an event, on any thread, when the collector is lost or is back."""
        from router.telemetry.spans import SpanExport  # an extra, and slow to load

        self.sampler = Sampler(settings, rng)
        self._rng = rng
        self._export = SpanExport(settings, tell)

    def begin(self, parent: Parent | None, route: str) -> Trace:
        """The trace of a request that the sampler admitted."""
        return Trace(parent, route, self._rng)

    def end(self, trace: Trace, record: RequestRecord, deployments: Mapping[str, Deployment]) -> None:
        """Takes what became of it; `deployments`, by id, are those of the configuration that it began with."""
        self._export.request(trace, record, deployments)

    @property
    def dropped(self) -> int:
        """Spans that reached no collector, since the start."""
        return self._export.dropped

    def close(self) -> None:
        """Sends what is there, for at most two seconds. Blocks."""
        self._export.close()


def missing_package() -> bool:
    """Whether the extra is not installed."""
    try:
        return any(importlib.util.find_spec(name) is None for name in _PACKAGES)
    except ModuleNotFoundError:  # of a package above it
        return True
