"""What lies between two readings: rates of counters, and percentiles of histograms."""

from bisect import bisect_left
from collections.abc import Callable, Sequence
from itertools import accumulate
from operator import itemgetter

from router.admin.picture import Spread
from router.telemetry.names import Metric
from router.telemetry.reading import Labels, Number, Reading


class Rates:
    """How much counters went up, a second."""

    def __init__(self, now: Reading, then: Reading, over_s: float) -> None:
        self._now, self._then, self.over_s = now.numbers, then.numbers, over_s
        self._risen: dict[str, list[tuple[Labels, Number]]] = {}

    def by(self, metric: Metric, *labels: str) -> dict[Labels, float]:
        """The sums for the values of these labels, of those that went up at all."""
        if metric.name not in self._risen:
            self._risen[metric.name] = self._differences(metric)
        key_of = _chosen(metric, labels)
        sums: dict[Labels, float] = {}
        for values, risen in self._risen[metric.name]:
            key = key_of(values)
            sums[key] = sums.get(key, 0.0) + risen
        return {key: total / self.over_s for key, total in sums.items()}

    def _differences(self, metric: Metric) -> list[tuple[Labels, Number]]:
        before = self._then.get(metric.name, {})
        rises = ((values, total - before.get(values, 0)) for values, total in self._now.get(metric.name, {}).items())
        return [rise for rise in rises if rise[1] > 0]  # a total falls where a process is gone: that is no rate


class Spreads:
    """Percentiles of what histograms went up by."""

    def __init__(self, now: Reading, then: Reading) -> None:
        self._now, self._then = now.histograms, then.histograms

    def by(self, metric: Metric, *labels: str, wanted: Callable[[Labels], bool] = bool) -> dict[Labels, Spread]:
        """Of all wanted observations with the same values of these labels. `wanted` is given all labels."""
        key_of = _chosen(metric, labels)
        before = self._then.get(metric.name, {})
        nothing = [0] * (len(metric.bounds) + 1)
        sums: dict[Labels, list[int]] = {}
        for values, buckets in self._now.get(metric.name, {}).items():
            old = before[values].counts if values in before else nothing
            if buckets.counts == old or not wanted(values):
                continue
            counts = sums.setdefault(key_of(values), nothing.copy())
            for index, (count, was) in enumerate(zip(buckets.counts, old, strict=True)):
                if count > was:
                    counts[index] += count - was
        return {
            key: Spread(quantile_ms(counts, metric.bounds, 0.5), quantile_ms(counts, metric.bounds, 0.99))
            for key, counts in sums.items()
        }


def _chosen(metric: Metric, labels: Sequence[str]) -> Callable[[Labels], Labels]:
    """What takes the values of these labels, in their order, out of all of a metric's."""
    places = [metric.labels.index(label) for label in labels]
    if len(places) > 1:
        return itemgetter(*places)
    return itemgetter(slice(places[0], places[0] + 1) if places else slice(0))


def quantile_ms(counts: Sequence[int], bounds_s: Sequence[float], share: float) -> float | None:
    """Milliseconds within which this share came, on a straight line inside its bucket; None where nothing came.

    Beyond the last bound nothing is known but that bound.
    """
    cumulated = list(accumulate(counts))
    if not cumulated[-1]:
        return None
    rank = share * cumulated[-1]
    index = bisect_left(cumulated, rank)
    if index == len(bounds_s):
        return bounds_s[-1] * 1000
    low, high = bounds_s[index - 1] if index else 0.0, bounds_s[index]
    inside = (rank - (cumulated[index] - counts[index])) / counts[index]
    return (low + (high - low) * inside) * 1000
