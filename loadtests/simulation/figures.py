"""What a run comes to: waits, throttles, and whether routers ran in a herd or swung back and forth."""

from dataclasses import asdict, dataclass
from statistics import fmean, quantiles

from loadtests.simulation.gateway import Books

WARM_UP_S = 5
LAGS = range(1, 11)


@dataclass(frozen=True, slots=True)
class Figures:
    """Of one balancer. Everything after the first seconds, in which nobody knows anything."""

    requests: int
    first_byte_p50_s: float
    first_byte_p95_s: float
    first_byte_p99_s: float
    throttled: int
    failed_sends: int
    retries: int
    cut: int
    unserved: int
    ejections: int
    peak_share: float  # sends to a deployment in a second over its ideal: the most of all deployments and seconds
    peak_in_flight: float  # likewise requests at a deployment over its slots
    dispersion: float  # variance over mean of a deployment's sends a second: 1 where each request is placed by itself
    autocorrelation: list[
        float
    ]  # of a deployment's sends a second with those 1 to 10 s later; far from 0 where it swings
    first_byte_p99_by_second: list[float]
    shares: dict[str, list[float]]  # of those with an event: sends over the ideal, by second

    def as_json(self) -> dict[str, object]:
        return asdict(self)


def figures(books: Books, slots: list[int], eventful: set[int]) -> Figures:
    """`eventful`: deployments that something was done to, which do not count for herds and swings."""
    seconds = len(books.sends[0])
    whole = sum(slots)
    totals = [sum(row[second] for row in books.sends) for second in range(seconds)]
    ideal = [[total * slot / whole for total in totals] for slot in slots]
    calm = [number for number in range(len(slots)) if number not in eventful]
    spans = range(min(WARM_UP_S, seconds - 1), seconds)
    settled = sorted(wait_s for arrived_at, wait_s in books.first_bytes if arrived_at >= spans.start)
    return Figures(
        requests=books.requests,
        first_byte_p50_s=_quantile(settled, 50),
        first_byte_p95_s=_quantile(settled, 95),
        first_byte_p99_s=_quantile(settled, 99),
        throttled=books.throttled,
        failed_sends=books.failed_sends,
        retries=books.retries,
        cut=books.cut,
        unserved=books.unserved,
        ejections=books.ejections,
        peak_share=max(books.sends[n][s] / ideal[n][s] for n in calm for s in spans if ideal[n][s]),
        peak_in_flight=max(row[n] / slots[n] for row in books.in_flight[spans.start :] for n in calm),
        dispersion=fmean(_dispersion([books.sends[n][s] for s in spans]) for n in calm),
        autocorrelation=[fmean(_correlated([books.sends[n][s] for s in spans], lag) for n in calm) for lag in LAGS],
        first_byte_p99_by_second=_p99_by_second(books.first_bytes, seconds),
        shares={
            str(n): [round(books.sends[n][s] / ideal[n][s], 3) if ideal[n][s] else 0.0 for s in range(seconds)]
            for n in sorted(eventful)
        },
    )


def _quantile(ordered: list[float], percent: int) -> float:
    return quantiles(ordered, n=100, method="inclusive")[percent - 1] if len(ordered) > 1 else 0.0


def _p99_by_second(first_bytes: list[tuple[float, float]], seconds: int) -> list[float]:
    """Of the requests that arrived in each second."""
    waits: list[list[float]] = [[] for _ in range(seconds)]
    for arrived_at, wait_s in first_bytes:
        waits[int(arrived_at)].append(wait_s)
    return [round(_quantile(sorted(each), 99), 4) for each in waits]


def _dispersion(counts: list[int]) -> float:
    mean = fmean(counts)
    return fmean((count - mean) ** 2 for count in counts) / mean if mean else 0.0


def _correlated(counts: list[int], lag: int) -> float:
    """The autocorrelation at `lag`; 0 where nothing varies or the series is too short."""
    mean = fmean(counts)
    around = [count - mean for count in counts]
    variance = sum(each * each for each in around)
    if not variance or len(counts) <= lag:
        return 0.0
    return sum(a * b for a, b in zip(around, around[lag:], strict=False)) / variance
