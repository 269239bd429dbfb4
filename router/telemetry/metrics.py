"""What finished requests add up to, in plain slots.

Four of a client library's metrics would cost several times as much as everything here, so the numbers live in cells
that are found by one dictionary look-up, and `exposition.py` reads them at scrape time. One thread writes.
"""

from bisect import bisect_left
from itertools import accumulate
from typing import Final

from router.model.decision import ACCEPTED
from router.model.outcome import RequestRecord
from router.telemetry.names import FIRST_BYTE, OVERHEAD, REQUEST_DURATION, Metric

# What an empty label value is shown as. A request that no cloud served must not look as if an unnamed one had.
UNKNOWN: Final = "other"
NO_CLOUD: Final = "none"


class Histogram:
    """Counts per bucket, not cumulated; a bound belongs to its own bucket, as Prometheus' `le` says.

    Observes milliseconds, because records hold them; exposes what the metric's unit says, which is seconds.
    """

    __slots__ = ("bounds_ms", "counts", "sum_ms")

    def __init__(self, metric: Metric) -> None:
        self.bounds_ms: Final = tuple(bound * 1000.0 for bound in metric.bounds)
        self.counts = [0] * (len(metric.bounds) + 1)
        self.sum_ms = 0.0

    def observe(self, value_ms: float) -> None:
        self.counts[bisect_left(self.bounds_ms, value_ms)] += 1
        self.sum_ms += value_ms

    def cumulated(self) -> list[int]:
        """How many observations were at most each bound; the last one is all of them."""
        return list(accumulate(self.counts))


class TokenCount:
    """Tokens of one workload, model and cloud."""

    __slots__ = ("cached", "completion", "prompt", "reasoning")

    def __init__(self) -> None:
        self.prompt = self.completion = self.cached = self.reasoning = 0


class _Cell:
    """All that a finished request changes. The parts are shared by the cells whose labels for them are equal."""

    __slots__ = ("count", "first_byte", "request", "tokens")

    def __init__(self, request: Histogram, first_byte: Histogram, tokens: TokenCount) -> None:
        self.count = 0
        self.request, self.first_byte, self.tokens = request, first_byte, tokens


class RequestMetrics:
    """Counts finished requests and their attempts. The dictionaries are keyed by label values, in the table's order."""

    def __init__(self) -> None:
        self.cells: dict[tuple[str, str, str, str, str], _Cell] = {}
        self.attempts: dict[tuple[str, str, str], int] = {}
        self.request: dict[tuple[str, str], Histogram] = {}
        self.first_byte: dict[tuple[str, str], Histogram] = {}
        self.tokens: dict[tuple[str, str, str], TokenCount] = {}
        self.refusals: dict[tuple[str, str, str], int] = {}  # by workload, cloud and reason
        self.departures: dict[tuple[str, str], int] = {}  # by workload and the cloud that served
        self.overhead = Histogram(OVERHEAD)
        # By the record's own values, which may be empty: several of them can share one cell.
        self._found: dict[tuple[str, str, str, str, str], _Cell] = {}

    def record(self, record: RequestRecord) -> None:
        """Adds one finished request: once a request, on the hot path."""
        key = (record.workload, record.model, record.operation, record.cloud, record.outcome)
        cell = self._found.get(key)
        if cell is None:
            cell = self._found[key] = self._cell(*key)
        cell.count += 1
        cell.request.observe(record.total_ms)
        self.overhead.observe(record.overhead_ms)
        if record.first_byte_ms:
            cell.first_byte.observe(record.first_byte_ms)
        usage = record.usage
        if usage is not None:
            tokens = cell.tokens
            tokens.prompt += usage.prompt_tokens
            tokens.completion += usage.completion_tokens
            tokens.cached += usage.cached_tokens
            tokens.reasoning += usage.reasoning_tokens
        attempts = self.attempts
        for attempt in record.attempts:
            labels = (attempt.cloud, attempt.deployment, attempt.outcome)
            attempts[labels] = attempts.get(labels, 0) + 1

        if record.refusals:
            self._count_refusals(record)

    def _count_refusals(self, record: RequestRecord) -> None:
        for offer in record.refusals:
            refused = (record.workload, offer.cloud, offer.outcome)
            self.refusals[refused] = self.refusals.get(refused, 0) + 1
        if record.left_holder:
            left = (record.workload, record.cloud or NO_CLOUD)
            self.departures[left] = self.departures.get(left, 0) + 1

    def accepted(self) -> dict[tuple[str, str, str], int]:
        """Offers that were taken: finished requests that a cloud served, by workload and cloud."""
        taken: dict[tuple[str, str, str], int] = {}
        for (workload, _, _, cloud, _), cell in list(self.cells.items()):
            if cloud != NO_CLOUD:
                labels = (workload, cloud, ACCEPTED)
                taken[labels] = taken.get(labels, 0) + cell.count
        return taken

    def count(self, outcome: str) -> int:
        """Finished requests with this outcome, over all labels."""
        return sum(cell.count for labels, cell in list(self.cells.items()) if labels[-1] == outcome)

    def _cell(self, workload: str, model: str, operation: str, cloud: str, outcome: str) -> _Cell:
        workload, model, operation = workload or UNKNOWN, model or UNKNOWN, operation or UNKNOWN
        cloud = cloud or NO_CLOUD
        labels = (workload, model, operation, cloud, outcome)
        if labels not in self.cells:
            request = self.request.setdefault((workload, operation), Histogram(REQUEST_DURATION))
            first_byte = self.first_byte.setdefault((workload, cloud), Histogram(FIRST_BYTE))
            tokens = self.tokens.setdefault((workload, model, cloud), TokenCount())
            self.cells[labels] = _Cell(request, first_byte, tokens)
        return self.cells[labels]
