"""What lies between two readings: rates of counters, and percentiles of histograms."""

from collections.abc import Callable, Sequence
from itertools import accumulate

from router.admin.picture import Spread
from router.telemetry.names import Metric
from router.telemetry.reading import Labels, Reading


class Rates:
    """How much counters went up, a second."""

    def __init__(self, now: Reading, then: Reading, over_s: float) -> None:
        self._now, self._then, self.over_s = now.numbers, then.numbers, over_s

    def by(self, metric: Metric, *labels: str) -> dict[Labels, float]:
        """The sums for the values of these labels, of those that went up at all."""
        places = [metric.labels.index(label) for label in labels]
        before = self._then.get(metric.name, {})
        sums: dict[Labels, float] = {}
        for values, total in self._now.get(metric.name, {}).items():
            risen = total - before.get(values, 0)
            if risen > 0:  # a total falls where a process is gone: that is no rate
                key = tuple(values[place] for place in places)
                sums[key] = sums.get(key, 0.0) + risen / self.over_s
        return sums


class Spreads:
    """Percentiles of what histograms went up by."""

    def __init__(self, now: Reading, then: Reading) -> None:
        self._now, self._then = now.histograms, then.histograms

    def of(self, metric: Metric, wanted: Callable[[Labels], bool]) -> Spread:
        """Of all observations whose labels are wanted, together."""
        counts = [0] * (len(metric.bounds) + 1)
        before = self._then.get(metric.name, {})
        for values, buckets in self._now.get(metric.name, {}).items():
            if wanted(values):
                old = before[values].counts if values in before else [0] * len(counts)
                for index, (count, was) in enumerate(zip(buckets.counts, old, strict=True)):
                    counts[index] += max(0, count - was)
        return Spread(quantile_ms(counts, metric.bounds, 0.5), quantile_ms(counts, metric.bounds, 0.99))


def quantile_ms(counts: Sequence[int], bounds_s: Sequence[float], share: float) -> float | None:
    """Milliseconds within which this share came, on a straight line inside its bucket; None where nothing came.

    Beyond the last bound nothing is known but that bound.
    """
    cumulated = list(accumulate(counts))
    if not cumulated[-1]:
        return None
    rank = share * cumulated[-1]
    index = next(index for index, total in enumerate(cumulated) if total >= rank)
    if index == len(bounds_s):
        return bounds_s[-1] * 1000
    low, high = bounds_s[index - 1] if index else 0.0, bounds_s[index]
    inside = (rank - (cumulated[index] - counts[index])) / counts[index]
    return (low + (high - low) * inside) * 1000
