"""What finished requests add up to, in plain slots.

Four of a client library's metrics would cost several times as much as everything here, so the numbers live in cells
that are found by one dictionary look-up, and a reading is taken from them at scrape time. One thread writes.
"""

from bisect import bisect_left
from collections.abc import Iterable
from typing import Final, TypeAlias

from router.model.decision import ACCEPTED
from router.model.outcome import AttemptRecord, RequestRecord
from router.telemetry import names
from router.telemetry.names import Metric
from router.telemetry.reading import Buckets, Exemplar, Labels, Number, Numbers, Reading

# What an empty label value is shown as. A request that no cloud served must not look as if an unnamed one had.
UNKNOWN: Final = "other"
NO_CLOUD: Final = "none"

_TOKENS: Final = ("prompt", "completion", "cached", "reasoning")
_RECORDS_A_BATCH: Final = 32  # take some 20 µs, and are counted in one go

_Key: TypeAlias = tuple[str, str, str, str, str, str]  # workload, model, operation, cloud, deployment, outcome


def _in_ms(metric: Metric) -> tuple[float, ...]:
    return tuple(bound * 1000.0 for bound in metric.bounds)


REQUEST_MS: Final = _in_ms(names.REQUEST_DURATION)
FIRST_BYTE_MS: Final = _in_ms(names.FIRST_BYTE)
OVERHEAD_MS: Final = _in_ms(names.OVERHEAD)
ATTEMPT_FIRST_BYTE_MS: Final = _in_ms(names.ATTEMPT_FIRST_BYTE)
GAP_BOUNDS_S: Final = names.CHUNK_GAP.bounds


class Histogram:
    """Counts per bucket, not cumulated; a bound belongs to its own bucket, as Prometheus' `le` says.

    Takes milliseconds, because records hold them; a reading has what the metric's unit says, which is seconds.
    """

    __slots__ = ("bounds_ms", "counts", "exemplars", "sum_ms")

    def __init__(self, metric: Metric) -> None:
        self.bounds_ms: Final = _in_ms(metric)
        self.counts = [0] * (len(metric.bounds) + 1)
        self.sum_ms = 0.0
        self.exemplars: dict[int, Exemplar] = {}  # the last of each bucket

    def observe(self, value_ms: float) -> None:
        """For what is rare; `RequestMetrics.record` has the same in line."""
        self.counts[bisect_left(self.bounds_ms, value_ms)] += 1
        self.sum_ms += value_ms

    def exemplify(self, value_ms: float, trace_id: str, at: float) -> None:
        """Keeps a traced observation, which was counted already. `at`: wall seconds."""
        self.exemplars[bisect_left(self.bounds_ms, value_ms)] = Exemplar(at, value_ms / 1000.0, trace_id)

    def read(self) -> Buckets:
        return Buckets(self.counts.copy(), self.sum_ms / 1000.0, self.exemplars.copy())


class Gaps:
    """The gaps between the events of one workload's streams from one cloud, in seconds.

    Whoever relays counts each gap into `counts` (by `GAP_BOUNDS_S`) when it ends, and adds what they came to at the
    end of the stream: for each chunk of each stream an addition less.
    """

    __slots__ = ("counts", "sum_s")

    def __init__(self) -> None:
        self.counts = [0] * (len(GAP_BOUNDS_S) + 1)
        self.sum_s = 0.0

    def read(self) -> Buckets:
        return Buckets(self.counts.copy(), self.sum_s)


class _Cell:
    """All that a finished request changes. Histograms are shared by the cells whose labels for them are equal."""

    __slots__ = (
        "attempt_first_byte",
        "cached",
        "completion",
        "cost_nano_usd",
        "count",
        "first_byte",
        "first_token",
        "labels",
        "prompt",
        "reasoning",
        "request",
        "served",
    )

    def __init__(
        self,
        labels: Labels,
        request: Histogram,
        first_byte: Histogram,
        first_token: Histogram,
        attempt_first_byte: Histogram,
    ) -> None:
        self.labels = labels  # of `names.REQUESTS`
        self.count = 0
        self.served = 0  # attempts that served it: of most requests the only one
        self.prompt = self.completion = self.cached = self.reasoning = self.cost_nano_usd = 0
        self.request, self.first_byte, self.first_token = request, first_byte, first_token
        self.attempt_first_byte = attempt_first_byte


