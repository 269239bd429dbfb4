"""From rounds to figures: when a round counts, medians and ranges, and what is compared within a round."""

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeVar

GAUGE_MIN: Final = 6.0
GAUGE_MAX: Final = 12.0
STEAL_MAX: Final = 0.02
ATTEMPTS_PER_ROUND: Final = 3
BASELINE: Final = "nginx"
DIRECT: Final = "direct"  # past every proxy
SHARES: Final = (0.5, 0.75, 0.9, 0.95, 0.99, 0.995, 0.999, 1.0)  # of a curve of percentiles

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Sample:
    """One subject in one round. `value` is in the mode's unit; what a mode does not measure is left out."""

    value: float
    units: int  # requests, chunks or streams behind the value
    rate: float | None = None  # units a second
    p50_ms: float | None = None
    p99_ms: float | None = None
    more: Mapping[str, float] = field(default_factory=dict)  # further figures by name, with the unit in it
    curve: Sequence[tuple[float, float]] = ()  # what is drawn: (share, ms), or (requests a second, p99 ms)


@dataclass(frozen=True, slots=True)
class Round:
    """All subjects in turn, and what says whether they can be compared."""

    samples: Mapping[str, Sample]
    gauge: float  # CPU of a 1 KB request through naive aiohttp ÷ through nginx
    steal: float  # share of the machine's time that another guest had
    foreign: float = 0.0  # share that other programs here had: told, and no reason to be void

    @property
    def void(self) -> str:
        return void_reason(self.gauge, self.steal)


@dataclass(frozen=True, slots=True)
class Spread:
    """A figure over rounds."""

    median: float
    low: float
    high: float

    @staticmethod
    def of(values: Sequence[float]) -> "Spread":
        return Spread(statistics.median(values), min(values), max(values))


def void_reason(gauge: float, steal: float) -> str:
    """Why a round says nothing about the proxies; empty when it counts."""
    if not GAUGE_MIN <= gauge <= GAUGE_MAX:
        return f"naive aiohttp took {gauge:.1f} × nginx, outside {GAUGE_MIN:g} to {GAUGE_MAX:g}"
    if steal > STEAL_MAX:
        return f"steal was {steal:.1%}, over {STEAL_MAX:.0%}"
    return ""


def rotated(items: Sequence[T], by: int) -> list[T]:
    """The items in turn, beginning with another one each round."""
    start = by % len(items)
    return [*items[start:], *items[:start]]


def percentile(ordered: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` of the values do not exceed. `ordered` is sorted and not empty."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def percentiles(ordered_s: Sequence[float]) -> tuple[tuple[float, float], ...]:
    """(share, milliseconds) of sorted seconds, for a curve; empty when there are none."""
    return tuple((share, percentile(ordered_s, share) * 1e3) for share in SHARES) if ordered_s else ()


def values(rounds: Sequence[Round], subject: str, *, added: bool = False) -> list[float]:
    """The subject's figure of each round; `added`: less that of the direct way."""
    return [r.samples[subject].value - (r.samples[DIRECT].value if added else 0.0) for r in rounds]


def spreads(rounds: Sequence[Round], subjects: Sequence[str], *, added: bool = False) -> dict[str, Spread]:
    return {subject: Spread.of(values(rounds, subject, added=added)) for subject in subjects} if rounds else {}


def ratios(rounds: Sequence[Round], subjects: Sequence[str]) -> dict[str, Spread]:
    """Each subject ÷ the baseline in the same round; without end where the baseline's figure is 0."""
    return _compared(rounds, subjects, lambda own, base: own / base if base else math.inf)


def differences(rounds: Sequence[Round], subjects: Sequence[str]) -> dict[str, Spread]:
    """Each subject − the baseline in the same round, so it is one whether the direct way is subtracted or not."""
    return _compared(rounds, subjects, lambda own, base: own - base)


def _compared(
    rounds: Sequence[Round], subjects: Sequence[str], compare: Callable[[float, float], float]
) -> dict[str, Spread]:
    if not rounds or BASELINE not in subjects:
        return {}
    base = values(rounds, BASELINE)
    return {
        subject: Spread.of([compare(own, other) for own, other in zip(values(rounds, subject), base, strict=True)])
        for subject in subjects
        if subject != BASELINE
    }
