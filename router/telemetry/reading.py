"""All numbers of a process at one moment, as plain values: what goes between processes, and into the page."""

from collections.abc import Callable, Iterable
from operator import add
from typing import Final, TypeAlias

import msgspec

from router.telemetry.names import METRICS, PROCESS, Across, Kind

Labels: TypeAlias = tuple[str, ...]
"""Values, in the order of `Metric.labels`."""
Number: TypeAlias = int | float
Numbers: TypeAlias = dict[str, dict[Labels, Number]]
"""By the metric's name, then by labels."""


class Exemplar(msgspec.Struct, frozen=True, array_like=True, order=True):
    """One observation of a bucket that can be looked at whole. Later ones are greater."""

    at: float  # wall seconds
    value: float  # in the metric's unit
    trace_id: str


class Buckets(msgspec.Struct, frozen=True, array_like=True):
    """A histogram: counts per bucket, not cumulated, the last one beyond all bounds; the sum in the metric's unit."""

    counts: list[int]
    sum: float
    exemplars: dict[int, Exemplar] = msgspec.field(default_factory=dict)  # by bucket


class Reading(msgspec.Struct, frozen=True, array_like=True):
    """The numbers of one process, or of several. Has the same form in msgpack."""

    numbers: Numbers = msgspec.field(default_factory=dict)
    histograms: dict[str, dict[Labels, Buckets]] = msgspec.field(default_factory=dict)


_KINDS: Final = {metric.name: metric.kind for metric in (*METRICS, *PROCESS)}
_RULES: Final[dict[Across, Callable[[Number, Number], Number]]] = {Across.SUM: add, Across.MAX: max, Across.MIN: min}
_KNOWN: Final = {metric.name: metric for metric in (*METRICS, *PROCESS)}
_RULE_OF: Final = {metric.name: _RULES[metric.across] for metric in (*METRICS, *PROCESS)}


def merged(readings: Iterable[Reading]) -> Reading:
    """What the readings of several processes come to, by each metric's `across`. Raises KeyError for unknown names."""
    whole = Reading()
    for reading in readings:
        for name, series in reading.numbers.items():
            rule, total = _RULE_OF[name], whole.numbers.setdefault(name, {})
            for labels, value in series.items():
                total[labels] = rule(total[labels], value) if labels in total else value
        for name, histograms in reading.histograms.items():
            sums = whole.histograms.setdefault(name, {})
            for labels, buckets in histograms.items():
                sums[labels] = _added(sums[labels], buckets) if labels in sums else buckets
    return whole


def lasting(reading: Reading) -> Reading:
    """What stays true when its process has ended: its counters and histograms.

    Whoever adds up processes keeps this of each that ends. A total that fell by one process's part would look like
    a restart of all, after which everything that the others ever counted seems to have happened at once.
    """
    numbers = {name: series for name, series in reading.numbers.items() if _KINDS[name] is Kind.COUNTER}
    return Reading(numbers, reading.histograms)


def understood(reading: Reading) -> Reading:
    """Without what only another version of us can read: metrics that this one has not, or has otherwise."""
    numbers = {
        name: {labels: value for labels, value in series.items() if len(labels) == len(metric.labels)}
        for name, series in reading.numbers.items()
        if (metric := _KNOWN.get(name)) is not None
    }
    histograms = {
        name: {
            labels: buckets
            for labels, buckets in series.items()
            if len(labels) == len(metric.labels) and len(buckets.counts) == len(metric.bounds) + 1
        }
        for name, series in reading.histograms.items()
        if (metric := _KNOWN.get(name)) is not None
    }
    return Reading(numbers, histograms)


def _added(one: Buckets, other: Buckets) -> Buckets:
    exemplars = dict(one.exemplars)
    for bucket, exemplar in other.exemplars.items():
        known = exemplars.get(bucket)
        exemplars[bucket] = exemplar if known is None else max(known, exemplar)
    counts = [a + b for a, b in zip(one.counts, other.counts, strict=True)]
    return Buckets(counts, one.sum + other.sum, exemplars)