class RequestMetrics:
    """Counts finished requests and their attempts. The dictionaries are keyed by label values, in the table's order."""

    def __init__(self) -> None:
        self.cells: dict[_Key, _Cell] = {}
        self.request: dict[Labels, Histogram] = {}
        self.first_byte: dict[Labels, Histogram] = {}
        self.first_token: dict[Labels, Histogram] = {}
        self.attempts: dict[Labels, int] = {}  # less those that are counted in their request's cell
        self.attempt_first_byte: dict[Labels, Histogram] = {}
        self.connect: dict[Labels, Histogram] = {}
        self.tls: dict[Labels, Histogram] = {}
        self.waited: dict[Labels, Histogram] = {}
        self.chunk_gaps: dict[Labels, Gaps] = {}
        self.refusals: dict[Labels, int] = {}  # by workload, cloud and reason
        self.departures: dict[Labels, int] = {}  # by workload and the cloud that served
        self.overhead = Histogram(names.OVERHEAD)
        self._pending: list[RequestRecord] = []  # finished, and not counted yet
        # By the record's own values, which may be empty: several of them can share one cell.
        self._found: dict[_Key, _Cell] = {}
        self._histograms: Final = (
            (names.REQUEST_DURATION, self.request),
            (names.FIRST_BYTE, self.first_byte),
            (names.FIRST_TOKEN, self.first_token),
            (names.ATTEMPT_FIRST_BYTE, self.attempt_first_byte),
            (names.UPSTREAM_CONNECT, self.connect),
            (names.UPSTREAM_TLS, self.tls),
            (names.WAITED, self.waited),
        )

    def record(self, record: RequestRecord) -> None:
        """Takes one finished request: once a request, on the hot path. It is counted with others, or when one asks."""
        pending = self._pending
        pending.append(record)
        if len(pending) >= _RECORDS_A_BATCH:
            self.count_pending()

    def count_pending(self) -> None:
        """Counts what is pending: one after the other, since what is warm costs half. On the loop's thread."""
        found, overhead = self._found, self.overhead
        for record in self._pending:
            key = (record.workload, record.model, record.operation, record.cloud, record.served_by, record.outcome)
            cell = found.get(key)
            if cell is None:
                cell = found[key] = self._cell(*key)
            cell.count += 1
            value_ms = record.total_ms
            histogram = cell.request
            histogram.counts[bisect_left(REQUEST_MS, value_ms)] += 1
            histogram.sum_ms += value_ms
            value_ms = record.overhead_ms
            overhead.counts[bisect_left(OVERHEAD_MS, value_ms)] += 1
            overhead.sum_ms += value_ms
            value_ms = record.first_byte_ms
            if value_ms:
                histogram = cell.first_byte
                histogram.counts[bisect_left(FIRST_BYTE_MS, value_ms)] += 1
                histogram.sum_ms += value_ms
            usage = record.usage
            if usage is not None:
                cell.prompt += usage.prompt_tokens
                cell.completion += usage.completion_tokens
                cell.cached += usage.cached_tokens
                cell.reasoning += usage.reasoning_tokens
                cell.cost_nano_usd += record.cost_nano_usd
            for attempt in record.attempts:
                if attempt.reused and attempt.outcome == "served":  # usual, and last: it is the one that served
                    value_ms = attempt.first_byte_ms
                    cell.served += 1
                    histogram = cell.attempt_first_byte
                    histogram.counts[bisect_left(ATTEMPT_FIRST_BYTE_MS, value_ms)] += 1
                    histogram.sum_ms += value_ms
                else:
                    self._count_attempt(attempt)
            if record.first_token_ms or record.trace_id or record.refusals or record.queued_ms:
                self._count_seldom(record, cell)
        self._pending.clear()

    def _count_seldom(self, record: RequestRecord, cell: _Cell) -> None:
        if record.first_token_ms:
            cell.first_token.observe(record.first_token_ms)
        if record.trace_id and record.attempts and record.attempts[-1].span_id:  # its spans were exported
            _exemplify(record, cell)
        if record.refusals:
            self._count_refusals(record)
        if record.queued_ms:
            _of(self.waited, (record.workload,), names.WAITED).observe(record.queued_ms)

    def gaps(self, workload: str, cloud: str) -> Gaps:
        """Where the gaps of a stream are counted while it flows."""
        return self.chunk_gaps.setdefault((workload, cloud), Gaps())

    def count(self, outcome: str) -> int:
        """Finished requests with this outcome, over all labels."""
        self.count_pending()
        return sum(cell.count for key, cell in list(self.cells.items()) if key[-1] == outcome)

    def read(self) -> Reading:
        """All of it as it is now. On the loop's thread."""
        self.count_pending()
        return self.read_counted()

    def read_counted(self) -> Reading:
        """Likewise less what is pending. What requests write to is copied before it is walked: any thread may ask."""
        numbers: Numbers = {
            **_numbers_of(list(self.cells.items())),
            names.DEPARTURES.name: dict(self.departures),
        }
        for name, counted in ((names.ATTEMPTS.name, self.attempts), (names.OFFERS.name, self.refusals)):
            for labels, count in list(counted.items()):
                numbers[name][labels] = numbers[name].get(labels, 0) + count
        histograms = {
            metric.name: {labels: histogram.read() for labels, histogram in list(known.items())}
            for metric, known in self._histograms
        }
        histograms[names.CHUNK_GAP.name] = {labels: gaps.read() for labels, gaps in list(self.chunk_gaps.items())}
        histograms[names.OVERHEAD.name] = {(): self.overhead.read()}
        return Reading(numbers, histograms)

    def _cell(self, workload: str, model: str, operation: str, cloud: str, deployment: str, outcome: str) -> _Cell:
        workload, model, operation = workload or UNKNOWN, model or UNKNOWN, operation or UNKNOWN
        cloud = cloud or NO_CLOUD
        key = (workload, model, operation, cloud, deployment, outcome)
        if key not in self.cells:
            endpoint = deployment.partition("/")[0] or NO_CLOUD
            self.cells[key] = _Cell(
                (workload, model, operation, cloud, endpoint, outcome),
                _of(self.request, (workload, operation), names.REQUEST_DURATION),
                _of(self.first_byte, (workload, cloud), names.FIRST_BYTE),
                _of(self.first_token, (workload, model, cloud), names.FIRST_TOKEN),
                # Where nobody served nothing is observed, and a series without a deployment must not be told.
                _of(self.attempt_first_byte, (deployment,), names.ATTEMPT_FIRST_BYTE)
                if deployment
                else Histogram(names.ATTEMPT_FIRST_BYTE),
            )
        return self.cells[key]

    def _count_attempt(self, attempt: AttemptRecord) -> None:
        labels = (attempt.cloud, attempt.deployment, attempt.outcome)
        self.attempts[labels] = self.attempts.get(labels, 0) + 1
        where = (attempt.deployment,)
        if attempt.first_byte_ms:
            _of(self.attempt_first_byte, where, names.ATTEMPT_FIRST_BYTE).observe(attempt.first_byte_ms)
        if attempt.connect_ms:
            _of(self.connect, where, names.UPSTREAM_CONNECT).observe(attempt.connect_ms)
        if attempt.tls_ms:
            _of(self.tls, where, names.UPSTREAM_TLS).observe(attempt.tls_ms)

    def _count_refusals(self, record: RequestRecord) -> None:
        for offer in record.refusals:
            refused = (record.workload, offer.cloud, offer.outcome)
            self.refusals[refused] = self.refusals.get(refused, 0) + 1
        if record.left_holder:
            left = (record.workload, record.cloud or NO_CLOUD)
            self.departures[left] = self.departures.get(left, 0) + 1


def _exemplify(record: RequestRecord, cell: _Cell) -> None:
    """A request that is traced can be found by the bucket that it fell into."""
    for histogram, value_ms in (
        (cell.request, record.total_ms),
        (cell.first_byte, record.first_byte_ms),
        (cell.first_token, record.first_token_ms),
    ):
        if value_ms:
            histogram.exemplify(value_ms, record.trace_id, record.at)


def _of(histograms: dict[Labels, Histogram], labels: Labels, metric: Metric) -> Histogram:
    histogram = histograms.get(labels)
    if histogram is None:
        histogram = histograms[labels] = Histogram(metric)
    return histogram


def _numbers_of(cells: Iterable[tuple[_Key, _Cell]]) -> Numbers:
    """The counters that cells hold, each summed over what is not one of its labels: a millisecond for 1,500 cells."""
    requests: dict[Labels, Number] = {}
    attempts: dict[Labels, Number] = {}
    spent: dict[Labels, list[int]] = {}  # by workload, model and cloud: tokens by their kinds, and nano-dollars
    ends: dict[Labels, list[int]] = {}  # by workload and cloud: all, left by the client, broken off
    for (workload, model, _, cloud, deployment, outcome), cell in cells:
        requests[cell.labels] = requests.get(cell.labels, 0) + cell.count
        if cell.served:
            attempt = (cloud, deployment, "served")
            attempts[attempt] = attempts.get(attempt, 0) + cell.served
        sums = spent.setdefault((workload, model, cloud), [0, 0, 0, 0, 0])
        sums[0] += cell.prompt
        sums[1] += cell.completion
        sums[2] += cell.cached
        sums[3] += cell.reasoning
        sums[4] += cell.cost_nano_usd
        end = ends.setdefault((workload, cloud), [0, 0, 0])
        end[0] += cell.count
        if outcome == "client_gone":
            end[1] += cell.count
        elif outcome == "stream_broken":
            end[2] += cell.count
    gone: dict[Labels, Number] = {}
    for (workload, _), (_, left, _) in ends.items():
        gone[workload,] = gone.get((workload,), 0) + left
    return {
        names.REQUESTS.name: requests,
        names.ATTEMPTS.name: attempts,
        names.TOKENS.name: {
            (*labels, kind): count for labels, sums in spent.items() for kind, count in zip(_TOKENS, sums, strict=False)
        },
        names.COST.name: {labels: sums[4] / 1e9 for labels, sums in spent.items()},
        names.OFFERS.name: {
            (workload, cloud, ACCEPTED): end[0] for (workload, cloud), end in ends.items() if cloud != NO_CLOUD
        },
        names.CLIENT_DISCONNECTS.name: gone,
        names.TRUNCATED_STREAMS.name: {labels: end[2] for labels, end in ends.items()},
    }
